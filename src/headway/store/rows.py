"""Rows to the model's dataclasses."""

from __future__ import annotations

import json
from collections import namedtuple
from typing import Any

import sqlalchemy as sa

from headway.model.job import Attempt, Backoff, ErrorInfo, Event, Job, LogLine, Progress, Session
from headway.model.states import AttemptOutcome, JobState
from headway.store.tables import attempts, events, job_logs, jobs, sessions

# The result may be megabytes: a list or a status never reads it.
_HIDDEN = frozenset({"result", "result_blob"})
HAS_RESULT = sa.or_(jobs.c.result.is_not(None), jobs.c.result_blob.is_not(None)).label("has_result")
JOB_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (*(c for c in jobs.columns if c.name not in _HIDDEN), HAS_RESULT)
JobRow = namedtuple("JobRow", [column.name for column in JOB_COLUMNS])  # type: ignore[misc]  # noqa: PYI024
"""A row of ``JOB_COLUMNS`` that did not come through SQLAlchemy."""
EVENT_COLUMNS = tuple(events.columns)
EventRow = namedtuple("EventRow", [column.name for column in EVENT_COLUMNS])  # type: ignore[misc]  # noqa: PYI024
"""A row of ``EVENT_COLUMNS`` that did not come through SQLAlchemy."""
LOG_COLUMNS = tuple(job_logs.columns)
SESSION_COLUMNS = tuple(sessions.columns)
ATTEMPT_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    attempts.c.job_id,
    attempts.c.fence,
    attempts.c.number,
    sa.func.coalesce(attempts.c.task, jobs.c.task).label("task"),
    sa.func.coalesce(attempts.c.args, jobs.c.args).label("args"),
    sa.func.coalesce(attempts.c.kwargs, jobs.c.kwargs).label("kwargs"),
    attempts.c.worker_id,
    attempts.c.begun_at,
    attempts.c.finished_at,
    attempts.c.outcome,
    attempts.c.error,
)


_NO_PAUSE = Backoff()


def parse_error(text: str | None) -> ErrorInfo | None:
    """A stored error."""
    return ErrorInfo(**json.loads(text)) if text else None


def parse_backoff(text: str | None) -> Backoff:
    """A stored backoff; none is no pause."""
    return Backoff(**json.loads(text)) if text else _NO_PAUSE


def _parse_arguments(text: str) -> Any:
    # Most jobs have no args or no kwargs.
    return [] if text == "[]" else {} if text == "{}" else json.loads(text)


def to_job(row: Any) -> Job:
    """A job from a row of ``JOB_COLUMNS``."""
    progress = None
    if row.progress_done is not None:
        progress = Progress(row.progress_done, row.progress_total, row.progress_message or "")
    return Job(
        id=row.id,
        task=row.task,
        state=JobState(row.state),
        queue=row.queue,
        priority=row.priority,
        attempts=row.attempts,
        max_retries=row.max_retries,
        submitted_at=row.submitted_at,
        run_at=row.run_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        timeout_seconds=row.timeout_seconds,
        isolation=row.isolation,
        cancel_requested_at=row.cancel_requested_at,
        fence=row.fence,
        rescues=row.rescues,
        worker_id=row.worker_id,
        heartbeat_at=row.heartbeat_at,
        error=parse_error(row.error),
        progress=progress,
        custom_state=row.custom_state,
        custom_meta=json.loads(row.custom_meta) if row.custom_meta else None,
        retry_of=row.retry_of,
        root_id=row.root_id,
        parent_id=row.parent_id,
        schedule_id=row.schedule_id,
        slot=row.slot,
        origin=row.origin,
        actor=row.actor,
        traceparent=row.traceparent,
        backoff=parse_backoff(row.backoff),
        labels=json.loads(row.labels) if row.labels else {},
        args=_parse_arguments(row.args),
        kwargs=_parse_arguments(row.kwargs),
        has_result=bool(row.has_result),
        result_removed_at=row.result_removed_at,
        retries_used=row.retries_used,
        group_id=row.group_id,
        waits_for=row.waits_for,
        children=json.loads(row.children) if row.children else [],
    )


def to_attempt(row: Any) -> Attempt:
    """An attempt from a row of ``ATTEMPT_COLUMNS``."""
    return Attempt(
        job_id=row.job_id,
        fence=row.fence,
        number=row.number,
        task=row.task,
        args=json.loads(row.args),
        kwargs=json.loads(row.kwargs),
        worker_id=row.worker_id,
        begun_at=row.begun_at,
        finished_at=row.finished_at,
        outcome=AttemptOutcome(row.outcome) if row.outcome else None,
        error=parse_error(row.error),
    )


def to_event(row: Any) -> Event:
    """An event from a row of ``EVENT_COLUMNS``."""
    return Event(
        pos=row.pos,
        job_id=row.job_id,
        state=JobState(row.state),
        verb=row.verb,
        attempt=row.attempt,
        fence=row.fence,
        actor=row.actor,
        at=row.at,
        task=row.task,
        data=json.loads(row.data) if row.data else {},
    )


def to_log_line(row: Any) -> LogLine:
    """A log line from a row of ``LOG_COLUMNS``."""
    return LogLine(row.id, row.job_id, row.fence, row.at, row.stream, row.text)


def to_session(row: Any) -> Session:
    """A session from a row of ``SESSION_COLUMNS``."""
    return Session(row.id, row.kind, json.loads(row.body), row.version, row.created_at, row.updated_at, row.actor)
