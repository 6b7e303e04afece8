"""What a submit answers, and how its end reaches who waits for it."""

from __future__ import annotations

import threading
from typing import Any

from headway.model.commands import Finish, SubmitJob
from headway.model.job import Backoff, ErrorInfo, Job
from headway.model.states import AttemptOutcome, JobState
from headway.service import cancel_job, get_job, submit_job
from tests.conformance.conftest import House, begin_one, succeed
from tests.waiting import wait_until


def test_a_submit_answers_what_is_stored(house: House) -> None:
    plain = house.submit()
    assert plain == get_job(house.ctx, plain.id)
    full = submit_job(
        house.ctx,
        SubmitJob(
            "app.task",
            [1, {"a": [None]}],
            {"b": "ü"},
            queue="q",
            priority=7,
            run_at=2_000_000_000_000_000,
            expires_at=2_000_000_000_000_001,
            timeout_seconds=1.5,
            max_retries=3,
            backoff=Backoff("exponential", 1.0, 5.0, 0.5),
            isolation="process",
            labels={"a": "b"},
            parent_id="p",
            root_id="r",
        ),
    )
    assert full == get_job(house.ctx, full.id)
    named = house.submit(job_id="own", idempotency_key="k")
    assert named == get_job(house.ctx, "own") == house.submit(job_id="own", idempotency_key="k")


def test_who_waits_is_handed_the_job_as_it_ended(house: House) -> None:
    job = house.submit()
    door, endings = house.door("w"), house.services.endings
    begun = begin_one(door)
    ended: list[Job | None] = []
    waiters = [threading.Thread(target=lambda: ended.append(door.wait(job.id, 30))) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: len(endings._seats.get(job.id, ())) == 2, what="both to wait")
    reads: list[Any] = []
    read = house.store.read

    def counted(work: Any) -> Any:
        reads.append(work)
        return read(work)

    # Both have looked once when they wait; from here on nobody asks the database.
    wait_until(lambda: len(house.services.signal._topics[f"job:{job.id}"].gates) == 2, what="both to be asleep")  # type: ignore[attr-defined]
    house.store.read = counted  # type: ignore[method-assign]
    succeed(door, begun, '"done"')
    for waiter in waiters:
        waiter.join(30)
    assert reads == []
    house.store.read = read  # type: ignore[method-assign]
    assert ended == [get_job(house.ctx, job.id)] * 2
    assert ended[0] is not None
    assert (ended[0].state, ended[0].has_result) == (JobState.SUCCEEDED, True)
    assert not endings.awaited(job.id)


def test_an_end_that_nobody_hands_over_is_read(house: House) -> None:
    job = house.submit()
    door = house.door("w")
    ended: list[Job | None] = []
    waiter = threading.Thread(target=lambda: ended.append(door.wait(job.id, 30)))
    waiter.start()
    wait_until(lambda: house.services.endings.awaited(job.id), what="somebody to wait")
    cancel_job(house.ctx, job.id)
    waiter.join(30)
    assert ended == [get_job(house.ctx, job.id)]
    assert ended[0] is not None
    assert ended[0].state is JobState.CANCELLED


def test_a_try_that_is_not_the_last_ends_nobodys_wait(house: House) -> None:
    job = house.submit(max_retries=1)
    door = house.door("w")
    ended: list[Job | None] = []
    waiter = threading.Thread(target=lambda: ended.append(door.wait(job.id, 30)))
    begun = begin_one(door)
    waiter.start()
    wait_until(lambda: house.services.endings.awaited(job.id), what="somebody to wait")
    answer = door.finish(Finish(job.id, begun.fence, AttemptOutcome.FAILED, error=ErrorInfo("x", "y"), begun=begun))
    assert answer.state is JobState.RETRY_SCHEDULED
    waiter.join(0.2)
    assert waiter.is_alive()
    cancel_job(house.ctx, job.id)
    waiter.join(30)
    assert ended == [get_job(house.ctx, job.id)]
