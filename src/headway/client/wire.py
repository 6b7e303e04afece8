"""The model's dataclasses from and to the JSON of REST. What a server does not say takes a neutral value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headway.client.moments import from_wire, to_wire
from headway.model.errors import NotSerializable
from headway.model.job import Attempt, Backoff, ErrorInfo, Event, Job, LogLine, Progress, Workflow
from headway.model.states import VIEW, AttemptOutcome, JobState

if TYPE_CHECKING:
    from headway.model.commands import ListJobs, SubmitJob


def error_from(body: Mapping[str, Any] | None) -> ErrorInfo | None:
    """The error of a job or an attempt."""
    if body is None:
        return None
    return ErrorInfo(
        code=str(body.get("code", "error")),
        message=str(body.get("message", "")),
        traceback=body.get("traceback"),
        exc_type=body.get("exc_type"),
        hint=body.get("hint"),
        exc_args=body.get("exc_args"),
    )


def progress_from(body: Mapping[str, Any] | None) -> Progress | None:
    """The progress of a running job."""
    if body is None:
        return None
    return Progress(done=body.get("done") or 0.0, total=body.get("total"), message=body.get("message") or "")


def job_from(body: Mapping[str, Any]) -> Job:
    """One job as REST shows it."""
    backoff = body.get("backoff")
    return Job(
        id=body["id"],
        task=body["task"],
        state=JobState(body["state"]),
        queue=body.get("queue", ""),
        priority=body.get("priority", 0),
        attempts=body.get("attempts", 0),
        max_retries=body.get("max_retries", 0),
        retries_used=body.get("retries_used", 0),
        submitted_at=from_wire(body["submitted_at"]) or 0,
        run_at=from_wire(body.get("run_at")),
        started_at=from_wire(body.get("started_at")),
        finished_at=from_wire(body.get("finished_at")),
        expires_at=from_wire(body.get("expires_at")),
        timeout_seconds=body.get("timeout_seconds"),
        isolation=body.get("isolation", ""),
        cancel_requested_at=_asked_at(body),
        fence=body.get("fence", 0),
        rescues=body.get("rescues", 0),
        worker_id=body.get("worker_id"),
        heartbeat_at=from_wire(body.get("heartbeat_at")),
        error=error_from(body.get("error")),
        progress=progress_from(body.get("progress")),
        custom_state=body.get("custom_state"),
        custom_meta=body.get("custom_meta"),
        retry_of=body.get("retry_of"),
        root_id=body.get("root_id"),
        parent_id=body.get("parent_id"),
        group_id=body.get("group_id"),
        waits_for=body.get("waits_for"),
        children=list(body.get("children") or []),
        schedule_id=body.get("schedule_id"),
        slot=body.get("slot"),
        origin=body.get("origin", ""),
        actor=body.get("actor", ""),
        traceparent=body.get("traceparent"),
        backoff=Backoff(**backoff) if isinstance(backoff, Mapping) else Backoff(),
        labels=dict(body.get("labels") or {}),
        args=list(body.get("args") or []),
        kwargs=dict(body.get("kwargs") or {}),
        has_result=bool(body.get("has_result", body["state"] == JobState.SUCCEEDED)),
        result_removed_at=from_wire(body.get("result_removed_at")),
    )


def _asked_at(body: Mapping[str, Any]) -> int | None:
    """When cancelling was asked for; a server that only says that it was leaves the time of submission."""
    asked = from_wire(body.get("cancel_requested_at"))
    if asked is None and body.get("cancel_requested"):
        return from_wire(body["submitted_at"])
    return asked


def attempt_from(job_id: str, body: Mapping[str, Any]) -> Attempt:
    """One attempt as REST shows it."""
    outcome = body.get("outcome")
    return Attempt(
        job_id=job_id,
        fence=body.get("fence", 0),
        number=body.get("number", 0),
        task=body.get("task", ""),
        args=list(body.get("args") or []),
        kwargs=dict(body.get("kwargs") or {}),
        worker_id=body.get("worker_id") or "",
        begun_at=from_wire(body.get("begun_at")) or 0,
        finished_at=from_wire(body.get("finished_at")),
        outcome=AttemptOutcome(outcome) if outcome else None,
        error=error_from(body.get("error")),
    )


def line_from(job_id: str, body: Mapping[str, Any]) -> LogLine:
    """One line of a log as REST and the stream show it."""
    return LogLine(
        id=body.get("id", 0),
        job_id=job_id,
        fence=body.get("fence", 0),
        at=from_wire(body.get("at")) or 0,
        stream=body.get("stream", "log"),
        text=body.get("text", ""),
    )


def error_json(error: ErrorInfo | None) -> dict[str, Any] | None:
    """An error as JSON values."""
    if error is None:
        return None
    return {
        "code": error.code,
        "message": error.message,
        "traceback": error.traceback,
        "exc_type": error.exc_type,
        "hint": error.hint,
        "exc_args": error.exc_args,
    }


def progress_json(progress: Progress | None) -> dict[str, Any] | None:
    """A progress as JSON values."""
    if progress is None:
        return None
    return {"done": progress.done, "total": progress.total, "message": progress.message}


def job_json(job: Job) -> dict[str, Any]:
    """A job as JSON values, field by field what REST answers."""
    return {
        "id": job.id,
        "task": job.task,
        "state": job.state.value,
        "celery_state": VIEW[job.state].celery,
        "queue": job.queue,
        "priority": job.priority,
        "progress": progress_json(job.progress),
        "attempts": job.attempts,
        "max_retries": job.max_retries,
        "retries_used": job.retries_used,
        "submitted_at": to_wire(job.submitted_at),
        "run_at": to_wire(job.run_at),
        "started_at": to_wire(job.started_at),
        "finished_at": to_wire(job.finished_at),
        "expires_at": to_wire(job.expires_at),
        "timeout_seconds": job.timeout_seconds,
        "isolation": job.isolation,
        "backoff": backoff_json(job.backoff),
        "error": error_json(job.error),
        "cancel_requested": job.cancel_requested_at is not None,
        "cancel_requested_at": to_wire(job.cancel_requested_at),
        "fence": job.fence,
        "rescues": job.rescues,
        "worker_id": job.worker_id,
        "heartbeat_at": to_wire(job.heartbeat_at),
        "custom_state": job.custom_state,
        "custom_meta": job.custom_meta,
        "retry_of": job.retry_of,
        "root_id": job.root_id,
        "parent_id": job.parent_id,
        "group_id": job.group_id,
        "waits_for": job.waits_for,
        "children": job.children,
        "schedule_id": job.schedule_id,
        "slot": job.slot,
        "origin": job.origin,
        "actor": job.actor,
        "traceparent": job.traceparent,
        "labels": job.labels,
        "args": job.args,
        "kwargs": job.kwargs,
        "has_result": job.has_result,
        "result_removed_at": to_wire(job.result_removed_at),
    }


def backoff_json(backoff: Backoff) -> dict[str, Any]:
    """A backoff as JSON values."""
    return {
        "kind": backoff.kind,
        "base_seconds": backoff.base_seconds,
        "cap_seconds": backoff.cap_seconds,
        "jitter": backoff.jitter,
    }


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON values."""
    return {
        "job_id": attempt.job_id,
        "fence": attempt.fence,
        "number": attempt.number,
        "task": attempt.task,
        "args": attempt.args,
        "kwargs": attempt.kwargs,
        "worker_id": attempt.worker_id,
        "begun_at": to_wire(attempt.begun_at),
        "finished_at": to_wire(attempt.finished_at),
        "outcome": attempt.outcome.value if attempt.outcome else None,
        "error": error_json(attempt.error),
    }


def line_json(line: LogLine) -> dict[str, Any]:
    """A line of a log as JSON values."""
    return {
        "id": line.id,
        "job_id": line.job_id,
        "fence": line.fence,
        "at": to_wire(line.at),
        "stream": line.stream,
        "text": line.text,
    }


def event_json(event: Event) -> dict[str, Any]:
    """A transition as JSON values."""
    return {
        "job_id": event.job_id,
        "state": event.state.value,
        "verb": event.verb,
        "attempt": event.attempt,
        "fence": event.fence,
        "actor": event.actor,
        "at": to_wire(event.at),
        "task": event.task,
        "data": event.data,
    }


def submission_json(command: SubmitJob) -> dict[str, Any]:
    """A command as the body of REST: what was not given is left out."""
    body: dict[str, Any] = {
        "task": command.task,
        "args": command.args or None,
        "kwargs": command.kwargs or None,
        "queue": command.queue,
        "priority": command.priority or None,
        "run_at": to_wire(command.run_at),
        "expires_at": to_wire(command.expires_at),
        "timeout_seconds": command.timeout_seconds,
        "max_retries": command.max_retries,
        "backoff": backoff_json(command.backoff) if command.backoff else None,
        "isolation": command.isolation,
        "labels": dict(command.labels) or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def filters(query: ListJobs) -> dict[str, Any]:
    """A query of a list as the parameters of REST: what was not given is left out."""
    given: dict[str, Any] = {
        "state": [state.value for state in query.states] or None,
        "task": query.task,
        "queue": query.queue,
        "worker": query.worker,
        "label": "=".join(query.label) if query.label else None,
        "text": query.text,
        "since": to_wire(query.since),
        "until": to_wire(query.until),
        "limit": query.limit,
        "cursor": query.cursor,
    }
    return {name: value for name, value in given.items() if value is not None}


def dump(body: Mapping[str, Any]) -> bytes:
    """A body as JSON; raises ``NotSerializable`` for what JSON has no words for."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise NotSerializable(f"An argument cannot be written as JSON: {error}.") from error


def workflow_json(workflow: Workflow) -> dict[str, Any]:
    """The jobs of a workflow in the words of REST."""
    items = [job_json(job) for job in workflow.jobs]
    return {"root_id": workflow.root_id, "items": items, "complete": workflow.complete}
