"""The database goes away while jobs run: nothing is lost, and no good attempt is killed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from headway.engine.embedded.engine import EmbeddedEngine
from headway.engine.embedded.spool import Spool, offer_spooled
from headway.model.commands import Finish
from headway.model.errors import StoreUnavailable
from headway.model.states import AttemptOutcome, JobState
from headway.service import rescue_lapsed
from tests.integration.engine import sample as sample_tasks
from tests.integration.engine.conftest import Node
from tests.waiting import wait_until

# Task objects have options and results that the stubs of Celery do not know.
sample: Any = sample_tasks


class Gate:
    """The real door behind a gate: while it is shut, every call fails as with a database that does not answer."""

    def __init__(self, door: Any) -> None:
        self._door = door
        self.shut = threading.Event()

    def __getattr__(self, name: str) -> Any:
        if self.shut.is_set():
            raise StoreUnavailable("the database does not answer")
        return getattr(self._door, name)


def test_finishes_wait_on_disk_and_are_recorded_when_the_store_is_back(make_node: Callable[..., Node]) -> None:
    node = make_node()
    gate = Gate(node.door)
    node.start(door=gate)
    job = node.submit("wait_open")
    assert sample.STARTED.wait(10)
    gate.shut.set()
    sample.OPEN.set()
    wait_until(lambda: node.engine.status().spooled == 1, what="the spooled finish")
    assert not node.engine.status().store_ok
    assert node.door.get(job.id).state is JobState.RUNNING
    gate.shut.clear()
    assert node.ended(job.id).state is JobState.SUCCEEDED
    wait_until(lambda: node.engine.status().spooled == 0, what="the spool to empty")
    assert node.outcomes(job.id) == ["succeeded"]


def test_an_engine_that_stops_during_the_outage_leaves_the_finish_to_the_next(make_node: Callable[..., Node]) -> None:
    node = make_node()
    gate = Gate(node.door)
    engine = node.start(door=gate)
    job = node.submit("wait_open")
    assert sample.STARTED.wait(10)
    gate.shut.set()
    sample.OPEN.set()
    wait_until(lambda: engine.status().spooled == 1, what="the spooled finish")
    assert engine.drain(10)
    engine.stop()
    # The next process, as the owner: spooled finishes first, then recovery.
    assert offer_spooled(Spool(node.folder / "spool"), node.door) == 1
    assert node.door.get(job.id).state is JobState.SUCCEEDED
    rescue_lapsed(node.ctx, silent_for=0.0)
    assert node.outcomes(job.id) == ["succeeded"]


def test_a_finish_that_waited_for_company_is_kept_too(make_node: Callable[..., Node]) -> None:
    node = make_node()
    gate = Gate(node.door)
    # Never started: no slot comes to take the finish before `tidy` does.
    log = structlog.get_logger("test")
    engine = EmbeddedEngine(gate, sample.app, clock=node.clock, settings=node.settings(), log=log)
    job = node.submit("add", 1, 2)
    (begun,) = node.door.begin(1)
    slots = engine._slots
    slots._done.append(Finish(job.id, begun.fence, AttemptOutcome.SUCCEEDED, result_json="3", begun=begun))
    gate.shut.set()
    assert slots.tidy(), "it still waits"
    assert slots.tidy()
    assert engine.status().spooled == 1
    gate.shut.clear()
    assert not slots.tidy()
    assert engine.status().spooled == 0
    assert node.outcomes(job.id) == ["succeeded"]


def test_a_superseded_attempt_is_told_and_its_result_refused(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start()
    job = node.submit("until_cancelled")
    assert sample.STARTED.wait(10)
    # A rescuer that thinks the worker dead takes the job over.
    rescue_lapsed(node.ctx, silent_for=None)
    wait_until(lambda: node.outcomes(job.id)[0] == "abandoned", what="the takeover")
    wait_until(lambda: len(node.outcomes(job.id)) == 2, what="the second attempt")
    assert node.outcomes(job.id)[0] == "abandoned"
    sample.OPEN.set()


def test_many_short_jobs_end_once_each_and_a_long_one_blocks_none(make_node: Callable[..., Node]) -> None:
    node = make_node()
    node.start(threads=2)
    from headway.model.commands import SubmitJob

    commands = [SubmitJob("noop") for _ in range(400)]
    commands.insert(150, SubmitJob("wait_open"))
    ids = node.door.submit_many(commands)
    short = [job_id for number, job_id in enumerate(ids) if number != 150]
    for job_id in short:
        assert node.ended(job_id).state is JobState.SUCCEEDED
    assert node.door.get(ids[150]).state is JobState.RUNNING
    for job_id in short:
        assert node.outcomes(job_id)[-1] == "succeeded"
        assert node.outcomes(job_id).count("succeeded") == 1
    sample.OPEN.set()
    assert node.ended(ids[150]).state is JobState.SUCCEEDED
