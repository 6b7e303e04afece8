"""The situation report: what is so, how old each figure is, and whether anything may be missing from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from headway.model.observed import ObservedQueue, Tally, TaskView, WorkerView
from headway.model.states import JobState

ERROR_CHARS: Final = 200
"""Errors in a report are cut after so many characters."""


class Health(StrEnum):
    """No data is never ``ok``."""

    OK = "ok"
    DEGRADED = "degraded"  # something is known to be wrong, or missing
    UNKNOWN = "unknown"  # nobody can tell


@dataclass(frozen=True, slots=True)
class Figure:
    """How well a figure is known.

    Attributes:
        seen_at: of when it is, UTC microseconds; None where it is not known at all.
        complete: whether nothing may be missing.
        last_known: the value that was last known, where the report gives none.
    """

    seen_at: int | None
    complete: bool
    last_known: float | None = None


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """Counts over the history that is kept; ``success_rate`` is None where nobody can say.

    Attributes:
        total_tasks: every task that is known, once: all states, the orphaned and the unresolved, and what else waits in
            the queues. It does not fall while nothing is deleted.
        orphaned_tasks: of the total: begun by workers that are gone. In no other figure but the total.
        unresolved_tasks: of the total: whose end may have been missed, the orphaned left out. In no figure of what goes on.
    """

    total_tasks: int
    active_tasks: int
    completed_tasks: int
    failed_tasks: int
    pending_tasks: int
    cancelled_tasks: int
    success_rate: float | None
    orphaned_tasks: int = 0
    unresolved_tasks: int = 0


@dataclass(frozen=True, slots=True)
class Attention:
    """Something to look at.

    Attributes:
        code: what kind of thing.
        severity: ``error`` or ``warning``.
        says: what is so.
        remedy: what to do.
        since: since when, UTC microseconds, where that is known.
    """

    code: str
    severity: str
    says: str
    remedy: str
    since: int | None = None


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source of the report."""

    name: str
    seen_at: int | None
    complete: bool
    ok: bool | None
    says: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upcoming:
    """Something that waits for its time."""

    task_id: str
    name: str | None
    due_at: int
    origin: str


@dataclass(frozen=True, slots=True)
class Situation:
    """The whole report."""

    at: int
    health: Health
    metrics: TaskMetrics
    figures: Mapping[str, Figure]
    recent: tuple[TaskView, ...]
    queues: tuple[ObservedQueue, ...]
    workers: tuple[WorkerView, ...]
    upcoming: tuple[Upcoming, ...]
    attention: tuple[Attention, ...]
    sources: tuple[SourceView, ...]


@dataclass(frozen=True, slots=True)
class Metrics:
    """What ``/metrics`` shows: read in one moment.

    Attributes:
        tallies: counters and histograms, as recorded with the events.
        jobs: jobs of ours in each state.
        tasks: observed tasks in each Celery state.
        age: seconds since each source was last heard of; sources never heard of are missing.
        orphans: tasks that were begun by workers that are gone.
        unresolved: tasks whose end may have been missed.
        gaps: gaps known, and how many of them are open.
    """

    at: int
    tallies: tuple[Tally, ...]
    workers: tuple[WorkerView, ...]
    queues: tuple[ObservedQueue, ...]
    jobs: Mapping[JobState, int]
    tasks: Mapping[str, int]
    age: Mapping[str, float]
    facts: Mapping[str, float]
    orphans: int
    unresolved: int
    gaps_open: int
