"""Tasks that misbehave: each ends with a code, alone, and the server goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.client import Client
from headway.model.errors import JobHasNoResult
from headway.model.job import Job
from headway.model.states import JobState
from tests.waiting import wait_until


def _failed(client: Client, task: str, *args: object, state: JobState = JobState.FAILED) -> Job:
    ended = client.wait(client.submit(task, list(args)).id, 60)
    assert ended.state is state, ended
    assert ended.error is not None
    assert ended.error.message
    with pytest.raises(JobHasNoResult):
        client.result(ended.id)
    return ended


def test_it_raises(client: Client) -> None:
    error = _failed(client, "bad.raises", "luck").error
    assert error is not None
    assert error.code == "task_failed"
    assert error.exc_type is not None
    assert error.exc_type.endswith("ValueError")
    assert "no luck" in error.message
    assert error.traceback is not None
    assert "bad.py" in error.traceback
    assert "hunter2" not in f"{error}"


@pytest.mark.parametrize("task", ["returns_an_object", "returns_nan", "object_in_a_child"])
def test_it_returns_what_cannot_be_stored(client: Client, task: str) -> None:
    error = _failed(client, f"bad.{task}").error
    assert error is not None
    assert error.code == "result_not_serializable"
    assert error.hint


def test_it_raises_system_exit_in_a_thread(client: Client) -> None:
    error = _failed(client, "bad.exits").error
    assert error is not None
    assert error.code == "task_exited"


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("_exit", "child_exited", "code 7"),
        ("segfault", "child_crashed", "SIGSEGV"),
        ("abort", "child_crashed", "SIGABRT"),
    ],
)
def test_it_ends_its_process(client: Client, how: str, code: str, says: str) -> None:
    error = _failed(client, "bad.ends_its_process", how).error
    assert error is not None
    assert error.code == code
    assert says in error.message


def test_it_eats_memory(client: Client) -> None:
    error = _failed(client, "bad.eats_memory").error
    assert error is not None
    assert error.code == "memory_limit"
    assert "300 MB" in error.message


@pytest.mark.parametrize("task", ["computes_for_ever", "holds_the_interpreter"])
def test_a_process_that_never_ends_is_killed_at_its_timeout(client: Client, task: str) -> None:
    ended = _failed(client, f"bad.{task}", state=JobState.TIMEOUT)
    assert ended.error is not None
    assert ended.error.code == "timeout"
    assert ended.finished_at is not None
    assert ended.started_at is not None
    assert 1.0 <= (ended.finished_at - ended.started_at) / 1e6 < 20
    wait_until(
        lambda: client.ready()["parts"]["engine"]["detail"].startswith("0 running"), what="nothing of it to run on"
    )


def test_a_thread_that_never_ends_times_out_and_its_slot_is_lost_until_it_returns(
    client: Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = client.submit("bad.never_ends", [str(gate)])
    ended = client.wait(job.id, 30)
    assert ended.state is JobState.TIMEOUT
    engine = client.ready()["parts"]["engine"]
    assert engine["status"] == "degraded"
    assert "1 lost" in engine["detail"]
    assert "isolation='process'" in engine["hint"]
    again = client.rerun(job.id)
    gate.touch()
    assert client.wait(again.id, 30).state is JobState.SUCCEEDED
    wait_until(lambda: client.ready()["parts"]["engine"]["status"] == "ok", what="the slot to be back")
    assert client.get(job.id).state is JobState.TIMEOUT, "what comes back late changes nothing"
