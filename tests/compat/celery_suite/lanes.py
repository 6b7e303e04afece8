"""The whole suite in one way, in parts: each with servers of its own, two at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from pathlib import Path

from tests.compat.celery_suite.exceptions import NOT_RUN
from tests.compat.celery_suite.source import FOLDER, environment, suite
from tests.compat.celery_suite.ways import Outcome, Way, place, run

_LANES = 2
CANVAS = "test_canvas.py"
TASKS = "test_tasks.py"
# The classes of the longest file that a process of their own is worth.
_LONG_CLASSES = ("test_chord", "test_chain", "test_group")

Unit = tuple[str, ...]


def canvas_and_tasks() -> list[Unit]:
    """The tests of canvases and of single tasks, as what is run in one process each, the longest first."""
    classes = re.findall(r"^class (test_\w+)", (suite() / FOLDER / CANVAS).read_text(), re.MULTILINE)
    assert set(_LONG_CLASSES) <= set(classes), classes
    others = tuple(f"{CANVAS}::{name}" for name in classes if name not in _LONG_CLASSES)
    return [*((f"{CANVAS}::{name}",) for name in _LONG_CLASSES), (TASKS,), others]


def everything() -> list[Unit]:
    """All of the suite that can be run here."""
    found = {path.name for path in (suite() / FOLDER).glob("test_*.py")} - set(NOT_RUN) - {CANVAS, TASKS}
    # Some modules are named like tests and hold settings.
    rest = sorted(name for name in found if "def test_" in (suite() / FOLDER / name).read_text())
    return [*canvas_and_tasks(), *((name,) for name in rest)]


def run_units(
    way: Way,
    broker: str,
    units: Sequence[Unit],
    folder: Path,
    *,
    table: Mapping[str, str] | None = None,
    new_registry: Callable[[], str] | None = None,
) -> dict[str, Outcome]:
    """What became of each test of these units.

    Args:
        way: see `Way`.
        broker: `valkey` or `rabbitmq`.
        units: what is run, a process and servers for each.
        folder: for logs.
        table: exceptions of the way, tried once each.
        new_registry: makes an empty database for each unit, in the managed way.
    """
    python = environment()

    def one(number: int, unit: Unit) -> dict[str, Outcome]:
        own = folder / f"{way}-{broker}-{number}"
        own.mkdir(parents=True)
        registry = new_registry() if new_registry is not None else None
        with place(way, broker, own, registry) as where:
            return run(way, unit, where, own / "pytest.log", python=python, expected=tuple(table or ()))

    with ThreadPoolExecutor(_LANES) as lanes:
        return {name: found for part in lanes.map(one, count(), units) for name, found in part.items()}


@cache
def baseline(broker: str, folder: Path) -> dict[str, Outcome]:
    """The suite without Headway; once in a run of the tests."""
    return run_units(Way.PLAIN, broker, everything(), folder)
