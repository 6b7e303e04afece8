"""What cannot be stored ends its own attempt, never a slot, and never another job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog

from headway.engine.embedded.engine import EmbeddedEngine
from headway.model.commands import Finish
from headway.model.errors import StorageFull
from headway.model.states import AttemptOutcome, JobState
from headway.service import rescue_lapsed
from tests.integration.engine import sample as sample_tasks
from tests.integration.engine.conftest import Node
from tests.waiting import wait_until

# Task objects have options and results that the stubs of Celery do not know.
sample: Any = sample_tasks


class Choosy:
    """The real door, which raises on the finishes that ``refuses`` names, as a driver does on a value."""

    def __init__(self, door: Any, refuses: Callable[[Finish], BaseException | None]) -> None:
        self._door = door
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)

    def finish_and_begin(self, finishes: Sequence[Finish], limit: int) -> Any:
        for finish in finishes:
            self._look(finish)
        return self._door.finish_and_begin(finishes, limit)

    def finish(self, finish: Finish) -> Any:
        self._look(finish)
        return self._door.finish(finish)

    def _look(self, finish: Finish) -> None:
        error = self._refuses(finish)
        if error is not None:
            raise error


def test_a_value_that_the_database_refuses_fails_its_job_and_ends_no_slot(make_node: Callable[..., Node]) -> None:
    node = make_node()
    bad = OverflowError("Python int too large to convert to SQLite INTEGER")
    node.start(door=Choosy(node.door, lambda finish: bad if finish.result_json == "13" else None))
    for _ in range(3):
        job = node.ended(node.submit("add", 6, 7).id)
        assert (job.state, job.error.code) == (JobState.FAILED, "engine_error")
        assert "too large" in job.error.message
    assert node.ended(node.submit("add", 1, 2).id).state is JobState.SUCCEEDED


def test_a_finish_taken_in_no_form_waits_and_the_slots_work_on(make_node: Callable[..., Node]) -> None:
    node = make_node()
    refused: list[str] = []
    node.start(door=Choosy(node.door, lambda finish: TypeError("no") if finish.job_id in refused else None))
    jobs = [node.submit("wait_open") for _ in range(2)]
    refused += [job.id for job in jobs]
    sample.OPEN.set()
    wait_until(lambda: node.engine.status().spooled == 2, what="both finishes on disk")
    assert node.ended(node.submit("add", 1, 2).id).state is JobState.SUCCEEDED
    assert all(node.door.get(job.id).state is JobState.RUNNING for job in jobs)
    refused.clear()
    for job in jobs:
        assert node.ended(job.id).error.code == "engine_error"
    wait_until(lambda: node.engine.status().spooled == 0, what="the spool to empty")


def test_an_attempt_that_the_engine_cannot_run_fails(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start()
    for _ in range(3):
        job = node.ended(node.submit("misconfigured", isolation="process").id)
        assert (job.state, job.error.code, job.error.exc_type) == (JobState.FAILED, "engine_error", "ValueError")
    assert node.ended(node.submit("add", 1, 2).id).state is JobState.SUCCEEDED


def test_a_finish_that_waits_for_space_keeps_its_lease(make_node: Callable[..., Node]) -> None:
    node = make_node()
    full = threading.Event()
    node.start(door=Choosy(node.door, lambda finish: StorageFull("no space") if full.is_set() else None))
    job = node.submit("wait_open")
    assert sample.STARTED.wait(10)
    full.set()
    sample.OPEN.set()
    wait_until(lambda: node.engine.status().spooled == 1, what="the spooled finish")
    since = node.clock.now()
    wait_until(lambda: node.door.get(job.id).heartbeat_at > since, what="a beat after the end")
    before = node.clock.now()
    node.engine.beat()
    assert node.door.get(job.id).heartbeat_at >= before
    rescue_lapsed(node.ctx, silent_for=5.0)
    full.clear()
    assert node.ended(job.id).state is JobState.SUCCEEDED
    assert node.outcomes(job.id) == ["succeeded"]


def test_a_call_that_comes_while_the_monitor_tidies_is_not_forgotten(make_node: Callable[..., Node]) -> None:
    node = make_node()
    engine: Any = None

    def call_meanwhile(finish: Finish) -> None:
        engine._monitor.batches()

    door: Any = Choosy(node.door, call_meanwhile)
    # Never started: the monitor looks when this thread says so.
    log = structlog.get_logger("test")
    engine = EmbeddedEngine(door, sample.app, clock=node.clock, settings=node.settings(), log=log)
    monitor, slots = engine._monitor, engine._slots
    monitor._slots = slots
    job = node.submit("add", 1, 2)
    (begun,) = node.door.begin(1)
    slots._done.append(Finish(job.id, begun.fence, AttemptOutcome.SUCCEEDED, result_json="3", begun=begun))
    monitor.batches()
    monitor._look()
    assert node.outcomes(job.id) == ["succeeded"]
    assert monitor._tidying


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_what_a_task_says_is_made_storable(node: Node, isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    # Celery logs the traceback as it is, and the runner of the tests cannot pass such text between its processes.
    caplog.set_level(logging.CRITICAL + 1, logger="celery.app.trace")
    job = node.ended(node.submit("says_odd_things", isolation=isolation).id)
    assert (job.state, job.error.code, job.error.message) == (JobState.FAILED, "task_failed", "bad \ufffd\ufffd")
    assert "\0" not in job.error.traceback
    assert (job.progress.done, job.progress.total, job.progress.message) == (1, None, "one \ufffd\ufffd")
    wait_until(lambda: ("log", "line \ufffd\ufffd") in node.log_lines(job.id), what="the log line")


def test_a_process_job_may_run_for_a_month(node: Node) -> None:
    job = node.ended(node.submit("pid", isolation="process", timeout_seconds=30 * 86_400).id)
    assert job.state is JobState.SUCCEEDED
