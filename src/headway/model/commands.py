"""What is asked of the service, and what an engine reports: imperative names, frozen, already parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headway.model.job import Backoff, ErrorInfo, Progress
from headway.model.states import AttemptOutcome, JobState


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Run a task.

    Attributes:
        task: registered name of the task.
        args, kwargs: JSON values (also what Celery's JSON carries: dates, UUIDs, Decimals).
        job_id: the caller's own id (a Celery task id, say); a new UUIDv7 when None.
        run_at: not before this time, UTC microseconds; None is now.
        expires_at: cancelled as ``expired`` when not begun by then.
        timeout_seconds, max_retries, backoff, isolation, queue: None takes the task's own, then the setting.
        idempotency_key: same key and payload by the same caller for the same task is the same job.
        celery_retries: Celery's ``request.retries`` of the first attempt.
        canvas: callbacks, errbacks, chain and group of the Celery message (JSON).
        isolation: ``thread`` or ``process``.
        group_id: Celery's id of the group it belongs to.
        join_id: the join that its end counts for.
        waits_for: the join whose end makes it ready; no time does.
        grows_join: its join has one part more because of it.
    """

    task: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    job_id: str | None = None
    queue: str | None = None
    priority: int = 0
    run_at: int | None = None
    expires_at: int | None = None
    timeout_seconds: float | None = None
    max_retries: int | None = None
    backoff: Backoff | None = None
    isolation: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    retry_of: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    origin: str = "api"
    traceparent: str | None = None
    canvas: Mapping[str, Any] | None = None
    celery_retries: int = 0
    group_id: str | None = None
    join_id: str | None = None
    waits_for: str | None = None
    grows_join: bool = False


@dataclass(frozen=True, slots=True)
class NewJoin:
    """What waits for the jobs of a group: stored together with them.

    Attributes:
        id: Celery's id of the group.
        size: how many jobs must end.
        shape: their ids, nested as their results are to be; None is in the order of their places.
    """

    id: str
    size: int
    shape: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class ListJobs:
    """Filters of a list; every given filter must hold. ``cursor`` is the one of the page before."""

    states: tuple[JobState, ...] = ()
    task: str | None = None
    queue: str | None = None
    worker: str | None = None
    label: tuple[str, str] | None = None
    text: str | None = None
    since: int | None = None
    until: int | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that this worker now holds: everything needed to run it, JSON still as text."""

    job_id: str
    fence: int
    attempt: int
    task: str
    args_json: str
    kwargs_json: str
    canvas_json: str | None
    queue: str
    priority: int
    celery_retries: int
    max_retries: int
    retries_used: int
    rescues: int
    timeout_seconds: float | None
    isolation: str
    backoff_json: str | None
    root_id: str | None
    parent_id: str | None
    traceparent: str | None
    begun_at: int
    join_id: str | None = None


@dataclass(frozen=True, slots=True)
class Resend:
    """A send with the running attempt's own id: the next attempt of the same job, not a new job.

    ``waits_for`` is the join whose end makes it ready.
    """

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    due_at: int | None
    celery_retries: int
    canvas: Mapping[str, Any] | None
    waits_for: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """How an attempt ended, as its holder reports it.

    Attributes:
        outcome: what the tracer (or the parent that killed it) saw. ``RETRIED`` and ``REPLACED`` carry
            ``resend``; ``INTERRUPTED`` goes back to the queue and costs no try; ``REJECTED`` with
            ``requeue`` goes back too.
        result_json: the result as JSON text, for ``SUCCEEDED``.
        sends: submits that Celery made after the body returned (chain, callbacks): committed with the finish.
        may_retry: whether the job's own retry rule may apply to this failure.
        progress: the last that the attempt said and no beat has carried.
        joins: what waits for jobs among ``sends``.
        awaits_send: for ``REPLACED`` without ``resend``: a job of ``sends``, or one that follows it, will send the next
            attempt of this job.
        part_json: the result as JSON text for the join that waits for it, where the job keeps none.
        children_json: what the attempt sent, as Celery's tuples.
        grows: how many further parts joins have, that are sent later.
        held: the attempt's thread cannot be stopped and still runs: no attempt of the job begins until released.
    """

    job_id: str
    fence: int
    outcome: AttemptOutcome
    result_json: str | None = None
    error: ErrorInfo | None = None
    sends: tuple[SubmitJob, ...] = ()
    resend: Resend | None = None
    requeue: bool = False
    may_retry: bool = True
    held: bool = False
    begun: Begun | None = None
    progress: Progress | None = None
    joins: tuple[NewJoin, ...] = ()
    awaits_send: bool = False
    part_json: str | None = None
    children_json: str | None = None
    grows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinishAnswer:
    """What became of a finish: ``state`` entered, or ``refused`` because the attempt was superseded."""

    state: JobState | None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class BeatReport:
    """What the parent says of one running attempt; ``progress`` and custom state only when they changed."""

    job_id: str
    fence: int
    progress: Progress | None = None
    custom_state: str | None = None
    custom_meta_json: str | None = None


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """What the store says back: (job, fence) pairs asked to cancel, and pairs no longer held."""

    cancel_requested: frozenset[tuple[str, int]]
    superseded: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class NewLogLine:
    """One line that a running attempt wrote. ``stream`` is ``log``, ``stdout`` or ``stderr``."""

    job_id: str
    fence: int
    at: int
    stream: str
    text: str
