"""A crash between every two writes of a job's way: child and relay, each again and again until all jobs have ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from headway.model.commands import SubmitJob
from headway.store.postgres import open_postgres
from headway.store.signals import LocalSignal
from headway.system import SystemClock
from headway.testing import check_invariants
from tests.faults.proof import examine
from tests.managed.cluster import Managed
from tests.managed.crashes import POINTS
from tests.servers.own import running_valkey
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.shares_processes]


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    """One broker for the file."""
    with running_valkey() as server:
        yield server


def _some(points: list[str], *, rounds: int) -> list[str]:
    # CI takes one of each process; the long form all.
    return points if rounds > 10 else [points[2], points[5]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each point."""
    if "point" in metafunc.fixturenames:
        rounds = int(metafunc.config.getoption("--fault-rounds"))
        metafunc.parametrize("point", _some(list(POINTS), rounds=rounds))


def test_a_crash_at(point: str, valkey: ValkeyServer, postgres_url: str, tmp_path: Path, fault_rounds: int) -> None:
    count = 2000 if fault_rounds > 10 else 60
    # A service is started anew by its supervisor, which takes seconds; a child is at once.
    every = {"child": 12, "relay": 2}[point.partition(":")[0]]
    valkey.ask("FLUSHALL")
    settings = {"CRASH_POINT": point, "CRASH_EVERY": str(every), "HEADWAY_MAX_RESCUES": "50"}
    cluster = Managed(tmp_path, postgres_url, f"{valkey.url}", settings)
    plain = Managed(tmp_path, postgres_url, f"{valkey.url}", {"HEADWAY_MAX_RESCUES": "50"})
    in_relay = point.startswith("relay")
    with (
        (cluster if in_relay else plain).service() as service,
        (plain if in_relay else cluster).worker("-c", "2", name="crashing"),
    ):
        with service.client() as client:
            commands = [SubmitJob("tests.managed.app.work", [0.0]) for _ in range(count)]
            ids = [
                job_id for start in range(0, count, 50) for job_id in client.submit_batch(commands[start : start + 50])
            ]

        def ended() -> bool:
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                live = connection.execute("SELECT count(*) FROM jobs WHERE finished_at IS NULL").fetchone()
                unnumbered = connection.execute("SELECT count(*) FROM events WHERE pos IS NULL").fetchone()
            return (live, unnumbered) == ((0,), (0,))

        wait_until(ended, what="every job to end", seconds=60 + count * 0.3, every=0.1)
    proof = examine(
        postgres_url.replace("postgresql://", "postgresql+psycopg://"),
        cluster.effects,
        accepted=ids,
        several_owners=True,
    )
    store = open_postgres(postgres_url, clock=SystemClock(), signal=LocalSignal())
    try:
        counted = check_invariants(store)
    finally:
        store.close()
    print(f"{point}: {proof}\n{counted}")
    proof.holds()
    if point in ("child: begun, not run", "child: run, not finished"):
        assert proof.outcomes["abandoned"] > 0, "nothing crashed"
