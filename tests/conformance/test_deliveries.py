"""Deliveries follow the state of their jobs, whatever verb moved them; pause, begin of one job, end of one job."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headway.model.actor import Actor, Role
from headway.model.commands import BeatReport, Begun, Finish, SubmitJob
from headway.model.states import AttemptOutcome, JobState
from headway.ports.deliveries import Delivery
from headway.service import (
    Context,
    Limits,
    Services,
    StoreJobDoor,
    cancel_job,
    purge_queue,
    rescue_lapsed,
    submit_batch,
    submit_job,
)
from headway.service.upkeep import enqueue_due, register_worker, retire_worker
from headway.store.blobs import FileBlobs
from headway.store.sqlstore import SqlStore
from tests.conformance.conftest import FACTS, Database

WORKER = "w1"


class Yard:
    """A store that delivers, with a door of one worker."""

    def __init__(self, database: Database) -> None:
        from headway.engine.codec import KombuCodec
        from headway.store.signals import LocalSignal
        from headway.system import SystemClock, SystemIds

        self.store: SqlStore = database.open(delivers=True)
        clock, ids = SystemClock(), SystemIds()
        self.services = Services(
            self.store, FileBlobs(database.folder / "blobs", ids), LocalSignal(), clock, ids, KombuCodec(),
            limits=Limits(max_rescues=1),
        )  # fmt: skip
        self.ctx = Context(self.services, Actor("key:test", Role.ADMIN))
        register_worker(self.ctx, WORKER, FACTS)
        self.door = StoreJobDoor(self.ctx, WORKER)

    def submit(self, **fields: object) -> str:
        return submit_job(self.ctx, SubmitJob("app.task", **fields)).id  # type: ignore[arg-type]

    def take(self, limit: int = 100, taken_before: int = 0) -> list[Delivery]:
        return self.store.write(lambda tx: tx.deliveries.take(limit, taken_before))

    def sent(self, taken: list[Delivery]) -> None:
        self.store.write(lambda tx: tx.deliveries.sent([one.job_id for one in taken]))

    def begin(self, job_id: str) -> Begun | None:
        return self.store.begin_job(WORKER, job_id, "worker:w1")

    def state(self, job_id: str) -> JobState:
        job = self.store.read(lambda reader: reader.get(job_id))
        assert job is not None
        return job.state

    def rows(self) -> int:
        found = self.store.read(lambda reader: reader.deliveries.outstanding())
        return sum(one.sent + one.unsent for one in found.values())


@pytest.fixture
def yard(database: Database) -> Yard:
    return Yard(database)


def test_a_submitted_job_is_delivered_until_it_begins(yard: Yard) -> None:
    job_id = yard.submit(args=[1], queue="q", priority=3)
    (delivery,) = yard.take()
    assert (delivery.job_id, delivery.task, delivery.args_json, delivery.queue) == (job_id, "app.task", "[1]", "q")
    assert delivery.sends == 0
    assert yard.take() == [], "it is taken"
    yard.sent([delivery])
    found = yard.store.read(lambda reader: reader.deliveries.outstanding())
    assert (found["q"].sent, found["q"].unsent) == (1, 0)
    begun = yard.begin(job_id)
    assert begun is not None
    assert (begun.fence, begun.attempt, begun.args_json) == (1, 1, "[1]")
    assert yard.rows() == 0
    assert yard.begin(job_id) is None, "a duplicate delivery begins nothing"


def test_one_that_was_taken_and_never_sent_is_given_again(yard: Yard) -> None:
    yard.submit()
    assert len(yard.take()) == 1
    assert yard.take() == []
    later = yard.store.read(lambda reader: reader.now()) + 1
    assert len(yard.take(taken_before=later)) == 1


def test_the_most_urgent_come_first(yard: Yard) -> None:
    low, high, middle = (yard.submit(priority=priority) for priority in (0, 9, 5))
    assert [one.job_id for one in yard.take(2)] == [high, middle]
    assert [one.job_id for one in yard.take(2)] == [low]


@pytest.mark.parametrize("sent", [False, True])
def test_what_is_cancelled_is_not_delivered(yard: Yard, *, sent: bool) -> None:
    job_id = yard.submit()
    if sent:
        yard.sent(yard.take())
    cancel_job(yard.ctx, job_id)
    assert yard.rows() == 0
    assert yard.begin(job_id) is None


def test_a_scheduled_job_is_delivered_when_it_is_due(yard: Yard) -> None:
    now = yard.services.clock.now()
    job_id = yard.submit(run_at=now + 150_000)
    assert yard.take() == []
    while not enqueue_due(yard.ctx).queued:
        yard.services.clock.sleep(0.01)
    assert [one.job_id for one in yard.take()] == [job_id]


def _interrupted(yard: Yard, begun: Begun) -> None:
    yard.door.finish(Finish(begun.job_id, begun.fence, AttemptOutcome.INTERRUPTED, begun=begun))


def _rescued(yard: Yard, begun: Begun) -> None:
    assert rescue_lapsed(yard.ctx, silent_for=None).requeued == (begun.job_id,)


@pytest.mark.parametrize("give_back", [_interrupted, _rescued])
def test_a_job_that_comes_back_to_the_queue_is_delivered_again(
    yard: Yard, give_back: Callable[[Yard, Begun], None]
) -> None:
    job_id = yard.submit()
    yard.sent(yard.take())
    begun = yard.begin(job_id)
    assert begun is not None
    give_back(yard, begun)
    assert [one.job_id for one in yard.take()] == [job_id]


def test_a_paused_queue_neither_sends_nor_begins(yard: Yard) -> None:
    job_id, other = yard.submit(queue="slow"), yard.submit(queue="fast")
    assert yard.store.write(lambda tx: tx.deliveries.pause("slow", "me", "too hot"))
    assert not yard.store.write(lambda tx: tx.deliveries.pause("slow", "me", "again"))
    assert [one.job_id for one in yard.take()] == [other]
    assert yard.begin(job_id) is None
    assert [begun.job_id for begun in yard.door.begin(10)] == [other]
    (paused,) = yard.store.read(lambda reader: reader.deliveries.paused())
    assert (paused.name, paused.actor, paused.reason) == ("slow", "me", "too hot")
    assert yard.store.read(lambda reader: reader.deliveries.next_due(0)) is None
    assert yard.store.write(lambda tx: tx.deliveries.resume("slow"))
    assert [one.job_id for one in yard.take()] == [job_id]
    assert yard.begin(job_id) is not None


def test_what_a_lost_worker_had_received_is_sent_again(yard: Yard) -> None:
    jobs = [yard.submit() for _ in range(3)]
    yard.sent(yard.take())
    yard.store.write(lambda tx: tx.deliveries.received(WORKER, jobs[:2]))
    assert yard.store.write(lambda tx: tx.deliveries.send_lost()) == 0, "it lives"
    retire_worker(yard.ctx, WORKER)
    assert yard.store.write(lambda tx: tx.deliveries.send_lost()) == 2
    again = yard.take()
    assert {one.job_id for one in again} == set(jobs[:2])
    assert {one.sends for one in again} == {1}


def test_the_oldest_are_sent_again_where_a_broker_lost_some(yard: Yard) -> None:
    first = yard.submit()
    yard.sent(yard.take())
    second = yard.submit()
    yard.sent(yard.take())
    later = yard.store.read(lambda reader: reader.now()) + 1
    assert yard.store.write(lambda tx: tx.deliveries.send_again("celery", later, 1)) == 1
    assert [one.job_id for one in yard.take()] == [first]
    assert yard.store.write(lambda tx: tx.deliveries.send_again("celery", 0, 5)) == 0
    assert yard.state(second) is JobState.QUEUED


def test_jobs_that_became_ready_while_nobody_delivered_are_found(database: Database, yard: Yard) -> None:
    plain = database.open()
    ctx = Context(Services(plain, yard.services.blobs, yard.services.signal, yard.services.clock, yard.services.ids,
                           yard.services.codec), yard.ctx.actor)  # fmt: skip
    ids = submit_batch(ctx, [SubmitJob("app.task") for _ in range(3)])
    assert yard.take() == []
    assert yard.store.write(lambda tx: tx.deliveries.repair(2)) == 2
    assert yard.store.write(lambda tx: tx.deliveries.repair(2)) == 1
    assert {one.job_id for one in yard.take()} == set(ids)


def test_a_job_ends_in_one_statement_as_in_a_transaction(yard: Yard) -> None:
    results = []
    for way in ("one", "many"):
        job_id = yard.submit()
        begun = yard.begin(job_id)
        assert begun is not None
        if way == "many" or yard.store.succeed_job(job_id, begun.fence, "42", "worker:w1") is None:
            yard.door.finish(Finish(job_id, begun.fence, AttemptOutcome.SUCCEEDED, result_json="42", begun=begun))
        assert yard.door.result_json(job_id) == "42"
        (attempt,) = yard.store.read(lambda reader, job_id=job_id: reader.attempts(job_id))  # type: ignore[misc]
        yard.store.number_events()
        events = yard.store.read(lambda reader, job_id=job_id: reader.events(0, 100, job_id))  # type: ignore[misc]
        results.append((attempt.outcome, attempt.number, [(one.verb, one.attempt, one.fence) for one in events]))
        assert not yard.store.succeed_job(job_id, begun.fence, "43", "worker:w1"), "once"
        assert yard.door.result_json(job_id) == "42"
    assert results[0] == results[1]


def test_a_superseded_attempt_cannot_end_in_one_statement(yard: Yard) -> None:
    job_id = yard.submit()
    old = yard.begin(job_id)
    rescue_lapsed(yard.ctx, silent_for=None)
    new = yard.begin(job_id)
    assert old is not None
    assert new is not None
    assert new.fence > old.fence
    assert not yard.store.succeed_job(job_id, old.fence, "1", "worker:w1")
    answer = yard.door.beat([BeatReport(job_id, old.fence), BeatReport(job_id, new.fence)])
    assert answer.superseded == {(job_id, old.fence)}


def test_a_purge_cancels_what_is_queued_there_and_nothing_else(yard: Yard) -> None:
    many = submit_batch(yard.ctx, [SubmitJob("app.task", queue="full") for _ in range(501)])
    later = yard.submit(queue="full", run_at=yard.services.clock.now() + 60_000_000)
    other = yard.submit(queue="other")
    running = many.pop(7)
    assert yard.begin(running) is not None
    yard.sent(yard.take(10))
    assert purge_queue(yard.ctx, "full") == 500
    assert {yard.state(job_id) for job_id in many} == {JobState.CANCELLED}
    assert (yard.state(later), yard.state(other)) == (JobState.SCHEDULED, JobState.QUEUED)
    assert yard.state(running) is JobState.RUNNING
    assert purge_queue(yard.ctx, "full") == 0
    assert yard.rows() == 1
