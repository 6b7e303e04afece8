from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from headway.feed.frames import event_frame, log_frame
from headway.http import schemas
from headway.model.commands import SubmitJob
from headway.model.job import Attempt, Backoff, ErrorInfo, Event, Job, LogLine, Progress
from headway.model.states import STATE_VIEWS, JobState
from headway.model.times import from_rfc3339

NOW = 1_772_366_400_123_456
JOB = Job(
    id="j",
    task="t",
    state=JobState.RUNNING,
    queue="q",
    priority=3,
    attempts=1,
    max_retries=2,
    submitted_at=NOW,
    run_at=None,
    started_at=NOW + 1,
    finished_at=None,
    expires_at=None,
    timeout_seconds=1.5,
    isolation="thread",
    cancel_requested_at=NOW + 2,
    fence=4,
    rescues=0,
    worker_id="w",
    heartbeat_at=NOW,
    error=ErrorInfo("c", "m"),
    progress=Progress(1, 4, "go"),
    custom_state=None,
    custom_meta={"a": 1},
    retry_of=None,
    root_id=None,
    parent_id=None,
    schedule_id=None,
    slot=None,
    origin="api",
    actor="local:0",
    traceparent=None,
    backoff=Backoff(),
)
# What the edge says in addition, and what it leaves out, each with its reason.
ADDED: dict[type[BaseModel], set[str]] = {schemas.JobOut: {"celery_state", "cancel_requested"}}
# Set by other faces and by the service, never by a caller of REST.
NOT_ASKED: dict[type[BaseModel], set[str]] = {
    schemas.SubmitIn: {
        "job_id", "idempotency_key", "retry_of", "root_id", "parent_id", "origin", "traceparent", "canvas",
        "celery_retries", "group_id", "join_id", "waits_for", "grows_join",
    }
}  # fmt: skip
LEFT_OUT: dict[type[BaseModel], set[str]] = {schemas.EventOut: {"pos"}}  # it is the event's id


@pytest.mark.parametrize(
    ("edge", "inside"),
    [
        (schemas.JobOut, Job),
        (schemas.AttemptOut, Attempt),
        (schemas.ProgressOut, Progress),
        (schemas.ErrorOut, ErrorInfo),
        (schemas.BackoffOut, Backoff),
        (schemas.BackoffIn, Backoff),
        (schemas.LogLineOut, LogLine),
        (schemas.EventOut, Event),
        (schemas.SubmitIn, SubmitJob),
    ],
)
def test_the_edge_has_the_fields_of_the_inside(edge: type[BaseModel], inside: type[Any]) -> None:
    fields = {field.name for field in dataclasses.fields(inside)}
    expected = fields - LEFT_OUT.get(edge, set()) - NOT_ASKED.get(edge, set())
    assert set(edge.model_fields) - ADDED.get(edge, set()) == expected


def test_a_job_that_is_answered_is_valid_and_loses_nothing() -> None:
    out = json.loads(schemas.JobOut.of(JOB).model_dump_json())
    schemas.JobOut.model_validate(out)
    for field in dataclasses.fields(Job):
        value, shown = getattr(JOB, field.name), out[field.name]
        if field.name.endswith("_at") or field.name == "run_at":
            assert shown == (None if value is None else shown)
            assert value is None or from_rfc3339(shown) == value
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            assert shown == dataclasses.asdict(value)
        else:
            assert shown == value
    assert out["submitted_at"] == "2026-03-01T12:00:00.123456Z"
    assert out["cancel_requested"] is True


@pytest.mark.parametrize("view", STATE_VIEWS)
def test_celerys_word_for_every_state(view: Any) -> None:
    assert schemas.JobOut.of(dataclasses.replace(JOB, state=view.state)).celery_state == view.celery
    schemas.JobOut.model_validate(schemas.JobOut.of(dataclasses.replace(JOB, state=view.state)).model_dump())


def test_the_streams_data_is_what_the_schema_says() -> None:
    event = Event(7, "j", JobState.RUNNING, "begin", 1, 4, "worker:w", NOW, "t", {"why": "x"})
    lines = event_frame(event).native.decode().splitlines()
    assert lines[:2] == ["id: 7", "event: running"]
    data = json.loads(lines[2].removeprefix("data: "))
    assert data == json.loads(schemas.EventOut.of(event).model_dump_json())
    line = LogLine(1, "j", 4, NOW, "log", "two\nlines")
    data = json.loads(log_frame([line]).native.decode().splitlines()[1].removeprefix("data: "))
    assert data == json.loads(schemas.LogLineOut.of(line).model_dump_json())


def test_a_submit_becomes_the_command() -> None:
    raw = {
        "task": "t",
        "args": [1],
        "kwargs": {"a": None},
        "queue": "q",
        "priority": 9,
        "run_at": "2026-03-01T13:00:00.5+01:00",
        "expires_at": "2026-03-02T00:00:00Z",
        "timeout_seconds": 3,
        "max_retries": 4,
        "backoff": {"kind": "exponential", "base_seconds": 2, "jitter": 0.5},
        "isolation": "process",
        "labels": {"a": "b"},
    }
    command = schemas.SUBMIT.validate_json(json.dumps(raw)).command(idempotency_key="k", traceparent="tp")
    assert command == SubmitJob(
        task="t",
        args=[1],
        kwargs={"a": None},
        queue="q",
        priority=9,
        run_at=1_772_366_400_500_000,
        expires_at=1_772_409_600_000_000,
        timeout_seconds=3.0,
        max_retries=4,
        backoff=Backoff("exponential", 2.0, 600.0, 0.5),
        isolation="process",
        labels={"a": "b"},
        idempotency_key="k",
        traceparent="tp",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"task": ""},
        {"task": 3},
        {"task": "t" * 256},
        {"task": "t\u0000"},
        {"task": "t", "args": {}},
        {"task": "t", "kwargs": []},
        {"task": "t", "priority": "3"},
        {"task": "t", "priority": 10},
        {"task": "t", "priority": True},
        {"task": "t", "run_at": "2026-03-01T13:00:00"},
        {"task": "t", "run_at": 1772366400},
        {"task": "t", "run_at": "tomorrow"},
        {"task": "t", "timeout_seconds": -1},
        {"task": "t", "max_retries": 1.5},
        {"task": "t", "backoff": {"kind": "random"}},
        {"task": "t", "backoff": {"jitter": 2}},
        {"task": "t", "isolation": "container"},
        {"task": "t", "labels": {"a": 1}},
        {"task": "t", "surprise": 1},
    ],
)
def test_a_wrong_submit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schemas.SUBMIT.validate_json(json.dumps(wrong))
