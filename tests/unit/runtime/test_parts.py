"""Loops survive errors; due, rescuer and pruner act when they should."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headway.model.commands import BeatReport, Finish, ListJobs, SubmitJob
from headway.model.errors import StoreUnavailable
from headway.model.states import AttemptOutcome, JobState
from headway.runtime.due import NET_SECONDS, DuePart
from headway.runtime.loop import Loop, UnbrokenConnection
from headway.runtime.numbering import NumberingPart
from headway.runtime.pruner import PrunerPart
from headway.runtime.rescuer import RescuerPart
from headway.service import Limits, StoreJobDoor, cancel_job, feed_bounds, get_job, list_jobs, submit_batch
from headway.store.postgres import open_postgres, postgres_engine
from headway.store.schema import upgrade_schema
from headway.store.signals import LocalSignal
from headway.system import SystemClock
from headway.testing import FakeClock, SeqIds, check_invariants
from tests.unit.store.house import House, open_house
from tests.waiting import wait_until

FACTS = {"host": "h", "pid": 1, "slots": 1, "version": "0"}
LEASE = 10.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(tmp_path: Path, clock: FakeClock) -> Iterator[House]:
    made = open_house(tmp_path, clock=clock, ids=SeqIds(), limits=Limits(job_retention_seconds=100.0))
    made.store.write(lambda tx: tx.register_worker("w", FACTS))
    yield made
    made.store.close()


@pytest.fixture
def door(house: House) -> StoreJobDoor:
    return StoreJobDoor(house.ctx, "w")


class Counting:
    """A part that fails as often as it is told to."""

    name = "counting"

    def __init__(self, failures: list[Exception], topic: str | None) -> None:
        self.topic = topic
        self.rest_seconds = 0.0
        self.failures = failures
        self.calls = 0
        self.called = threading.Event()

    def run_once(self) -> float:
        self.calls += 1
        self.called.set()
        if self.failures:
            raise self.failures.pop(0)
        return 3600.0


# Loop


def test_a_loop_survives_errors_and_says_so() -> None:
    part = Counting([StoreUnavailable("the database is away"), LookupError("a bug"), StoreUnavailable("again")], None)
    loop = Loop(part, LocalSignal(), retry_seconds=0.005)
    loop.start()
    wait_until(lambda: loop.status().runs == 1, what="a good run")
    assert part.calls == 4
    assert loop.status().error is None
    loop.stop()


def test_a_loop_that_fails_shows_its_error() -> None:
    part = Counting([StoreUnavailable("the database is away")], "t")
    loop = Loop(part, LocalSignal(), retry_seconds=3600.0)
    loop.start()
    wait_until(lambda: loop.status().error, what="the error")
    assert loop.status() == type(loop.status())("counting", 0, "the database is away")
    loop.stop()


def test_a_loop_is_woken_by_its_topic_and_ends_at_once() -> None:
    signal = LocalSignal()
    part = Counting([], "t")
    loop = Loop(part, signal)
    loop.start()
    for calls in (2, 3):
        wait_until(lambda: loop.status().runs == calls - 1, what="a run")  # noqa: B023
        part.called.clear()
        signal.notify("t")
        assert part.called.wait(10)
    loop.stop(10)
    assert not loop._thread.is_alive()


# Due


def test_due_wakes_at_the_next_instant(house: House, clock: FakeClock) -> None:
    part = DuePart(house.ctx)
    assert part.run_once() == NET_SECONDS
    job = house.submit(run_at=clock.now() + 300_000)
    assert part.run_once() == pytest.approx(0.3)
    clock.advance(0.2)
    assert part.run_once() == pytest.approx(0.1)
    assert get_job(house.ctx, job.id).state is JobState.SCHEDULED
    clock.advance(0.1)
    assert part.run_once() == NET_SECONDS
    assert get_job(house.ctx, job.id).state is JobState.QUEUED


def test_due_wakes_the_workers_and_ends_what_expired(house: House, clock: FakeClock, door: StoreJobDoor) -> None:
    part = DuePart(house.ctx)
    job = house.submit(run_at=clock.now() + 1_000_000)
    late = house.submit(expires_at=clock.now() + 1_000_000)
    begun = door.begin(5)
    assert [one.job_id for one in begun] == [late.id]
    door.finish(Finish(late.id, 1, AttemptOutcome.INTERRUPTED, begun=begun[0]))
    clock.advance(2)
    ticket = house.signal.ticket("work")
    part.run_once()
    assert house.signal.wait("work", ticket, 0)
    ended = get_job(house.ctx, late.id)
    assert ended.state is JobState.CANCELLED
    assert ended.error is not None
    assert ended.error.code == "expired"
    assert [one.job_id for one in door.begin(5)] == [job.id]


def test_a_wall_clock_that_is_set_back_or_on(house: House, clock: FakeClock) -> None:
    part = DuePart(house.ctx)
    job = house.submit(run_at=clock.now() + 60_000_000)
    clock.jump(-3600)
    assert part.run_once() == NET_SECONDS
    assert get_job(house.ctx, job.id).state is JobState.SCHEDULED
    clock.jump(3661)
    part.run_once()
    assert get_job(house.ctx, job.id).state is JobState.QUEUED


# Rescuer


def beating(door: StoreJobDoor, *reports: BeatReport) -> Callable[[], None]:
    """What renews a worker's leases."""

    def renew() -> None:
        door.beat(reports)

    return renew


def rescuer(house: House, renewed: list[float], clock: FakeClock) -> RescuerPart:
    return RescuerPart(house.ctx, LEASE, lambda: renewed.append(clock.monotonic()))


def test_the_rescuer_waits_a_lease_after_its_first_answer(house: House, clock: FakeClock, door: StoreJobDoor) -> None:
    job = house.submit()
    door.begin(1)
    clock.advance(3600)  # a database that was away, a laptop that slept
    renewed: list[float] = []
    part = rescuer(house, renewed, clock)
    for _ in range(4):
        assert part.run_once() == LEASE / 4
        assert get_job(house.ctx, job.id).state is JobState.RUNNING
        assert renewed == []
        clock.advance(LEASE / 4)
    part.run_once()
    assert renewed == [clock.monotonic()]
    assert get_job(house.ctx, job.id).state is JobState.QUEUED
    check_invariants(house.store)


def test_its_own_workers_are_renewed_first(house: House, clock: FakeClock, door: StoreJobDoor) -> None:
    job = house.submit()
    door.begin(1)
    part = RescuerPart(house.ctx, LEASE, beating(door, BeatReport(job.id, 1)))
    for _ in range(20):
        part.run_once()
        clock.advance(LEASE / 2)
    assert get_job(house.ctx, job.id).state is JobState.RUNNING


def test_a_break_starts_the_waiting_anew(house: House, clock: FakeClock, door: StoreJobDoor) -> None:
    job = house.submit()
    door.begin(1)
    broken = True

    def renew() -> None:
        if broken:
            raise StoreUnavailable("away")

    part = RescuerPart(house.ctx, LEASE, renew)
    part.run_once()
    clock.advance(2 * LEASE)
    with pytest.raises(StoreUnavailable):
        part.run_once()
    broken = False
    part.run_once()
    assert get_job(house.ctx, job.id).state is JobState.RUNNING
    clock.advance(LEASE)
    part.run_once()
    assert get_job(house.ctx, job.id).state is JobState.QUEUED


def test_unbroken_is_counted_from_the_first_answer() -> None:
    clock, away = FakeClock(), [False]

    def ping() -> float:
        if away[0]:
            raise StoreUnavailable("away")
        return 0.0

    connection = UnbrokenConnection(ping, clock.monotonic)
    assert connection.seconds() == 0.0
    clock.advance(3)
    assert connection.seconds() == 3.0
    away[0] = True
    with pytest.raises(StoreUnavailable):
        connection.seconds()
    away[0] = False
    clock.advance(5)
    assert connection.seconds() == 0.0
    clock.advance(1)
    assert connection.seconds() == 1.0
    connection.broke()
    assert connection.seconds() == 0.0


def test_a_silent_worker_loses_what_it_holds_and_a_living_one_does_not(
    house: House, clock: FakeClock, door: StoreJobDoor
) -> None:
    job = house.submit(max_retries=1)
    (begun,) = door.begin(1)
    door.finish(Finish(job.id, 1, AttemptOutcome.TIMEOUT, held=True, begun=begun))
    living = RescuerPart(house.ctx, LEASE, beating(door))
    due = DuePart(house.ctx)
    for _ in range(10):
        living.run_once()
        due.run_once()
        clock.advance(LEASE / 2)
    assert door.begin(1) == []
    other = RescuerPart(house.ctx, LEASE, lambda: None)
    other.run_once()
    clock.advance(LEASE + 1)
    other.run_once()
    assert len(door.begin(1)) == 1


# Pruner and sequencer


def test_the_pruner_sweeps_at_most_once_a_minute(house: House, clock: FakeClock) -> None:
    swept: list[float] = []
    part = PrunerPart(house.ctx, [lambda: swept.append(clock.monotonic())])
    cancel_job(house.ctx, house.submit().id)
    assert part.run_once() == 3600.0
    clock.advance(10)
    assert part.run_once() == pytest.approx(50.0)
    clock.advance(50)
    part.run_once()
    assert swept == [0.0, 60.0]
    assert house.store.read(lambda r: r.counts()) is not None
    clock.advance(100)
    job = house.submit()
    part.run_once()
    assert [one.id for one in list_jobs(house.ctx, ListJobs()).items] == [job.id]
    assert feed_bounds(house.ctx)[0] == 2


@pytest.mark.postgres
def test_the_sequencer_works_until_nothing_is_left(house: House, postgres_url: str) -> None:
    engine = postgres_engine(postgres_url, read_only=False)
    upgrade_schema(engine)
    engine.dispose()
    store = open_postgres(postgres_url, clock=SystemClock(), signal=LocalSignal())
    try:
        part = NumberingPart(store)
        assert part.run_once() == 0.5
        ctx = replace(house.ctx, services=replace(house.services, store=store))
        submit_batch(ctx, [SubmitJob("app.task") for _ in range(7_000)])
        # A batch of the sequencer is 5,000 events.
        assert [part.run_once() for _ in range(3)] == [0.02, 0.02, 0.5]
        assert feed_bounds(ctx) == (0, 7_000)
        positions = [event.pos for event in store.read(lambda r: r.events(0, 10_000))]
        assert positions == list(range(1, 7_001))
    finally:
        store.close()
