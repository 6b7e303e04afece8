"""Celery's task objects, run in threads over the real store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, group
from celery.exceptions import TaskRevokedError

from headway.model.errors import NotSerializable, ResultGone
from headway.model.states import JobState
from headway.service import Limits, cancel_job
from tests.integration.engine import sample as sample_tasks
from tests.integration.engine.conftest import Node
from tests.waiting import wait_until

# Task objects have options and results that the stubs of Celery do not know.
sample: Any = sample_tasks


def test_delay_is_a_stored_job_and_its_result_comes_back(node: Node) -> None:
    result = sample.add.delay(2, 3)
    assert result.get(timeout=10) == 5
    job = node.door.get(result.id)
    assert (job.state, job.origin, job.task, job.args) == (JobState.SUCCEEDED, "celery", "add", [2, 3])
    assert result.state == "SUCCESS"


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_last_progress_is_kept_though_the_task_returns_at_once(node: Node, isolation: str) -> None:
    result = sample.steps.apply_async((3,), isolation=isolation)
    assert result.get(timeout=30) == 3
    progress = node.door.get(result.id).progress
    assert (progress.done, progress.total, progress.message) == (3, 3, "step 3")


def test_options_of_apply_async_become_the_jobs(node: Node) -> None:
    node.engine.drain(5)
    eta = datetime.now(UTC) + timedelta(hours=1)
    result = sample.add.apply_async(
        (1, 2),
        eta=eta,
        expires=eta + timedelta(hours=1),
        task_id="my-id",
        queue="slow",
        priority=7,
        time_limit=9,
        isolation="process",
        labels={"team": "pk"},
    )
    job = node.door.get("my-id")
    assert result.id == "my-id"
    assert job.state is JobState.SCHEDULED
    assert (job.queue, job.priority, job.timeout_seconds) == ("slow", 7, 9.0)
    assert (job.isolation, job.labels) == ("process", {"team": "pk"})
    assert job.run_at == (eta - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert job.expires_at - job.run_at == 3_600_000_000


def test_values_that_celery_carries_survive(node: Node) -> None:
    moment = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
    assert sample.add.delay([moment], [b"x"]).get(timeout=10) == [moment, b"x"]


def test_failure_is_reraised_by_type_and_recorded(node: Node) -> None:
    result = sample.boom.delay("password=hunter2 was wrong")
    with pytest.raises(ValueError, match=r"password=\*\*\* was wrong"):
        result.get(timeout=10)
    job = node.ended(result.id)
    assert (job.state, job.error.code, job.error.exc_type) == (JobState.FAILED, "task_failed", "ValueError")
    assert "raise ValueError(text)" in result.traceback
    assert "celery/app/trace.py" not in result.traceback
    assert "hunter2" not in job.error.traceback


def test_own_retry_is_the_next_attempt_of_the_same_job(node: Node) -> None:
    job = node.submit("counted", 2)
    assert node.ended(job.id).state is JobState.SUCCEEDED
    assert node.outcomes(job.id) == ["retried", "retried", "succeeded"]
    assert sample.app.AsyncResult(job.id).get() == 2


def test_autoretry_ends_with_the_last_error(node: Node) -> None:
    result = sample.automatic.delay()
    job = node.ended(result.id)
    assert job.error.exc_type == "KeyError"
    assert node.outcomes(result.id) == ["retried", "retried", "failed"]
    with pytest.raises(KeyError, match="missing"):
        result.get(timeout=5)


def test_the_jobs_own_rule_retries_what_celery_did_not(node: Node) -> None:
    job = node.submit("boom", max_retries=2)
    assert node.ended(job.id).state is JobState.FAILED
    assert node.outcomes(job.id) == ["failed", "failed", "failed"]


def test_replace_by_a_task_keeps_the_id(node: Node) -> None:
    job = node.submit("replaced", 1)
    assert node.ended(job.id).state is JobState.SUCCEEDED
    assert node.outcomes(job.id) == ["replaced", "succeeded"]
    assert sample.app.AsyncResult(job.id).get() == 101


def test_chain_runs_step_by_step_under_one_root(node: Node) -> None:
    result: Any = chain(sample.add.s(1, 2), sample.add.s(10), sample.add.s(100)).delay()
    assert result.get(timeout=10) == 113
    last = node.door.get(result.id)
    assert last.root_id == result.parent.parent.id
    assert last.parent_id == result.parent.id


def test_a_chain_whose_step_fails_ends_the_wait_for_its_result(node: Node) -> None:
    result = chain(sample.boom.si("first"), sample.add.si(1, 2)).delay()
    with pytest.raises(ValueError, match="first"):
        result.get(timeout=10)
    never_sent = node.door.get(result.id)
    assert (never_sent.state, never_sent.error.code, never_sent.attempts) == (JobState.FAILED, "chain_broken", 0)


def test_group_is_stored_at_once_and_joined_by_the_caller(node: Node) -> None:
    assert group(sample.add.s(i, i) for i in range(5)).delay().get(timeout=10) == [0, 2, 4, 6, 8]


def test_callbacks_and_old_errbacks_are_jobs_of_the_finish(node: Node) -> None:
    good = sample.add.apply_async((1, 2), link=sample.add.s(10))
    bad = sample.boom.apply_async(link_error=sample.failed_for.s())
    node.ended(good.id)
    node.ended(bad.id)
    children = {}

    def sent() -> Any:
        from headway.model.commands import ListJobs

        page = node.ctx.services.store.read(lambda reader: reader.list_jobs(ListJobs()))
        children.update({job.parent_id: job for job in page.items if job.parent_id})
        return {good.id, bad.id} <= set(children)

    wait_until(sent, what="callback and errback")
    assert node.door.result_json(node.ended(children[good.id].id).id) == "13"
    assert sample.app.AsyncResult(children[bad.id].id).get(timeout=5) == f"errback of {bad.id}"


def test_sends_of_the_body_are_children_stored_at_once(node: Node) -> None:
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    result = sample.submits.apply_async((3,), headers={"traceparent": trace})
    ids = result.get(timeout=10)
    jobs = [node.ended(job_id) for job_id in ids]
    assert {job.parent_id for job in jobs} == {result.id}
    assert {job.root_id for job in jobs} == {result.id}
    assert {job.traceparent for job in jobs} == {trace}


def test_get_inside_a_task_works_while_a_slot_is_free(node: Node) -> None:
    assert sample.asks.delay(4).get(timeout=20) == 5


def test_system_exit_ends_the_attempt_and_not_the_server(node: Node) -> None:
    job = node.submit("leaves")
    assert node.ended(job.id).error.code == "task_exited"
    assert sample.add.delay(1, 1).get(timeout=10) == 2


def test_a_result_that_cannot_be_stored_fails_and_sends_no_callback(node: Node) -> None:
    result = sample.unstorable.apply_async(link=sample.add.si(1, 2))
    job = node.ended(result.id)
    assert (job.state, job.error.code) == (JobState.FAILED, "result_not_serializable")
    events = node.ctx.services.store.read(lambda reader: reader.events(0, 1000))
    assert {event.task for event in events} == {"unstorable"}


def test_arguments_that_are_not_json_are_refused_at_the_call(node: Node) -> None:
    with pytest.raises(NotSerializable, match="object"):
        sample.add.delay(object(), 1)


def test_a_task_that_is_gone_fails_with_a_code(node: Node) -> None:
    catalog = node.catalog
    assert catalog is not None
    node.engine.drain(5)

    @sample.app.task(name="passing")
    def passing() -> Any:
        return 1

    job = node.submit("passing")
    sample.app.tasks.pop("passing")
    assert catalog.lookup("passing") is None
    node.start()
    assert node.ended(job.id).error.code == "unknown_task"


def test_a_chain_into_an_unknown_task_fails_the_step_that_sends_it(node: Node) -> None:
    job = sample.add.apply_async((1, 2), link=sample.app.signature("nobody.knows"))
    ended = node.ended(job.id)
    assert (ended.state, ended.error.code) == (JobState.FAILED, "unknown_task")


def test_current_job_says_and_shows(node: Node) -> None:
    job = node.submit("who")
    ended = node.ended(job.id)
    seen = sample.app.AsyncResult(job.id).get()
    assert (seen["id"], seen["attempt"], seen["fence"]) == (job.id, 1, ended.fence)
    assert seen["trace"] == ended.traceparent
    wait_until(lambda: len(node.log_lines(job.id)) == 2, what="the log")
    assert node.log_lines(job.id) == [("log", "first line"), ("log", "second line")]


def test_update_state_is_shown_to_other_readers(node: Node) -> None:
    result = sample.states.delay()
    wait_until(lambda: result.state == "HALFWAY", what="the custom state")
    assert result.info == {"percent": 50}
    sample.OPEN.set()
    assert result.get(timeout=10) == "done"
    assert result.state == "SUCCESS"


def test_forget_removes_the_result_and_says_so(node: Node) -> None:
    result = sample.add.delay(1, 2)
    node.ended(result.id)
    result.forget()
    again = sample.app.AsyncResult(result.id)
    assert again.state == "SUCCESS"
    with pytest.raises(ResultGone):
        again.get(timeout=5)


def test_shared_tasks_use_the_attached_application_in_every_thread(node: Node) -> None:
    got = []
    thread = threading.Thread(target=lambda: got.append(sample.shared_add.delay(20, 1).get(timeout=10)))
    thread.start()
    thread.join(15)
    assert got == [21]


def test_revoke_before_the_start_means_cancel(node: Node) -> None:
    later = sample.add.apply_async((1, 2), countdown=3600)
    later.revoke()
    assert node.door.get(later.id).state is JobState.CANCELLED
    with pytest.raises(TaskRevokedError):
        later.get(timeout=5)


def test_a_running_thread_sees_the_cancel_and_ends_cancelled(node: Node) -> None:
    job = node.submit("until_cancelled")
    assert sample.STARTED.wait(10)
    cancel_job(node.ctx, job.id)
    assert node.ended(job.id).state is JobState.CANCELLED
    assert node.engine.status().lost_slots == 0


def test_a_deaf_thread_is_given_up_its_slot_lost_and_its_job_held(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(max_lost_slots=1)
    job = node.submit("wait_open")
    assert sample.STARTED.wait(10)
    cancel_job(node.ctx, job.id)
    assert node.ended(job.id).state is JobState.CANCELLED
    wait_until(lambda: node.engine.status().lost_slots == 1, what="the lost slot")
    assert node.exhausted == 1
    # The other slot works on.
    assert sample.add.delay(1, 1).get(timeout=10) == 2
    sample.OPEN.set()
    wait_until(lambda: node.engine.status().lost_slots == 0, what="the slot to come back")
    assert node.ended(job.id).state is JobState.CANCELLED


def test_a_timeout_holds_the_retry_until_the_thread_returns(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start()
    job = node.submit("wait_open", timeout_seconds=0.2, max_retries=1)
    wait_until(lambda: node.outcomes(job.id) == ["timeout"], what="the timeout")
    node.move_due()
    wait_until(lambda: node.door.get(job.id).state is JobState.QUEUED, what="the retry to be due")
    # The old thread still runs, so nothing of this job begins, though a slot is idle and other work goes on.
    assert sample.add.delay(1, 1).get(timeout=10) == 2
    assert node.outcomes(job.id) == ["timeout"]
    sample.OPEN.set()
    assert node.ended(job.id).state is JobState.SUCCEEDED
    assert node.outcomes(job.id) == ["timeout", "succeeded"]


def test_drain_interrupts_what_does_not_end_and_costs_no_try(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start()
    job = node.submit("wait_open")
    assert sample.STARTED.wait(10)
    assert node.engine.drain(0.2) is False
    stored = node.door.get(job.id)
    assert (stored.state, stored.attempts) == (JobState.QUEUED, 0)
    assert node.outcomes(job.id) == ["interrupted"]


def test_a_task_that_never_ends_trying_is_bounded(make_node: Callable[..., Node]) -> None:
    node = make_node(limits=Limits(max_attempts=3))
    node.start()
    job = node.submit("boom", max_retries=50)
    assert node.ended(job.id).state is JobState.FAILED
    assert len(node.outcomes(job.id)) == 3


def test_nothing_begins_once_the_engine_drains(node: Node) -> None:
    wait_until(lambda: node.store._group._standing_by, what="an idle slot to stand by")
    node.engine._slots.stop_beginning()
    job = node.submit("add", 1, 2)
    assert node.engine.drain(10)
    assert node.door.get(job.id).state is JobState.QUEUED


def test_a_long_job_among_short_ones_keeps_nobody_waiting(node: Node) -> None:
    """A slot keeps the place of the one that waits for work only while what it runs is short."""
    slots = node.engine._slots
    # As after a row of jobs of less than a millisecond, however slow this machine is.
    slots._mean = 0.0
    long = node.submit("wait_open")
    assert sample.STARTED.wait(10)
    short = [node.submit("noop") for _ in range(3)]
    assert [node.ended(job.id).state for job in short] == [JobState.SUCCEEDED] * 3
    job = node.door.get(long.id)
    assert job.state is JobState.RUNNING
    sample.OPEN.set()
    assert node.ended(long.id).state is JobState.SUCCEEDED
