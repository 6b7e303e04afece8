"""``JobDoor`` over every store: what fences, leases, retries, cancels and holds promise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from headway.model.commands import BeatReport, Begun, Finish, ListJobs, Resend, SubmitJob
from headway.model.errors import JobHasNoResult, ResultGone, ResultNotReady, TransitionConflict
from headway.model.job import Backoff, ErrorInfo, Progress
from headway.model.states import AttemptOutcome, JobState
from headway.service import (
    Limits,
    cancel_job,
    enqueue_due,
    get_job,
    list_attempts,
    list_jobs,
    read_events,
    read_result,
    rescue_lapsed,
    submit_batch,
)
from headway.service.upkeep import retire_worker
from headway.store.sqlstore import SqlStore
from headway.store.tx import SqlTx
from headway.testing import check_invariants
from tests.conformance.conftest import Database, House, begin_one, build_house, succeed
from tests.waiting import wait_until

Out = AttemptOutcome


def silent(house: House) -> None:
    """Every running attempt's lease is over."""
    rescue_lapsed(house.ctx, silent_for=None)


def due_now(house: House) -> None:
    """What is due is queued."""
    enqueue_due(house.ctx)


def test_the_way_of_one_job(house: House) -> None:
    job = house.submit(args=[1, "ü"], kwargs={"x": 2}, labels={"k": "v"})
    assert job.state is JobState.QUEUED
    door = house.door("w")
    begun = begin_one(door)
    assert (begun.job_id, begun.fence, begun.attempt, begun.task) == (job.id, 1, 1, "app.task")
    assert (begun.args_json, begun.kwargs_json) == ('[1,"\\u00fc"]', '{"x":2}')
    running = get_job(house.ctx, job.id)
    assert (running.state, running.worker_id, running.fence) == (JobState.RUNNING, "w", 1)
    assert succeed(door, begun, '{"a":1}').state is JobState.SUCCEEDED
    ended = get_job(house.ctx, job.id)
    assert ended.state is JobState.SUCCEEDED
    assert ended.finished_at is not None
    assert ended.has_result
    assert read_result(house.ctx, job.id) == '{"a":1}'
    (attempt,) = list_attempts(house.ctx, job.id)
    assert (attempt.fence, attempt.number, attempt.outcome, attempt.args) == (1, 1, Out.SUCCEEDED, [1, "ü"])
    counted = check_invariants(house.store)
    assert (counted.total, counted.events) == (1, 3)
    assert [e.verb for e in read_events(house.ctx, 0, 10)] == ["submit", "begin", "succeed"]


def test_a_repeated_finish_answers_the_same_and_changes_nothing(house: House) -> None:
    job = house.submit()
    door = house.door("w")
    begun = begin_one(door)
    first = succeed(door, begun, "1")
    assert succeed(door, begun, "2") == first
    assert read_result(house.ctx, job.id) == "1"
    both, _ = door.finish_and_begin([Finish(begun.job_id, 1, Out.FAILED, begun=begun)] * 2, 0)
    assert both == [first, first]
    assert check_invariants(house.store).events == 3


def test_one_report_twice_in_one_commit_is_recorded_once(house: House) -> None:
    job = house.submit()
    door = house.door("w")
    begun = begin_one(door)
    once = Finish(job.id, begun.fence, Out.SUCCEEDED, result_json="1", begun=begun)
    answers, _ = door.finish_and_begin([once, replace(once, result_json="2")], 0)
    assert [answer.state for answer in answers] == [JobState.SUCCEEDED] * 2
    assert read_result(house.ctx, job.id) == "1"
    check_invariants(house.store)


def test_a_stale_finisher_is_refused_and_sends_nothing(house: House, another_house: Callable[[], House]) -> None:
    job = house.submit()
    door = house.door("lost")
    old = begin_one(door)
    silent(house)
    assert get_job(house.ctx, job.id).state is JobState.QUEUED
    late = Finish(job.id, old.fence, Out.SUCCEEDED, result_json="1", sends=(SubmitJob("next", job_id="n"),), begun=old)
    assert door.finish(late).refused  # taken over, not begun again yet
    other = another_house().door("other")
    new = begin_one(other)
    assert (new.fence, new.attempt, new.rescues) == (2, 2, 1)
    assert door.finish(late).refused
    assert get_job(house.ctx, job.id).state is JobState.RUNNING
    assert succeed(other, new, "2").state is JobState.SUCCEEDED
    assert door.finish(late).refused
    assert read_result(house.ctx, job.id) == "2"
    assert list_jobs(house.ctx, ListJobs(task="next")).items == []
    assert [a.outcome for a in list_attempts(house.ctx, job.id)] == [Out.ABANDONED, Out.SUCCEEDED]
    check_invariants(house.store)


def test_expiry_of_a_lease_does_not_fence(house: House) -> None:
    job = house.submit()
    door = house.door("asleep")
    begun = begin_one(door)
    lapsed = house.store.write(lambda tx: tx.lapsed(tx.now() + 3_600_000_000, 10))
    assert [row.job_id for row in lapsed] == [job.id]
    assert succeed(door, begun).state is JobState.SUCCEEDED


def test_sends_of_a_finish_are_committed_with_it(house: House) -> None:
    door = house.door("w")
    house.submit()
    begun = begin_one(door)
    sends = (SubmitJob("next", [1], job_id="n1", parent_id=begun.job_id), SubmitJob("next", [2], job_id="n2"))
    report = Finish(begun.job_id, begun.fence, Out.SUCCEEDED, result_json="1", sends=sends, begun=begun)
    door.finish(report)
    door.finish(report)
    assert sorted(job.id for job in list_jobs(house.ctx, ListJobs(task="next")).items) == ["n1", "n2"]
    assert get_job(house.ctx, "n1").parent_id == begun.job_id
    check_invariants(house.store)


def test_a_send_that_cannot_be_stored_lets_nothing_of_the_finish_through(house: House) -> None:
    door = house.door("w")
    job = house.submit()
    house.submit("other", job_id="taken", args=[1])
    begun = next(one for one in door.begin(2) if one.job_id == job.id)
    sends = (SubmitJob("next", job_id="fresh"), SubmitJob("next", [2], job_id="taken"))
    with pytest.raises(Exception, match="stands for another job"):
        door.finish(Finish(job.id, begun.fence, Out.SUCCEEDED, result_json="1", sends=sends, begun=begun))
    assert get_job(house.ctx, job.id).state is JobState.RUNNING
    assert house.store.read(lambda r: r.get("fresh")) is None


def test_cancel_before_the_start_never_starts(house: House) -> None:
    jobs = [house.submit(), house.submit(run_at=house.services.clock.now() + 3_600_000_000)]
    for job in jobs:
        assert cancel_job(house.ctx, job.id, "no need").state is JobState.CANCELLED
    assert house.door("w").begin(10) == []
    with pytest.raises(TransitionConflict):
        cancel_job(house.ctx, jobs[0].id)
    with pytest.raises(JobHasNoResult):
        read_result(house.ctx, jobs[0].id)
    check_invariants(house.store)


@pytest.mark.parametrize(
    "report",
    [
        Finish("", 1, Out.RETRIED, resend=Resend("app.task", [2], {}, None, 1, None)),
        Finish("", 1, Out.REPLACED, resend=Resend("app.other", [2], {}, None, 0, None)),
        Finish("", 1, Out.REJECTED, requeue=True),
        Finish("", 1, Out.FAILED, error=ErrorInfo("task_failed", "no")),
        Finish("", 1, Out.TIMEOUT),
        Finish("", 1, Out.INTERRUPTED),
        Finish("", 1, Out.CANCELLED),
    ],
    ids=lambda report: str(report.outcome),
)
def test_a_cancel_while_it_runs_wins_over_every_further_try(house: House, report: Finish) -> None:
    job = house.submit(max_retries=5)
    door = house.door("w")
    begun = begin_one(door)
    assert cancel_job(house.ctx, job.id).cancel_requested_at is not None
    assert door.beat([BeatReport(job.id, 1)]).cancel_requested == {(job.id, 1)}
    assert door.finish(replace(report, job_id=job.id, begun=begun)).state is JobState.CANCELLED
    due_now(house)
    assert door.begin(1) == []
    check_invariants(house.store)


def test_a_success_that_comes_before_the_stop_stays_a_success(house: House) -> None:
    job = house.submit()
    door = house.door("w")
    begun = begin_one(door)
    cancel_job(house.ctx, job.id)
    assert succeed(door, begun).state is JobState.SUCCEEDED


def test_a_lost_worker_with_a_cancel_asked_for_ends_cancelled(house: House) -> None:
    job = house.submit()
    begin_one(house.door("w"))
    cancel_job(house.ctx, job.id)
    silent(house)
    assert get_job(house.ctx, job.id).state is JobState.CANCELLED
    check_invariants(house.store)


def test_interrupted_costs_no_try(house: House) -> None:
    job = house.submit()
    door = house.door("w")
    for fence in (1, 2, 3):
        begun = begin_one(door)
        assert (begun.fence, begun.attempt) == (fence, 1)
        assert door.finish(Finish(job.id, fence, Out.INTERRUPTED, begun=begun)).state is JobState.QUEUED
    begun = begin_one(door)
    succeed(door, begun)
    assert get_job(house.ctx, job.id).attempts == 1
    assert [a.outcome for a in list_attempts(house.ctx, job.id)] == [Out.INTERRUPTED] * 3 + [Out.SUCCEEDED]
    check_invariants(house.store)


def test_rescues_are_bounded(house: House) -> None:
    job = house.submit(max_retries=10)
    door = house.door("w")
    for _ in range(house.services.limits.max_rescues):
        begin_one(door)
        silent(house)
        assert get_job(house.ctx, job.id).state is JobState.QUEUED
    begin_one(door)
    silent(house)
    ended = get_job(house.ctx, job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.rescues, ended.retries_used) == ("worker_lost", 3, 0)
    check_invariants(house.store)


def test_the_jobs_own_retry_rule(house: House) -> None:
    job = house.submit(max_retries=2, backoff=Backoff("fixed", base_seconds=0.0))
    door = house.door("w")
    for turn in (1, 2):
        begun = begin_one(door)
        failed = Finish(job.id, begun.fence, Out.FAILED, error=ErrorInfo("task_failed", f"no {turn}"), begun=begun)
        assert door.finish(failed).state is JobState.RETRY_SCHEDULED
        assert door.begin(1) == []
        due_now(house)
    begun = begin_one(door)
    timed_out = Finish(job.id, begun.fence, Out.TIMEOUT, begun=begun)
    assert door.finish(timed_out).state is JobState.TIMEOUT
    assert get_job(house.ctx, job.id).retries_used == 2
    assert [a.outcome for a in list_attempts(house.ctx, job.id)] == [Out.FAILED, Out.FAILED, Out.TIMEOUT]
    check_invariants(house.store)


def test_a_success_after_a_retry_has_no_error(house: House) -> None:
    job = house.submit(max_retries=1)
    door = house.door("w")
    begun = begin_one(door)
    door.finish(Finish(job.id, begun.fence, Out.FAILED, error=ErrorInfo("task_failed", "no"), begun=begun))
    assert get_job(house.ctx, job.id).error is not None
    due_now(house)
    succeed(door, begin_one(door))
    assert get_job(house.ctx, job.id).error is None


def test_what_may_not_be_retried_is_not(house: House) -> None:
    job = house.submit(max_retries=5)
    door = house.door("w")
    begun = begin_one(door)
    error = ErrorInfo("not_serializable", "no")
    answer = door.finish(Finish(job.id, begun.fence, Out.FAILED, error=error, may_retry=False, begun=begun))
    assert answer.state is JobState.FAILED


def test_celerys_retry_changes_the_next_attempt_and_not_the_job(house: House) -> None:
    job = house.submit(args=[1])
    door = house.door("w")
    begun = begin_one(door)
    due_at = house.services.clock.now() + 3_600_000_000
    resend = Resend("app.task", [2], {"again": True}, due_at, 1, {"chain": [1]})
    error = ErrorInfo("retried", "not yet")
    door.finish(Finish(job.id, begun.fence, Out.RETRIED, error=error, resend=resend, begun=begun))
    waiting = get_job(house.ctx, job.id)
    assert (waiting.state, waiting.run_at, waiting.args) == (JobState.RETRY_SCHEDULED, due_at, [1])
    due_now(house)
    assert door.begin(1) == []
    again = cancel_job(house.ctx, job.id)
    assert again.state is JobState.CANCELLED

    job = house.submit(args=[1])
    begun = begin_one(door)
    door.finish(Finish(job.id, begun.fence, Out.RETRIED, resend=replace(resend, due_at=None), begun=begun))
    due_now(house)
    begun = begin_one(door)
    assert (begun.args_json, begun.kwargs_json) == ("[2]", '{"again":true}')
    assert (begun.celery_retries, begun.canvas_json, begun.retries_used) == (1, '{"chain":[1]}', 0)
    first, second = list_attempts(house.ctx, job.id)
    assert (first.args, second.args, second.kwargs) == ([1], [2], {"again": True})
    succeed(door, begun)
    check_invariants(house.store)


def test_a_replacement_is_the_same_job(house: House) -> None:
    job = house.submit(args=[1])
    door = house.door("w")
    begun = begin_one(door)
    resend = Resend("app.other", ["x"], {}, None, 0, None)
    assert door.finish(Finish(job.id, 1, Out.REPLACED, resend=resend, begun=begun)).state is JobState.QUEUED
    begun = begin_one(door)
    assert (begun.job_id, begun.task, begun.args_json) == (job.id, "app.other", '["x"]')
    succeed(door, begun)
    assert get_job(house.ctx, job.id).task == "app.task"
    assert [a.task for a in list_attempts(house.ctx, job.id)] == ["app.task", "app.other"]
    check_invariants(house.store)


def test_no_job_is_tried_for_ever(store: SqlStore, database: Database) -> None:
    house = build_house(store, database.folder, limits=Limits(max_attempts=3, max_rescues=100))
    door = house.door("w")
    again = Resend("app.task", [], {}, None, 1, None)
    for report in (
        Finish("", 0, Out.RETRIED, resend=again),
        Finish("", 0, Out.REPLACED, resend=again),
        Finish("", 0, Out.REJECTED, requeue=True),
        Finish("", 0, Out.FAILED, error=ErrorInfo("task_failed", "no")),
    ):
        job = house.submit(max_retries=1000)
        for number in (1, 2, 3):
            begun = begin_one(door)
            assert begun.attempt == number
            answer = door.finish(replace(report, job_id=job.id, fence=begun.fence, begun=begun))
            due_now(house)
        assert answer.state is JobState.FAILED, report
    job = house.submit()
    for _ in range(3):
        begin_one(door)
        silent(house)
    assert get_job(house.ctx, job.id).state is JobState.FAILED
    check_invariants(store)


def test_what_expires_before_its_start_ends_cancelled(house: House) -> None:
    now = house.services.clock.now()
    job = house.submit(expires_at=now - 1)
    kept = house.submit(expires_at=now + 3_600_000_000)
    door = house.door("w")
    assert [one.job_id for one in door.begin(5)] == [kept.id]
    assert enqueue_due(house.ctx).expired == 1
    ended = get_job(house.ctx, job.id)
    assert ended.state is JobState.CANCELLED
    assert ended.error is not None
    assert ended.error.code == "expired"
    check_invariants(house.store)


def test_a_held_job_does_not_begin_until_its_thread_is_back(house: House) -> None:
    job = house.submit(max_retries=2)
    door = house.door("w")
    begun = begin_one(door)
    report = Finish(job.id, begun.fence, Out.TIMEOUT, held=True, begun=begun)
    assert door.finish(report).state is JobState.RETRY_SCHEDULED
    due_now(house)
    assert get_job(house.ctx, job.id).state is JobState.QUEUED
    assert door.begin(1) == []
    door.release(job.id, begun.fence)
    again = begin_one(door)
    door.finish(Finish(job.id, again.fence, Out.TIMEOUT, held=True, begun=again))
    due_now(house)
    door.release(job.id, begun.fence)  # the first hold's release, repeated: this hold is another one
    assert door.begin(1) == []
    door.release(job.id, again.fence)
    succeed(door, begin_one(door))
    check_invariants(house.store)


def test_what_a_worker_held_is_free_when_it_is_gone(house: House) -> None:
    job = house.submit(max_retries=2)
    door = house.door("gone")
    begun = begin_one(door)
    door.finish(Finish(job.id, begun.fence, Out.TIMEOUT, held=True, begun=begun))
    due_now(house)
    other = house.door("other")
    assert other.begin(1) == []
    retire_worker(house.ctx, "gone")
    assert begin_one(other).job_id == job.id


def test_what_a_lost_worker_held_is_free_although_it_ran_nothing_else(house: House) -> None:
    job = house.submit(max_retries=2)
    door = house.door("lost")
    begun = begin_one(door)
    door.finish(Finish(job.id, begun.fence, Out.TIMEOUT, held=True, begun=begun))
    due_now(house)
    silent(house)
    assert begin_one(house.door("other")).job_id == job.id


def test_priority_then_first_in_first_out(house: House) -> None:
    order = [house.submit(priority=p, args=[i]).id for i, p in enumerate([0, 5, 0, 9, 5, 0])]
    door = house.door("w")
    begun = [*door.begin(2), *door.begin(10)]
    assert [one.job_id for one in begun] == [order[i] for i in (3, 1, 4, 0, 2, 5)]


def test_a_batch_is_first_in_first_out_too(house: House) -> None:
    ids = submit_batch(house.ctx, [SubmitJob("app.task", [i]) for i in range(50)])
    door = house.door("w")
    taken = [one.job_id for _ in range(10) for one in door.begin(5)]
    assert taken == ids


def test_a_beat_renews_carries_progress_and_names_the_superseded(house: House) -> None:
    one, two, gone = house.submit(), house.submit(), house.submit()
    door = house.door("w")
    begun = {b.job_id: b for b in door.begin(3)}
    succeed(door, begun[gone.id])
    before = get_job(house.ctx, one.id).heartbeat_at
    assert before is not None
    answer = door.beat(
        [
            BeatReport(one.id, 1, Progress(1.5, 4, "half"), "PROGRESS", '{"a":1}'),
            BeatReport(two.id, 1),
            BeatReport(two.id, 7),
            BeatReport(gone.id, 1),
        ]
    )
    assert answer.cancel_requested == frozenset()
    assert answer.superseded == {(two.id, 7), (gone.id, 1)}
    job = get_job(house.ctx, one.id)
    assert job.progress == Progress(1.5, 4.0, "half")
    assert (job.custom_state, job.custom_meta) == ("PROGRESS", {"a": 1})
    assert job.heartbeat_at is not None
    assert job.heartbeat_at > before
    door.beat([BeatReport(one.id, 1)])
    assert get_job(house.ctx, one.id).progress == Progress(1.5, 4.0, "half")
    assert house.door("another").beat([BeatReport(one.id, 1)]).superseded == {(one.id, 1)}
    assert door.beat([]).superseded == frozenset()


def test_progress_of_an_attempt_is_gone_with_the_next(house: House) -> None:
    job = house.submit()
    door = house.door("w")
    begun = begin_one(door)
    door.beat([BeatReport(job.id, 1, Progress(1, 2), "PROGRESS", "{}")])
    door.finish(Finish(job.id, 1, Out.INTERRUPTED, begun=begun))
    begin_one(door)
    fresh = get_job(house.ctx, job.id)
    assert (fresh.progress, fresh.custom_state, fresh.custom_meta) == (None, None, None)


def test_small_results_lie_in_the_row_and_large_ones_in_a_blob(house: House) -> None:
    door = house.door("w")
    small, large, none = house.submit(), house.submit(), house.submit()
    begun = {one.job_id: one for one in door.begin(3)}
    text = '"' + "ü" * house.services.limits.inline_result_bytes + '"'
    succeed(door, begun[small.id], '"x"')
    succeed(door, begun[large.id], text)
    succeed(door, begun[none.id], "null")
    assert house.store.read(lambda r: r.result(small.id)) == (JobState.SUCCEEDED, '"x"', None, None)
    stored = house.store.read(lambda r: r.result(large.id))
    assert stored is not None
    _, inline, ref, _ = stored
    assert inline is None
    assert ref is not None
    assert [name for name, _ in house.services.blobs.refs()] == [ref]
    assert door.result_json(large.id) == text
    assert door.result_json(none.id) == "null"
    assert not get_job(house.ctx, none.id).has_result
    door.forget(large.id)
    with pytest.raises(ResultGone):
        door.result_json(large.id)
    assert list(house.services.blobs.refs()) == []
    door.forget(small.id)
    with pytest.raises(ResultGone):
        door.result_json(small.id)
    assert get_job(house.ctx, small.id).result_removed_at is not None


def test_a_refused_finish_leaves_no_blob(house: House) -> None:
    job = house.submit()
    door = house.door("w")
    begun = begin_one(door)
    silent(house)
    assert succeed(door, begun, '"' + "x" * 100_000 + '"').refused
    assert list(house.services.blobs.refs()) == []
    assert door.result_json(job.id) is None
    with pytest.raises(ResultNotReady):
        read_result(house.ctx, job.id)


def test_waiting_ends_with_the_job(house: House, another_house: Callable[[], House]) -> None:
    job = house.submit()
    door = house.door("w")
    assert door.wait(job.id, 0.0) == get_job(house.ctx, job.id)
    begun = begin_one(door)
    succeed(another_house().door("v"), begun)
    ended = door.wait(job.id, 10)
    assert ended is not None
    assert ended.state is JobState.SUCCEEDED
    assert door.wait("nobody", 10) is None


def test_work_that_comes_between_the_look_and_the_wait_is_not_missed(house: House) -> None:
    door = house.door("w")
    assert door.begin(1) == []
    house.submit()
    began = time.monotonic()
    assert door.await_work(lambda: 1, 30) == []
    assert time.monotonic() - began < 15
    begin_one(door)
    assert door.begin(1) == []
    assert door.await_work(lambda: 1, 0.01) == []


def test_a_finish_takes_the_next_job_also_where_the_queue_was_known_to_be_empty(house: House) -> None:
    door = house.door("w")
    first = house.submit()
    begun = begin_one(door)
    assert door.begin(1) == []
    then = Finish(first.id, begun.fence, Out.SUCCEEDED, sends=(SubmitJob("app.next"),), begun=begun)
    _, taken = door.finish_and_begin([then], 1)
    assert [one.task for one in taken] == ["app.next"]
    # Again empty, and known: what comes from outside is seen all the same.
    assert door.begin(1) == []
    second = house.submit()
    _, taken = door.finish_and_begin([Finish(taken[0].job_id, 1, Out.SUCCEEDED, begun=taken[0])], 1)
    assert [one.job_id for one in taken] == [second.id]
    assert door.finish_and_begin([Finish(second.id, 1, Out.SUCCEEDED, begun=taken[0])], 1)[1] == []


def test_who_wants_nothing_any_more_by_then_is_given_nothing(house: House) -> None:
    door = house.door("w")
    assert door.begin(1) == []
    wanted = [3]
    given: list[Begun] = []
    waiter = threading.Thread(target=lambda: given.extend(door.await_work(lambda: wanted[0], 30)))
    waiter.start()
    wait_until(lambda: house.store._group._standing_by, what="somebody to stand by")
    wanted[0] = 0
    job = house.submit()
    waiter.join(30)
    assert given == []
    assert get_job(house.ctx, job.id).state is JobState.QUEUED


def test_a_finish_asks_an_empty_queue_only_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    door = house.door("w")
    asked: list[int] = []
    claim = SqlTx.claim

    def counted(tx: SqlTx, worker: str, limit: int, actor: str) -> list[Begun]:
        asked.append(limit)
        return claim(tx, worker, limit, actor)

    monkeypatch.setattr(SqlTx, "claim", counted)
    house.submit()
    (begun,) = door.begin(2)
    assert door.finish_and_begin([Finish(begun.job_id, 1, Out.SUCCEEDED, begun=begun)], 1)[1] == []
    assert asked == [2]
    house.submit()
    (begun,) = door.begin(1)
    assert door.finish_and_begin([Finish(begun.job_id, 1, Out.SUCCEEDED, begun=begun)], 1)[1] == []
    assert asked == [2, 1, 1]


@pytest.mark.parametrize("limit", [1, 3])
def test_who_awaits_work_is_given_it_in_the_commit_that_queues_it(house: House, limit: int) -> None:
    door = house.door("w")
    assert door.begin(1) == []
    given: list[Begun] = []
    waiter = threading.Thread(target=lambda: given.extend(door.await_work(lambda: limit, 30)))
    waiter.start()
    wait_until(lambda: house.store._group._standing_by, what="somebody to stand by")
    first = house.submit()
    waiter.join(30)
    assert first.state is JobState.QUEUED
    assert [(one.job_id, one.fence) for one in given] == [(first.id, 1)]
    running = get_job(house.ctx, first.id)
    assert (running.state, running.worker_id) == (JobState.RUNNING, "w")
    assert door.finish(Finish(first.id, 1, AttemptOutcome.SUCCEEDED, begun=given[0])).state is JobState.SUCCEEDED
    house.store.number_events()
    assert [event.verb for event in read_events(house.ctx, 0, 10, first.id)] == ["submit", "begin", "succeed"]
    # The queue is known to be empty now: the next one is waited for, whether it came meanwhile or comes later.
    assert door.await_work(lambda: limit, 0.01) == []
    second = house.submit()
    assert door.await_work(lambda: limit, 30) == []
    begin_one(door)
    assert get_job(house.ctx, second.id).state is JobState.RUNNING
