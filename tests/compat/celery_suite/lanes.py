"""All files of the suite in one way: each with servers of its own, two at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from tests.compat.celery_suite.exceptions import NOT_RUN
from tests.compat.celery_suite.source import FOLDER, environment, suite
from tests.compat.celery_suite.ways import Outcome, Way, place, run

_LANES = 2
# Files that take longest are begun first.
_LONG = ("test_canvas.py", "test_tasks.py")


def files() -> list[str]:
    """The files of the suite that can be run here, the longest first."""
    found = {path.name for path in (suite() / FOLDER).glob("test_*.py")} - set(NOT_RUN)
    # Two modules are named like tests and hold settings.
    found = {name for name in found if "def test_" in (suite() / FOLDER / name).read_text()}
    return [*_LONG, *sorted(found - set(_LONG))]


def run_files(
    way: Way,
    broker: str,
    names: Iterable[str],
    folder: Path,
    *,
    table: Mapping[str, str] | None = None,
    new_registry: Callable[[], str] | None = None,
) -> dict[str, Outcome]:
    """What became of each test of these files.

    Args:
        way: see `Way`.
        broker: `valkey` or `rabbitmq`.
        names: the files.
        folder: for logs.
        table: exceptions of the way, tried once each.
        new_registry: makes an empty database for each file, in the managed way.
    """
    python = environment()

    def one(name: str) -> dict[str, Outcome]:
        own = folder / f"{way}-{broker}-{name}"
        own.mkdir(parents=True)
        registry = new_registry() if new_registry is not None else None
        with place(way, broker, own, registry) as where:
            return run(way, [name], where, own / "pytest.log", python=python, expected=tuple(table or ()))

    with ThreadPoolExecutor(_LANES) as lanes:
        return {name: found for part in lanes.map(one, names) for name, found in part.items()}


@cache
def baseline(broker: str, folder: Path) -> dict[str, Outcome]:
    """The suite without Headway; once in a run of the tests."""
    return run_files(Way.PLAIN, broker, files(), folder)
