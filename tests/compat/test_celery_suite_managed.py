"""Celery's own integration suite with Headway attached: workers of the suite, registry on Postgres, a service beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.celery_suite.comparison import compare
from tests.compat.celery_suite.exceptions import MANAGED
from tests.compat.celery_suite.lanes import baseline, everything, run_units
from tests.compat.celery_suite.ways import Way, place, run
from tests.compat.test_celery_suite import NAMED, logs
from tests.servers.postgres import ExternalPostgres, PostgresServer, drop_database

__all__ = ["logs"]


@pytest.fixture
def new_registry(postgres_server: PostgresServer | ExternalPostgres) -> Iterator[Callable[[], str]]:
    """Makes an empty database at each call."""
    made: list[str] = []

    def make() -> str:
        made.append(postgres_server.create_database())
        return made[-1]

    yield make
    for url in made:
        drop_database(url)


def test_named_part_attached(tmp_path: Path, postgres_url: str) -> None:
    with place(Way.MANAGED, "valkey", tmp_path, postgres_url) as where:
        found = run(Way.MANAGED, NAMED, where, tmp_path / "pytest.log", seconds=90)
    assert {name: found[name].text for name in found if not found[name].passed} == {}
    assert set(found) == set(NAMED)


@pytest.mark.compat
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_suite_attached(
    logs: Path, new_registry: Callable[[], str], capsys: pytest.CaptureFixture[str], broker: str
) -> None:
    plain = baseline(broker, logs)
    found = run_units(Way.MANAGED, broker, everything(), logs, table=MANAGED, new_registry=new_registry)
    compared = compare(plain, found, MANAGED)
    with capsys.disabled():
        print(f"\n{compared.report(f'managed on {broker}')}")
    assert not compared.broken
    assert not compared.stale
