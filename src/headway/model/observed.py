"""Nouns of what is observed beside tasks: workers, queues, gaps, observers; and what is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headway.model.evidence import Mark
from headway.model.sayings import CeleryState
from headway.model.states import JobState

SILENT_SECONDS: Final = 10.0
"""A worker whose last word is older than this (or three of its own heartbeats) is silent: nobody knows whether it lives."""

GONE_SECONDS: Final = 30.0
"""And after this it counts as gone, and what it was running as orphaned."""

SOLO_GONE_SECONDS: Final = 3600.0
"""As ``GONE_SECONDS``, of the pool ``solo``: while such a worker runs a task it says nothing, and answers nobody. After
this time Redis gives its tasks to others, too (Celery's visibility timeout)."""


@dataclass(frozen=True, slots=True)
class ObservedWorker:
    """One worker of the cluster, by its node name (``celery@host``).

    Attributes:
        seen_at: when the observer last heard of it, by the observer's clock.
        heartbeat_at: the worker's own clock in its last heartbeat.
        offline_at: when it said goodbye; None while it did not, or came back.
        facts: ``pid, version, system, ident, freq, active, processed, loadavg, clock_skew_seconds, pool, concurrency,
            prefetch, queues, registered, events_enabled``: what was said so far, with ``asked_at`` of the answer.
            ``freq`` is seconds between heartbeats, or between questions where no heartbeats are heard.
    """

    hostname: str
    first_seen_at: int
    seen_at: int
    heartbeat_at: int | None = None
    offline_at: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def standing(self, now: int) -> str:
        """``online``, ``silent``, ``gone`` (long silent) or ``offline`` (it said so)."""
        if self.offline_at is not None and self.offline_at >= self.seen_at:
            return "offline"
        silent = (now - self.seen_at) / 1_000_000
        beat = self.facts.get("freq")
        patience = max(SILENT_SECONDS, 3 * float(beat)) if isinstance(beat, int | float) else SILENT_SECONDS
        if silent <= patience:
            return "online"
        gone = SOLO_GONE_SECONDS if self.facts.get("pool") == "solo" else GONE_SECONDS
        return "silent" if silent <= max(gone, 3 * patience) else "gone"


@dataclass(frozen=True, slots=True)
class ObservedQueue:
    """One queue of the broker.

    Attributes:
        seen_at: when the broker last answered for it.
        facts: ``depth`` (ready messages, None unknown), ``unacknowledged``, ``consumers`` (None unknown),
            ``growth_per_minute`` (None unknown), ``oldest_at`` and ``oldest`` (``exact``, ``at least`` or ``unknown``),
            ``exists``.
    """

    name: str
    seen_at: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which events may have been missed.

    Attributes:
        reason: ``not_watching``, ``broker_away``, ``buffer_full`` (more was heard than could be stored),
            ``missed_events`` (the end of a task was missed although events were heard), ``not_stored`` (a fault of
            ours), ``events_off`` (a worker ran tasks and sent no events of them), or that nothing is missing: ``kept_by_broker`` (the connection was lost, and nothing else),
            ``another_watched`` (another observer over the same database heard all of it).
        began_at, ended_at: None for the end while it is open.
        reconciled_at: when everything that can still be known was asked for; None before.
        lost: events that are known to be lost.
        recovered: tasks that were found or completed afterwards.
        unresolved: tasks whose end may lie in it and is not known.
    """

    id: str
    observer: str
    reason: str
    began_at: int
    ended_at: int | None = None
    reconciled_at: int | None = None
    lost: int = 0
    recovered: int = 0
    unresolved: int = 0


@dataclass(frozen=True, slots=True)
class Observer:
    """One process that watches.

    Attributes:
        watermark_at: every event that reached it before is stored.
        facts: ``broker``, ``host``, ``pid``, ``events``, ``duplicates``, ``malformed``, ``unknown``, ``strict``.
    """

    id: str
    started_at: int
    watermark_at: int
    stopped_at: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


TASK_STATES: Final = (*JobState, *CeleryState)
"""Every name of a state that a list of tasks can be asked for: ours, and Celery's."""


def task_states(names: Iterable[str]) -> tuple[tuple[JobState, ...], tuple[CeleryState, ...]]:
    """States by our names and by Celery's, each once.

    Args:
        names: in any case; no name is both ours and Celery's.

    Raises:
        ValueError: a name that nobody knows; its only argument is the name.
    """
    ours: dict[JobState, None] = {}
    celerys: dict[CeleryState, None] = {}
    for name in names:
        if name.upper() in CeleryState.__members__:
            celerys[CeleryState(name.upper())] = None
        elif name.lower() in JobState.__members__.values():
            ours[JobState(name.lower())] = None
        else:
            raise ValueError(name)
    return tuple(ours), tuple(celerys)


@dataclass(frozen=True, slots=True)
class ListTasks:
    """A page of tasks: jobs of ours and tasks observed, newest first.

    Attributes:
        states: by our names; of a task that was observed, what its state is called beside those of jobs.
        celery_states: by Celery's names, beside ``states``; of a job, what its state is called by Celery.
            Where there are neither, all.
        orphaned: only tasks that were begun by a worker that is gone.
        since, until: of the time of submission or first sight, UTC microseconds.
        cursor: the ``next_cursor`` of the page before.
    """

    states: tuple[JobState, ...] = ()
    celery_states: tuple[CeleryState, ...] = ()
    name: str | None = None
    queue: str | None = None
    worker: str | None = None
    root: str | None = None
    text: str | None = None
    orphaned: bool = False
    since: int | None = None
    until: int | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """One value of a counter of ``/metrics``."""

    kind: str
    name: str
    worker: str
    queue: str
    label: str
    value: float


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task as people see it: a job of ours, or a task that was observed.

    Attributes:
        at: when it was submitted or first seen: the list is in this order.
        celery_state: its state as Celery spells it.
        retries: None where nothing that was heard says how often it was tried.
        args, kwargs, result: texts, masked and cut; None where nothing is kept or known.
        error, traceback: why it failed, or was tried again.
        origin: ``job`` or ``observed``.
        seen_at: when it was last heard of; a job's is now.
        complete: False where its end may have been missed, or its beginning was.
        orphaned: it was begun by a worker that is gone.
        gap: id of the gap in which its end may have been missed.
        unnamed: why it has ended and nobody knows its name, for a person; empty where nothing is missing.
        trail: everything that was said of it, oldest first; empty in lists.
        children: ids of tasks that it called, the oldest first and not more than 100; empty in lists.
    """

    id: str
    name: str | None
    state: JobState
    celery_state: str
    at: int
    origin: str
    queue: str | None = None
    worker: str | None = None
    retries: int | None = 0
    args: str | None = None
    kwargs: str | None = None
    result: str | None = None
    error: str | None = None
    traceback: str | None = None
    runtime: float | None = None
    sent_at: int | None = None
    received_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    eta: int | None = None
    expires_at: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
    seen_at: int | None = None
    complete: bool = True
    orphaned: bool = False
    gap: str | None = None
    unnamed: str = ""
    trail: tuple[Mark, ...] = ()
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, of the cluster or of this server."""

    name: str
    standing: str
    seen_at: int
    origin: str
    orphans: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


def friendly_name(task: str | None) -> str:
    """A task's name for people: ``Periodic Health Check`` of ``app.tasks.periodic_health_check``."""
    if not task:
        return "Unknown Task"
    words = task.rpartition(".")[2].replace("-", "_").split("_")
    return " ".join(word[:1].upper() + word[1:] for word in words if word) or task
