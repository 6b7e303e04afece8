"""What is broken on purpose while managed workers run jobs: nothing accepted is lost, nothing is recorded twice.

One cluster for the file: each test breaks it in its way while its jobs run, and mends it. `make faults` runs the long
form, of 2,000 jobs and more for each.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from headway.bootstrap.managed import attach
from headway.client import Client
from headway.config import Settings
from headway.engine.celery.courier import CeleryCourier
from headway.model.commands import SubmitJob
from headway.store.postgres import open_postgres
from headway.store.signals import LocalSignal
from headway.system import SystemClock
from headway.testing import check_invariants
from tests.faults.proof import examine
from tests.managed.cluster import Managed, Part
from tests.servers.own import running_valkey
from tests.servers.postgres import PostgresServer, find_binaries
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.shares_processes]

WORK = "tests.managed.app.work"
_LIVE = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"


class Yard:
    """A cluster of one service and two workers, with what it stands on."""

    def __init__(self, cluster: Managed, postgres: PostgresServer, valkey: ValkeyServer, jobs: int) -> None:
        self.cluster = cluster
        self.postgres = postgres
        self.valkey = valkey
        self.jobs = jobs
        self.service = cluster.service()
        self.workers = [cluster.worker("-c", "2", name=f"w{number}") for number in (1, 2)]
        self.accepted: list[str] = []

    def mend(self) -> None:
        """Start what does not run."""
        for part in (self.service, *self.workers):
            if part._process is None or part.main.poll() is not None:
                part.spawn()
        for part in (self.service, *self.workers):
            part.ready()
        # A pool notices after up to five seconds that a child died which had only begun to live.
        for worker in self.workers:
            wait_until(lambda worker=worker: _living(worker) >= 2, what="a whole pool", seconds=20)  # type: ignore[misc]

    def submit(self, seconds: float = 0.0, count: int | None = None) -> list[str]:
        """Accept jobs, by the API."""
        commands = [SubmitJob(WORK, [seconds]) for _ in range(count or self.jobs)]
        with self.client() as client:
            ids = [
                job_id
                for start in range(0, len(commands), 500)
                for job_id in client.submit_batch(commands[start : start + 500])
            ]
        self.accepted += ids
        return ids

    def client(self) -> Client:
        """A client of the service."""
        return self.service.client()

    def live(self) -> int:
        """How many jobs have not ended; asked of the database itself."""
        with psycopg.connect(self.cluster.registry, autocommit=True) as connection:
            row = connection.execute(_LIVE).fetchone()
        return int(row[0]) if row else 0

    def running(self) -> int:
        """How many jobs run."""
        with psycopg.connect(self.cluster.registry, autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM jobs WHERE state = 'running'").fetchone()
        return int(row[0]) if row else 0

    def until_ended(self, seconds: float) -> None:
        """Wait until every job has ended."""
        wait_until(lambda: self.live() == 0, what="every job to end", seconds=seconds)

    def proves(self, what: str) -> None:
        """Fail unless records and effects fit together."""
        url = self.cluster.registry.replace("postgresql://", "postgresql+psycopg://")
        wait_until(self._numbered, what="the events to be numbered", seconds=30)
        proof = examine(url, self.cluster.effects, accepted=self.accepted, several_owners=True)
        store = open_postgres(self.cluster.registry, clock=SystemClock(), signal=LocalSignal())
        try:
            counted = check_invariants(store)
        finally:
            store.close()
        print(f"{what}: {proof}\n{counted}")
        proof.holds()

    def _numbered(self) -> bool:
        with psycopg.connect(self.cluster.registry, autocommit=True) as connection:
            row = connection.execute("SELECT count(*) FROM events WHERE pos IS NULL").fetchone()
        return row == (0,)

    def close(self) -> None:
        """End everything."""
        family = [process for part in (*self.workers, self.service) for process in part.processes()]
        for part in (*self.workers, self.service):
            part.kill()
        assert not [process for process in family if process.is_running()], "something outlived its cluster"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Yard]:
    """The cluster of this file."""
    long = int(request.config.getoption("--fault-rounds")) > 10
    binaries = find_binaries()
    assert binaries is not None
    postgres = PostgresServer(binaries)
    folder = tmp_path_factory.mktemp("managed")
    try:
        postgres.start()
        with running_valkey() as valkey:
            cluster = Managed(folder, postgres.create_database(), f"{valkey.url}", {"MANAGED_VISIBILITY": "2"})
            made = Yard(cluster, postgres, valkey, 2000 if long else 80)
            try:
                yield made
            finally:
                made.close()
    finally:
        postgres.remove()


@pytest.fixture(autouse=True)
def _whole(yard: Yard) -> None:
    """Everything runs when a test begins."""
    yard.mend()


def _living(worker: Part) -> int:
    return sum(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in worker.children())


def _ended_in(yard: Yard) -> float:
    return 60.0 + yard.jobs * 0.05


def _while_jobs_run(yard: Yard, break_it: Callable[[int], None], *, times: int, seconds: float = 0.02) -> None:
    """Submit, break it so many times in the course of the work, wait for the end."""
    yard.submit(seconds)
    for turn in range(times):
        goal = yard.jobs * (times - turn) // (times + 1)
        wait_until(lambda goal=goal: yard.live() <= goal, what="jobs to end", seconds=_ended_in(yard))  # type: ignore[misc]
        if yard.live() == 0:
            break
        break_it(turn)
    yard.until_ended(_ended_in(yard))


def test_children_are_killed(yard: Yard) -> None:
    def kill(turn: int) -> None:
        for worker in yard.workers:
            children = worker.children()
            if children:
                children[turn % len(children)].kill()

    _while_jobs_run(yard, kill, times=5 if yard.jobs < 1000 else 20)
    yard.proves("children killed")


def test_a_worker_is_killed_and_its_jobs_run_again_within_15_seconds(yard: Yard) -> None:
    ids = yard.submit(1.0, count=8)
    wait_until(lambda: yard.running() >= 4, what="jobs to run", seconds=20)
    began = time.monotonic()
    yard.workers[0].kill()
    yard.until_ended(15)
    assert time.monotonic() - began < 15
    assert len(ids) == 8
    yard.mend()

    def kill(turn: int) -> None:
        yard.workers[turn % 2].kill()
        yard.mend()

    _while_jobs_run(yard, kill, times=1 if yard.jobs < 1000 else 6)
    yard.proves("workers killed")


def test_the_service_is_killed(yard: Yard) -> None:
    """API, relay, sequencer and due loop are one process under a supervisor."""

    def kill(_: int) -> None:
        # The service process: the supervisor starts another. Then all of it.
        for child in yard.service.children():
            child.kill()

    _while_jobs_run(yard, kill, times=2 if yard.jobs < 1000 else 8)
    yard.proves("service killed")


def test_every_message_is_delivered_twice(yard: Yard) -> None:
    """A relay that sends everything again, whatever was sent: duplicates are refused and acknowledged."""
    from tests.managed.app import app

    app.conf.update(broker_url=yard.cluster.broker)
    attach(app, Settings(job_registry_path=yard.cluster.registry, job_backend="celery"))
    yard.submit(0.01)
    store = open_postgres(yard.cluster.registry, clock=SystemClock(), signal=LocalSignal(), delivers=True)
    courier = CeleryCourier(app)
    try:
        for _ in range(3):
            with psycopg.connect(yard.cluster.registry, autocommit=True) as connection:
                connection.execute("UPDATE deliveries SET due_at = 0, taken_at = NULL WHERE sent_at IS NOT NULL")
            while taken := store.write(lambda tx: tx.deliveries.take(500, 0)):
                assert courier.send(taken) == len(taken)
                store.write(lambda tx, ids=tuple(one.job_id for one in taken): tx.deliveries.sent(ids))  # type: ignore[misc]
    finally:
        courier.close()
        store.close()
    yard.until_ended(_ended_in(yard))
    yard.proves("messages twice")


def test_a_visibility_timeout_below_the_jobs_length(yard: Yard) -> None:
    """The broker gives messages of running jobs to other workers: they are refused, and the job runs once."""
    ids = yard.submit(3.0, count=4 if yard.jobs < 1000 else 40)
    yard.submit(0.0)
    yard.until_ended(_ended_in(yard) + 60)
    with yard.client() as client:
        assert all(len(client.attempts(job_id)) == 1 for job_id in ids)
    yard.proves("visibility timeout 2 s, jobs of 3 s")


def test_a_worker_is_frozen_past_its_lease(yard: Yard) -> None:
    """Its jobs are run by another; when it wakes, its finishes are refused."""

    def freeze(turn: int) -> None:
        family = yard.workers[turn % 2].processes()
        for process in family:
            process.suspend()
        # Three leases and more.
        time.sleep(5)
        for process in family:
            process.resume()

    _while_jobs_run(yard, freeze, times=1 if yard.jobs < 1000 else 4, seconds=0.1)
    yard.proves("worker frozen past its lease")


def test_postgres_is_restarted(yard: Yard) -> None:
    def restart(turn: int) -> None:
        yard.postgres.stop(signal.SIGQUIT if turn % 2 else signal.SIGINT)
        yard.postgres.start()

    _while_jobs_run(yard, restart, times=1 if yard.jobs < 1000 else 5)
    yard.proves("Postgres restarted")


def test_the_broker_is_away_and_submits_go_on(yard: Yard) -> None:
    """Thirty seconds in the long form."""
    seconds = 3.0 if yard.jobs < 1000 else 30.0
    yard.submit(0.02)
    yard.valkey.stop()
    began = time.monotonic()
    accepted = 0
    while time.monotonic() - began < seconds:
        accepted += len(yard.submit(0.0, count=5))
        time.sleep(0.2)
    assert accepted > 0
    yard.valkey.start()
    yard.until_ended(_ended_in(yard) + 60)
    yard.proves(f"broker away for {seconds:g} s, {accepted} jobs accepted meanwhile")


def test_the_broker_forgets_a_backlog(yard: Yard) -> None:
    """FLUSHALL with jobs waiting: they are sent again, as many as are missing."""
    yard.submit(0.05)
    wait_until(lambda: yard.live() < yard.jobs, what="the first to end", seconds=30)
    yard.valkey.ask("FLUSHALL")
    yard.until_ended(_ended_in(yard) + 60)
    yard.proves("broker flushed with a backlog")


def test_a_dead_worker_had_prefetched(yard: Yard) -> None:
    """Killed with messages that it had taken and not begun: they are not waited for until a visibility timeout."""
    yard.submit(0.3, count=12)
    wait_until(lambda: yard.running() >= 4, what="jobs to run", seconds=20)
    yard.workers[1].kill()
    yard.until_ended(40)
    yard.proves("dead worker had prefetched")


def test_nothing_of_it_is_left(yard: Yard) -> None:
    """At the end the workers live, nothing waits, and no delivery lies about."""
    with psycopg.connect(yard.cluster.registry, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM deliveries").fetchone() == (0,)
    for worker in yard.workers:
        assert all(child.status() != psutil.STATUS_ZOMBIE for child in worker.children())
    assert Path(yard.cluster.effects).exists()
