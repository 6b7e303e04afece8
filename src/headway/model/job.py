"""Jobs, attempts, events and log lines as they are read. Times are integer UTC microseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from headway.model.states import AttemptOutcome, JobState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job says it is; ``total`` may be unknown."""

    done: float
    total: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why an attempt or a job did not succeed.

    ``exc_args`` are the arguments of the exception, where they say more than its message.
    """

    code: str
    message: str
    traceback: str | None = None
    exc_type: str | None = None
    hint: str | None = None
    exc_args: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before a retry of the job's own rule.

    Attributes:
        kind: ``none``, ``fixed`` or ``exponential``.
        base_seconds: the first pause.
        cap_seconds: no pause is longer.
        jitter: share of the pause, 0 to 1, that is drawn at random.
    """

    kind: str = "none"
    base_seconds: float = 1.0
    cap_seconds: float = 600.0
    jitter: float = 0.0

    def pause(self, retry: int, random_unit: float) -> float:
        """Seconds before retry number ``retry`` (1 is the first); ``random_unit`` is in [0, 1)."""
        if self.kind == "none":
            return 0.0
        pause = self.base_seconds
        if self.kind == "exponential":
            # 2**63 s is beyond any cap; without the bound a large retry number overflows the float.
            pause = self.base_seconds * 2.0 ** min(retry - 1, 63)
        pause = min(pause, self.cap_seconds)
        return pause * (1.0 - self.jitter * random_unit)


@dataclass(frozen=True, slots=True)
class Job:
    """One request to run a task, as stored.

    ``args`` and ``kwargs`` are as submitted; an attempt that a retry gave other arguments says so itself.
    """

    id: str
    task: str
    state: JobState
    queue: str
    priority: int
    attempts: int
    max_retries: int
    submitted_at: int
    run_at: int | None
    started_at: int | None
    finished_at: int | None
    expires_at: int | None
    timeout_seconds: float | None
    isolation: str
    cancel_requested_at: int | None
    fence: int
    rescues: int
    worker_id: str | None
    heartbeat_at: int | None
    error: ErrorInfo | None
    progress: Progress | None
    custom_state: str | None
    custom_meta: Any
    retry_of: str | None
    root_id: str | None
    parent_id: str | None
    schedule_id: str | None
    slot: str | None
    origin: str
    actor: str
    traceparent: str | None
    backoff: Backoff
    labels: dict[str, str] = field(default_factory=dict)
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    has_result: bool = False
    result_removed_at: int | None = None
    retries_used: int = 0
    group_id: str | None = None
    waits_for: str | None = None
    children: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Workflow:
    """The jobs of one root, oldest first.

    Attributes:
        root_id: of the job that everything began with.
        jobs: the root first; then what it, or what it sent, sent.
        complete: False where there are more than were asked for.
    """

    root_id: str
    jobs: tuple[Job, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a job, begun under a fence."""

    job_id: str
    fence: int
    number: int
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    worker_id: str
    begun_at: int
    finished_at: int | None
    outcome: AttemptOutcome | None
    error: ErrorInfo | None


@dataclass(frozen=True, slots=True)
class Event:
    """One transition in the feed. ``pos`` is the place the sequencer gave it: cursors read nothing else."""

    pos: int
    job_id: str
    state: JobState
    verb: str
    attempt: int
    fence: int
    actor: str
    at: int
    task: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log. ``id`` grows within the job and is the ``after`` of the next read."""

    id: int
    job_id: str
    fence: int
    at: int
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, newest first, and the cursor of the next one."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Session:
    """A named document of a workload (a loaded simulation, say) kept in the store.

    ``version`` grows with every change, so that two writers cannot overwrite each other unseen.
    """

    id: str
    kind: str
    body: dict[str, Any]
    version: int
    created_at: int
    updated_at: int
    actor: str
