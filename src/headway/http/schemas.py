"""The shapes at the edge. Each mirrors a dataclass of the model; a test compares them field by field."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from headway.http.times import MomentIn, MomentOut
from headway.model.commands import SubmitJob
from headway.model.job import Attempt, Backoff, ErrorInfo, Event, Job, LogLine, Progress
from headway.model.states import VIEW, AttemptOutcome, JobState, Verb
from headway.model.times import to_rfc3339

# No control characters: a name is shown in terminals and pages, and Postgres stores no NUL.
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
LabelValue = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
MAX_SECONDS: Final = 315_360_000.0
"""Ten years: the longest duration that may be asked for."""
CeleryState = Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackoffIn(_In):
    """The pause before a retry of the job's own rule."""

    kind: Literal["none", "fixed", "exponential"] = "none"
    base_seconds: float = Field(1.0, ge=0, le=MAX_SECONDS)
    cap_seconds: float = Field(600.0, ge=0, le=MAX_SECONDS)
    jitter: float = Field(0.0, ge=0, le=1)


class SubmitIn(_In):
    """Run a task."""

    task: Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: Name | None = None
    priority: int = Field(0, ge=0, le=9, description="9 first")
    run_at: MomentIn | None = None
    expires_at: MomentIn | None = None
    timeout_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS, description="of each attempt; 0 is none")
    max_retries: int | None = Field(None, ge=0, le=1_000_000)
    backoff: BackoffIn | None = None
    isolation: Literal["thread", "process"] | None = None
    labels: dict[Name, LabelValue] = {}

    def command(self, *, idempotency_key: str | None = None, traceparent: str | None = None) -> SubmitJob:
        """The command for the service."""
        return SubmitJob(
            task=self.task,
            args=self.args,
            kwargs=self.kwargs,
            queue=self.queue,
            priority=self.priority,
            run_at=self.run_at,
            expires_at=self.expires_at,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
            backoff=None if self.backoff is None else Backoff(**self.backoff.model_dump()),
            isolation=self.isolation,
            labels=self.labels,
            idempotency_key=idempotency_key,
            traceparent=traceparent,
        )


class BatchIn(_In):
    """Many jobs, all or none."""

    jobs: list[SubmitIn]


class CancelIn(_In):
    """Why a job is cancelled; for the record."""

    reason: str = Field("", max_length=1000)


class RerunIn(_In):
    """Arguments of the new job; those of the old one where not given."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


SUBMIT = TypeAdapter(SubmitIn)
BATCH = TypeAdapter(BatchIn)
CANCEL = TypeAdapter(CancelIn)
RERUN = TypeAdapter(RerunIn)


class ProgressOut(_Out):
    """How far a job says it is; ``total`` may be unknown."""

    done: float
    total: float | None
    message: str

    @classmethod
    def of(cls, progress: Progress | None) -> ProgressOut | None:
        """The progress as answered."""
        return None if progress is None else cls(done=progress.done, total=progress.total, message=progress.message)


class ErrorOut(_Out):
    """Why an attempt or a job did not succeed."""

    code: str
    message: str
    traceback: str | None
    exc_type: str | None
    hint: str | None
    exc_args: list[Any] | None

    @classmethod
    def of(cls, error: ErrorInfo | None) -> ErrorOut | None:
        """The error as answered; its text was masked when it was stored."""
        if error is None:
            return None
        return cls(
            code=error.code,
            message=error.message,
            traceback=error.traceback,
            exc_type=error.exc_type,
            hint=error.hint,
            exc_args=error.exc_args,
        )


class BackoffOut(_Out):
    """The pause before a retry of the job's own rule."""

    kind: str
    base_seconds: float
    cap_seconds: float
    jitter: float


class JobOut(_Out):
    """A job as it is now."""

    id: str
    task: str
    state: JobState
    celery_state: CeleryState
    queue: str
    priority: int
    progress: ProgressOut | None
    attempts: int
    max_retries: int
    retries_used: int
    submitted_at: MomentOut
    run_at: MomentOut | None
    started_at: MomentOut | None
    finished_at: MomentOut | None
    expires_at: MomentOut | None
    timeout_seconds: float | None
    isolation: str
    backoff: BackoffOut
    error: ErrorOut | None
    cancel_requested: bool
    cancel_requested_at: MomentOut | None
    fence: int
    rescues: int
    worker_id: str | None
    heartbeat_at: MomentOut | None
    custom_state: str | None
    custom_meta: Any
    retry_of: str | None
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    waits_for: str | None
    children: list[Any]
    schedule_id: str | None
    slot: str | None
    origin: str
    actor: str
    traceparent: str | None
    labels: dict[str, str]
    args: list[Any]
    kwargs: dict[str, Any]
    has_result: bool
    result_removed_at: MomentOut | None

    @classmethod
    def of(cls, job: Job) -> JobOut:
        """The job as answered."""
        # model_construct: the values are ours already, and a list page is 500 of these.
        return cls.model_construct(
            id=job.id,
            task=job.task,
            state=job.state,
            celery_state=VIEW[job.state].celery,
            queue=job.queue,
            priority=job.priority,
            progress=ProgressOut.of(job.progress),
            attempts=job.attempts,
            max_retries=job.max_retries,
            retries_used=job.retries_used,
            submitted_at=to_rfc3339(job.submitted_at),
            run_at=_moment(job.run_at),
            started_at=_moment(job.started_at),
            finished_at=_moment(job.finished_at),
            expires_at=_moment(job.expires_at),
            timeout_seconds=job.timeout_seconds,
            isolation=job.isolation,
            backoff=BackoffOut(
                kind=job.backoff.kind,
                base_seconds=job.backoff.base_seconds,
                cap_seconds=job.backoff.cap_seconds,
                jitter=job.backoff.jitter,
            ),
            error=ErrorOut.of(job.error),
            cancel_requested=job.cancel_requested_at is not None,
            cancel_requested_at=_moment(job.cancel_requested_at),
            fence=job.fence,
            rescues=job.rescues,
            worker_id=job.worker_id,
            heartbeat_at=_moment(job.heartbeat_at),
            custom_state=job.custom_state,
            custom_meta=job.custom_meta,
            retry_of=job.retry_of,
            root_id=job.root_id,
            parent_id=job.parent_id,
            group_id=job.group_id,
            waits_for=job.waits_for,
            children=job.children,
            schedule_id=job.schedule_id,
            slot=job.slot,
            origin=job.origin,
            actor=job.actor,
            traceparent=job.traceparent,
            labels=job.labels,
            args=job.args,
            kwargs=job.kwargs,
            has_result=job.has_result,
            result_removed_at=_moment(job.result_removed_at),
        )


class JobPageOut(_Out):
    """One page of jobs, newest first; ``next_cursor`` is null on the last."""

    items: list[JobOut]
    next_cursor: str | None


class WorkflowOut(_Out):
    """The jobs of one root, oldest first; ``complete`` is false where there are more."""

    root_id: str
    items: list[JobOut]
    complete: bool


class BatchOut(_Out):
    """The ids of the accepted jobs, in the order of the request."""

    job_ids: list[str]


class AttemptOut(_Out):
    """One try of a job."""

    job_id: str
    fence: int
    number: int
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    worker_id: str
    begun_at: MomentOut
    finished_at: MomentOut | None
    outcome: AttemptOutcome | None
    error: ErrorOut | None

    @classmethod
    def of(cls, attempt: Attempt) -> AttemptOut:
        """The attempt as answered."""
        return cls.model_construct(
            job_id=attempt.job_id,
            fence=attempt.fence,
            number=attempt.number,
            task=attempt.task,
            args=attempt.args,
            kwargs=attempt.kwargs,
            worker_id=attempt.worker_id,
            begun_at=to_rfc3339(attempt.begun_at),
            finished_at=_moment(attempt.finished_at),
            outcome=attempt.outcome,
            error=ErrorOut.of(attempt.error),
        )


class AttemptsOut(_Out):
    """All tries of a job, oldest first."""

    items: list[AttemptOut]


class LogLineOut(_Out):
    """One line of a job's log."""

    id: int
    job_id: str
    fence: int
    at: MomentOut
    stream: str
    text: str

    @classmethod
    def of(cls, line: LogLine) -> LogLineOut:
        """The line as answered."""
        return cls.model_construct(
            id=line.id,
            job_id=line.job_id,
            fence=line.fence,
            at=to_rfc3339(line.at),
            stream=line.stream,
            text=line.text,
        )


class LogsOut(_Out):
    """Log lines, oldest first; ``next_after`` is the ``after`` of the next read."""

    items: list[LogLineOut]
    next_after: int


class EventOut(_Out):
    """The data of one transition in a stream of events."""

    job_id: str
    state: JobState
    verb: Verb
    attempt: int
    fence: int
    actor: str
    at: MomentOut
    task: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> EventOut:
        """The transition as answered; its position is the event's ``id:``."""
        return cls(
            job_id=event.job_id,
            state=event.state,
            verb=Verb(event.verb),
            attempt=event.attempt,
            fence=event.fence,
            actor=event.actor,
            at=to_rfc3339(event.at),
            task=event.task,
            data=event.data,
        )


class ResultOut(_Out):
    """What the task returned."""

    result: Any


class FindingOut(_Out):
    """One wrong field."""

    field: str
    message: str


class ProblemOut(BaseModel):
    """RFC 9457: what happened, under which code, and what to do. Further members are the facts of that code."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    trace_id: str
    errors: list[FindingOut] = []


def _moment(at: int | None) -> str | None:
    return None if at is None else to_rfc3339(at)
