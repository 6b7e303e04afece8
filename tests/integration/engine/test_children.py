"""Tasks in child processes: whatever one does to itself ends one attempt and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from headway.engine.embedded.orphans import TOKEN_VARIABLE, new_token, reap_orphans, record_child
from headway.model.states import JobState
from headway.service import cancel_job
from tests.integration.engine import sample as sample_tasks
from tests.integration.engine.conftest import Node
from tests.waiting import wait_until

# Task objects have options and results that the stubs of Celery do not know.
sample: Any = sample_tasks


def process(node: Node, task: Any, *args: Any, **options: Any) -> Any:
    return node.submit(task, *args, isolation="process", **options)


def value(node: Node, job: Any) -> Any:
    assert node.ended(job.id).state is JobState.SUCCEEDED, node.door.get(job.id).error
    return sample.app.AsyncResult(job.id).get()


def test_a_child_is_reused_and_is_another_process(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=1)
    pids = {value(node, node.submit("pid")) for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert [path.stem for path in (node.folder / "children").iterdir()] == [str(pid) for pid in pids]


@pytest.mark.parametrize("when", ["while it waits", "with the order in its pipe"])
def test_a_warm_child_that_dies_before_it_begins_costs_no_attempt(make_node: Callable[..., Node], when: str) -> None:
    node = make_node()
    node.start(threads=1)
    child = psutil.Process(value(node, node.submit("pid")))
    if when == "while it waits":
        child.kill()
        job = node.submit("pid")
    else:
        child.suspend()
        job = node.submit("pid")
        # `kill` is set just before the order goes into the pipe of a process that reads nothing; either side is good.
        held = node.engine._slots.attempts
        wait_until(lambda: any(run.kill for run in [*held.values()]), what="the slot to turn to its child")
        child.kill()
    assert value(node, job) != child.pid
    assert node.door.get(job.id).attempts == 1


def test_a_child_can_be_replaced_after_some_attempts(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=1, child_max_tasks=1)
    assert len({value(node, node.submit("pid")) for _ in range(2)}) == 2


def test_current_job_output_and_log_come_up_the_pipe(node: Node) -> None:
    job = process(node, "who")
    seen = value(node, job)
    ended = node.door.get(job.id)
    assert (seen["id"], seen["fence"], seen["trace"]) == (job.id, ended.fence, ended.traceparent)
    assert seen["pid"] != os.getpid()
    expected = {("log", "first line"), ("log", "second line"), ("stdout", "to stdout"), ("stderr", "to stderr")}
    wait_until(lambda: expected <= set(node.log_lines(job.id)), what="the child's output in the log")


def test_a_child_submits_waits_retries_and_chains(node: Node) -> None:
    assert value(node, process(node, "asks", 5)) == 6
    ids = value(node, process(node, "submits", 2))
    assert [node.ended(job_id).task for job_id in ids] == ["add", "add"]
    counted = process(node, "counted", 2)
    assert value(node, counted) == 2
    assert node.outcomes(counted.id) == ["retried", "retried", "succeeded"]
    replaced = process(node, "replaced", 1)
    assert value(node, replaced) == 101


@pytest.mark.parametrize(
    ("task", "args", "code", "says"),
    [
        ("segfaults", (), "child_crashed", "SIGSEGV"),
        ("os_exit", (5,), "child_exited", "code 5"),
        ("eats", (600,), "memory_limit", "300 MB"),
        ("leaves", (), "task_exited", "7"),
        ("unstorable", (), "result_not_serializable", "object"),
    ],
)
def test_what_ends_a_child_ends_one_attempt(
    make_node: Callable[..., Node], task: Any, args: Any, code: Any, says: Any
) -> None:
    node = make_node()
    node.start(threads=1)
    job = node.ended(process(node, task, *args).id)
    assert (job.state, job.error.code) == (JobState.FAILED, code)
    assert says in job.error.message
    assert value(node, process(node, "add", 1, 1)) == 2


def test_the_last_words_of_a_child_are_kept(node: Node) -> None:
    job = process(node, "os_exit", 0)
    assert node.ended(job.id).error.code == "child_exited"
    wait_until(lambda: ("stdout", "about to leave") in node.log_lines(job.id), what="the last line")


def test_a_crash_calls_the_errback_in_the_parent(node: Node) -> None:
    result = sample.segfaults.apply_async(link_error=sample.failed_for.s())
    node.ended(result.id)

    def sent() -> Any:
        events = node.ctx.services.store.read(lambda reader: reader.events(0, 100))
        return [event.job_id for event in events if event.task == "failed_for"]

    assert node.ended(wait_until(sent, what="the errback")[0]).state is JobState.SUCCEEDED


def test_a_timeout_kills_the_child_and_the_next_job_gets_a_fresh_one(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=1)
    job = node.ended(process(node, "sleeps", 60, timeout_seconds=1.0).id)
    assert (job.state, job.error.code) == (JobState.TIMEOUT, "timeout")
    assert value(node, process(node, "add", 1, 1)) == 2


def test_a_child_that_holds_the_gil_costs_no_lease_and_can_be_cancelled(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=1)
    job = process(node, "holds_gil", 60)
    wait_until(lambda: node.door.get(job.id).progress is not None, what="the task to begin", seconds=20)
    beat = node.door.get(job.id).heartbeat_at
    wait_until(lambda: node.door.get(job.id).heartbeat_at > beat, what="the parent's beat")
    cancel_job(node.ctx, job.id)
    assert node.ended(job.id).state is JobState.CANCELLED


def test_cancel_is_seen_by_a_child_that_asks(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=1, cancel_grace_seconds=20.0)
    job = process(node, "until_cancelled", 30)
    wait_until(lambda: node.door.get(job.id).state is JobState.RUNNING, what="the task to begin")
    cancel_job(node.ctx, job.id)
    assert node.ended(job.id).state is JobState.CANCELLED
    # It ended by itself: the same child takes the next job.
    assert node.engine.status().children == 1


def test_what_a_task_started_ends_with_its_child(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=1)
    job = process(node, "grandchild", 120)
    progress = wait_until(lambda: node.door.get(job.id).progress, what="the grandchild", seconds=20)
    cancel_job(node.ctx, job.id)
    assert node.ended(job.id).state is JobState.CANCELLED
    wait_until(lambda: not psutil.pid_exists(int(progress.done)), what="the grandchild to end")


def test_drain_kills_children_and_their_attempts_go_back(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=1)
    job = process(node, "sleeps", 60)
    wait_until(lambda: node.door.get(job.id).progress is not None, what="the task to begin", seconds=20)
    assert node.engine.drain(0.1) is False
    wait_until(lambda: node.outcomes(job.id) == ["interrupted"], what="the interruption")
    stored = node.door.get(job.id)
    assert (stored.state, stored.attempts) == (JobState.QUEUED, 0)
    assert not list((node.folder / "children").iterdir())


def test_an_application_that_cannot_be_imported_fails_the_attempt_with_the_reason(
    make_node: Callable[..., Node],
) -> None:
    node = make_node()
    node.start(app_spec="no.such.module")
    job = node.ended(process(node, "add", 1, 1).id)
    assert (job.state, job.error.code) == (JobState.FAILED, "app_not_loaded")
    assert "no.such.module" in job.error.message


def test_reap_ends_what_a_dead_owner_left_and_spares_a_reused_pid(tmp_path: Path) -> None:
    token = new_token()
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(120)"], env={**os.environ, TOKEN_VARIABLE: token}
    )
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    try:
        record_child(tmp_path, orphan.pid, token)
        stale = record_child(tmp_path, bystander.pid, new_token())
        stale.path.write_text(stale.path.read_text().replace(str(stale.started), "12345.0"))
        assert reap_orphans(tmp_path) == [orphan.pid]
        orphan.wait(10)
        assert bystander.poll() is None
        assert not list(tmp_path.iterdir())
    finally:
        for one in (orphan, bystander):
            one.kill()
            one.wait()
