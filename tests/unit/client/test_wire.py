from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headway.client.moments import as_datetime, as_micros
from headway.client.problems import error_class, error_of
from headway.client.wire import (
    attempt_from,
    attempt_json,
    dump,
    event_json,
    filters,
    job_from,
    job_json,
    line_from,
    line_json,
    submission_json,
)
from headway.http.schemas import SUBMIT, AttemptOut, EventOut, JobOut, LogLineOut
from headway.model.commands import ListJobs, SubmitJob
from headway.model.errors import HeadwayError, IdempotencyConflict, InvalidRequest, JobNotFound, NotSerializable
from headway.model.job import Attempt, Backoff, ErrorInfo, Event, Job, LogLine, Progress
from headway.model.states import AttemptOutcome, JobState

AT = 1_772_366_400_123_456
ERROR = ErrorInfo("failed", "it broke", "Traceback …", "ValueError", "mend it")


def a_job(**changes: Any) -> Job:
    job = Job(
        id="0195-job",
        task="demo.add",
        state=JobState.RUNNING,
        queue="celery",
        priority=3,
        attempts=2,
        max_retries=4,
        submitted_at=AT,
        run_at=AT + 1,
        started_at=AT + 2,
        finished_at=None,
        expires_at=AT + 5,
        timeout_seconds=1.5,
        isolation="process",
        cancel_requested_at=AT + 3,
        fence=7,
        rescues=1,
        worker_id="w-1",
        heartbeat_at=AT + 4,
        error=ERROR,
        progress=Progress(4.0, 10.0, "so far"),
        custom_state="COOKING",
        custom_meta={"a": 1},
        retry_of="r",
        root_id="s",
        parent_id="t",
        schedule_id=None,
        slot=None,
        origin="api",
        actor="local:0",
        traceparent="00-a-b-01",
        backoff=Backoff("fixed", 2.0, 3.0, 0.5),
        labels={"k": "v"},
        args=[1],
        kwargs={"x": [2]},
        has_result=False,
        result_removed_at=None,
        retries_used=1,
    )
    return dataclasses.replace(job, **changes)


@pytest.mark.parametrize(
    "job", [a_job(), a_job(error=None, progress=None, labels={}, state=JobState.SUCCEEDED, has_result=True)]
)
def test_a_job_is_what_the_server_answers_field_by_field_and_back(job: Job) -> None:
    answered = JobOut.of(job).model_dump(mode="json")
    assert job_json(job) == answered
    assert job_from(answered) == job


def test_an_attempt_a_line_and_an_event_are_what_the_server_answers() -> None:
    attempt = Attempt("j", 3, 1, "t", [1], {"a": 2}, "w", AT, AT + 1, AttemptOutcome.FAILED, ERROR)
    answered = AttemptOut.of(attempt).model_dump(mode="json")
    assert attempt_json(attempt) == answered
    assert attempt_from("j", answered) == attempt
    line = LogLine(5, "j", 3, AT, "stdout", "hello")
    assert line_json(line) == LogLineOut.of(line).model_dump(mode="json")
    assert line_from("j", line_json(line)) == line
    event = Event(9, "j", JobState.FAILED, "fail", 1, 3, "worker:w", AT, "t", {"code": "failed"})
    assert event_json(event) == EventOut.of(event).model_dump(mode="json")


def test_a_submission_arrives_as_it_was_given() -> None:
    command = SubmitJob(
        "demo.add",
        args=[1],
        kwargs={"b": None},
        queue="q",
        priority=9,
        run_at=AT,
        expires_at=AT + 1,
        timeout_seconds=0,
        max_retries=0,
        backoff=Backoff("exponential", 1.0, 60.0, 0.1),
        isolation="process",
        labels={"k": "v"},
    )
    assert SUBMIT.validate_json(dump(submission_json(command))).command() == command
    assert submission_json(SubmitJob("t")) == {"task": "t"}


def test_filters_leave_out_what_was_not_given() -> None:
    assert filters(ListJobs()) == {"limit": 50}
    given = filters(ListJobs(states=(JobState.FAILED, JobState.TIMEOUT), label=("a", "b=c"), since=AT))
    assert given == {
        "state": ["failed", "timeout"],
        "label": "a=b=c",
        "since": "2026-03-01T12:00:00.123456Z",
        "limit": 50,
    }


@pytest.mark.parametrize("value", [object(), float("nan"), {1: object()}, b"bytes"])
def test_what_json_cannot_say_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(NotSerializable):
        dump({"args": [value]})


def subclasses(root: type[HeadwayError]) -> list[type[HeadwayError]]:
    return [deep for child in root.__subclasses__() for deep in (child, *subclasses(child))]


def test_every_code_of_the_tree_comes_back_as_its_class() -> None:
    known = [
        one for one in subclasses(HeadwayError) if "code" in one.__dict__ and one.__module__ == "headway.model.errors"
    ]
    assert len(known) > 25
    for one in known:
        error = error_of(400, {"code": one.code, "detail": "what", "hint": "do", "near": ["a"], "title": "x"})
        assert type(error) is one
        assert (error.message, error.hint, error.details) == ("what", "do", {"near": ["a"]})


def test_an_unknown_code_and_a_strange_answer_are_errors_too() -> None:
    error = error_of(418, {"code": "teapot", "detail": "short and stout"})
    assert isinstance(error, HeadwayError)
    assert error.code == "teapot"
    strange = error_of(502, None, "<html>Bad   gateway</html>")
    assert strange.code == "unexpected_answer"
    assert "Bad gateway" in strange.message
    assert error_class("job_not_found") is JobNotFound
    assert error_class("idempotency_conflict") is IdempotencyConflict


def test_datetimes_keep_their_microseconds_and_need_a_zone() -> None:
    moment = datetime(2026, 3, 1, 14, 0, 0, 123456, tzinfo=UTC) - timedelta(hours=2)
    assert as_micros(moment) == AT
    assert as_datetime(AT) == moment
    with pytest.raises(InvalidRequest) as caught:
        as_micros(datetime(2026, 3, 1))  # noqa: DTZ001 - the mistake under test
    assert "no zone" in caught.value.message
