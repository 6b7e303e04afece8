"""Tasks, workers, queues and the situation report as OpenAPI describes them; ``model.reported`` makes the values."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from headway.http.times import MomentOut
from headway.model.situation import Health
from headway.model.states import JobState

Standing = Literal["online", "silent", "gone", "offline", "unknown"]
Origin = Literal["job", "observed"]


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MarkOut(_Out):
    """One thing that was said of a task: an event, the answer of a worker, or an entry of the result backend."""

    said: str
    at: MomentOut | None
    worker: str
    retries: int | None
    note: str | None


class TaskOut(_Out):
    """One task: a job of ours, or one that was observed."""

    id: str
    name: str | None
    state: JobState
    celery_state: str
    origin: Origin
    queue: str | None
    worker: str | None
    retries: int | None
    args: str | None
    kwargs: str | None
    result: str | None
    error: str | None
    traceback: str | None
    runtime_seconds: float | None
    at: MomentOut
    sent_at: MomentOut | None
    received_at: MomentOut | None
    started_at: MomentOut | None
    finished_at: MomentOut | None
    eta: MomentOut | None
    expires_at: MomentOut | None
    root_id: str | None
    parent_id: str | None
    seen_at: MomentOut | None
    complete: bool
    orphaned: bool
    gap: str | None


class TaskDetailOut(TaskOut):
    """One task with everything that was said of it; ``children`` are ids, not more than 100."""

    children: list[str]
    trail: list[MarkOut]


class TaskPageOut(_Out):
    """A page of tasks, newest first."""

    items: list[TaskOut]
    next_cursor: str | None


class TasksOut(_Out):
    """Tasks that belong together, oldest first."""

    items: list[TaskOut]


class WorkerOut(_Out):
    """One worker; ``facts`` is what it said of itself."""

    name: str
    standing: Standing
    seen_at: MomentOut
    origin: Origin
    orphans: int
    active: int | None
    processed: int | None
    pool: str | None
    concurrency: int | None
    prefetch: int | None
    version: str | None
    queues: list[str] | None
    events_enabled: bool | None
    clock_skew_seconds: float | None
    heartbeat_at: MomentOut | None
    first_seen_at: MomentOut | None
    facts: dict[str, Any]


class WorkersOut(_Out):
    """All workers, by name."""

    items: list[WorkerOut]


class QueueJobsOut(_Out):
    """Jobs of a queue; ``unsent`` ones wait for the relay."""

    waiting: int
    running: int
    unsent: int


class PausedOut(_Out):
    """Since when, by whom and why a queue is paused."""

    at: MomentOut
    actor: str
    reason: str


class QueueOut(_Out):
    """One queue. ``oldest`` says how well the age is known: ``exact``, ``at least`` or ``unknown``."""

    name: str
    seen_at: MomentOut
    depth: int | None
    consumers: int | None
    growth_per_minute: float | None
    oldest: str
    oldest_at: MomentOut | None
    oldest_age_seconds: float | None
    exists: bool
    jobs: QueueJobsOut | None
    paused: PausedOut | None


class QueuesOut(_Out):
    """All queues, by name."""

    items: list[QueueOut]


class GapOut(_Out):
    """A time in which events may have been missed; ``unresolved`` tasks may have ended in it."""

    id: str
    reason: str
    began_at: MomentOut
    ended_at: MomentOut | None
    reconciled_at: MomentOut | None
    lost: int
    recovered: int
    unresolved: int


class GapsOut(_Out):
    """Gaps, the newest first."""

    items: list[GapOut]


class FigureOut(_Out):
    """How well a figure is known; ``last_known`` is its value where the report gives none."""

    seen_at: MomentOut | None
    age_seconds: float | None
    complete: bool
    last_known: float | None


class TaskMetricsOut(_Out):
    """Counts over the history that is kept. The orphaned and unresolved are in the total and in no figure of what goes on."""

    total_tasks: int
    active_tasks: int
    completed_tasks: int
    failed_tasks: int
    pending_tasks: int
    cancelled_tasks: int
    success_rate: float | None
    orphaned_tasks: int
    unresolved_tasks: int


class RecentTaskOut(_Out):
    """One of the newest tasks, in the situation report's words."""

    task_id: str
    name: str
    task: str | None
    status: str
    description: str
    at: MomentOut
    started_at: MomentOut | None
    completed_at: MomentOut | None
    duration_seconds: float | None
    error_message: str | None


class UpcomingOut(_Out):
    """Something that waits for its time."""

    task_id: str
    name: str
    task: str | None
    due_at: MomentOut
    origin: Origin


class AttentionOut(_Out):
    """Something to look at, and what to do about it."""

    code: str
    severity: Literal["error", "warning"]
    says: str
    remedy: str
    since: MomentOut | None


class SourceOut(_Out):
    """Where figures come from, and how well it is heard; ``ok`` is null where nobody knows."""

    name: str
    seen_at: MomentOut | None
    age_seconds: float | None
    complete: bool
    ok: bool | None
    says: str
    facts: dict[str, Any]


class SitrepOut(_Out):
    """The situation report. No data is never ``ok``."""

    timestamp: MomentOut
    health_status: Health
    task_metrics: TaskMetricsOut
    figures: dict[str, FigureOut]
    recent_tasks: list[RecentTaskOut]
    queues: list[QueueOut]
    workers: list[WorkerOut]
    upcoming: list[UpcomingOut]
    attention: list[AttentionOut]
    sources: list[SourceOut]
