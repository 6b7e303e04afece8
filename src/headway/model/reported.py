"""What is observed as JSON values: one spelling for REST, the command line and the Python client."""

from __future__ import annotations

from typing import Any

from headway.model.evidence import Mark
from headway.model.observed import Gap, ObservedQueue, TaskView, WorkerView, friendly_name
from headway.model.redact import mask_secrets
from headway.model.situation import ERROR_CHARS, Figure, Situation, SourceView
from headway.model.states import VIEW, JobState
from headway.model.times import to_rfc3339

_NAMED = (
    "active", "processed", "pool", "concurrency", "prefetch", "version", "queues", "events_enabled",
    "clock_skew_seconds",
)  # fmt: skip


def _at(at: int | None) -> str | None:
    return None if at is None else to_rfc3339(at)


def _age(at: int | None, now: int) -> float | None:
    return None if at is None else round(max(0, now - at) / 1_000_000, 3)


def mark_json(mark: Mark) -> dict[str, Any]:
    """One thing that was said of a task."""
    at = to_rfc3339(mark.at) if mark.at else None
    return {"said": mark.said, "at": at, "worker": mark.worker, "retries": mark.retries, "note": mark.note}


def task_json(task: TaskView, *, whole: bool = False) -> dict[str, Any]:
    """A task; ``whole`` with everything that was said of it."""
    shown = {
        "id": task.id,
        "name": task.name,
        "state": task.state.value,
        "celery_state": str(task.celery_state),
        "origin": task.origin,
        "queue": task.queue,
        "worker": task.worker,
        "retries": task.retries,
        "args": task.args,
        "kwargs": task.kwargs,
        "result": task.result,
        "error": task.error,
        "traceback": task.traceback,
        "runtime_seconds": task.runtime,
        "at": to_rfc3339(task.at),
        "sent_at": _at(task.sent_at),
        "received_at": _at(task.received_at),
        "started_at": _at(task.started_at),
        "finished_at": _at(task.finished_at),
        "eta": _at(task.eta),
        "expires_at": _at(task.expires_at),
        "root_id": task.root_id,
        "parent_id": task.parent_id,
        "seen_at": _at(task.seen_at),
        "complete": task.complete,
        "orphaned": task.orphaned,
        "gap": task.gap,
    }
    if not whole:
        return shown
    return {**shown, "children": list(task.children), "trail": [mark_json(mark) for mark in task.trail]}


def worker_json(worker: WorkerView) -> dict[str, Any]:
    """A worker; what it said of itself beside the fields that have a name of their own is in ``facts``."""
    facts = dict(worker.facts)
    beat, first = facts.pop("heartbeat_at", None), facts.pop("first_seen_at", None)
    facts.pop("asked_at", None)
    return {
        "name": worker.name,
        "standing": worker.standing,
        "seen_at": to_rfc3339(worker.seen_at),
        "origin": worker.origin,
        "orphans": worker.orphans,
        **{name: facts.pop(name, None) for name in _NAMED},
        "heartbeat_at": _at(beat),
        "first_seen_at": _at(first),
        "facts": facts,
    }


def queue_json(queue: ObservedQueue) -> dict[str, Any]:
    """A queue as it was last seen."""
    facts = queue.facts
    oldest = facts.get("oldest_at")
    return {
        "name": queue.name,
        "seen_at": to_rfc3339(queue.seen_at),
        "depth": facts.get("depth"),
        "consumers": facts.get("consumers"),
        "growth_per_minute": facts.get("growth_per_minute"),
        "oldest": facts.get("oldest", "unknown"),
        "oldest_at": _at(oldest),
        "oldest_age_seconds": _age(oldest, queue.seen_at),
        "exists": bool(facts.get("exists", False)),
        "jobs": facts.get("jobs"),
        "paused": None if facts.get("paused") is None else _paused(facts["paused"]),
    }


def _paused(paused: Any) -> dict[str, Any]:
    return {"at": to_rfc3339(paused.paused_at), "actor": paused.actor, "reason": paused.reason}


def gap_json(gap: Gap) -> dict[str, Any]:
    """A time in which events may have been missed."""
    return {
        "id": gap.id,
        "reason": gap.reason,
        "began_at": to_rfc3339(gap.began_at),
        "ended_at": _at(gap.ended_at),
        "reconciled_at": _at(gap.reconciled_at),
        "lost": gap.lost,
        "recovered": gap.recovered,
        "unresolved": gap.unresolved,
    }


def _figure(figure: Figure, now: int) -> dict[str, Any]:
    return {
        "seen_at": _at(figure.seen_at),
        "age_seconds": _age(figure.seen_at, now),
        "complete": figure.complete,
        "last_known": figure.last_known,
    }


def _source(one: SourceView, now: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "seen_at": _at(one.seen_at),
        "age_seconds": _age(one.seen_at, now),
        "complete": one.complete,
        "ok": one.ok,
        "says": one.says,
        "facts": dict(one.facts),
    }


def recent_json(task: TaskView, now: int) -> dict[str, Any]:
    """One of the newest tasks, in the situation report's words."""
    troubled = task.state in (JobState.FAILED, JobState.TIMEOUT, JobState.RETRY_SCHEDULED)
    error = _cut(task.error) if troubled else None
    duration = task.runtime
    if duration is None and task.started_at is not None and task.finished_at is not None:
        duration = max(0, task.finished_at - task.started_at) / 1_000_000
    return {
        "task_id": task.id,
        "name": friendly_name(task.name),
        "task": task.name,
        "status": VIEW[task.state].sitrep,
        "description": _described(task, error, now),
        "at": to_rfc3339(task.at),
        "started_at": _at(task.started_at),
        "completed_at": _at(task.finished_at),
        "duration_seconds": None if duration is None else round(duration, 3),
        "error_message": error,
    }


def _cut(text: str | None) -> str | None:
    if text is None:
        return None
    masked = mask_secrets(text)
    return masked if len(masked) <= ERROR_CHARS else masked[: ERROR_CHARS - 1] + "…"


def _described(task: TaskView, error: str | None, now: int) -> str:
    on = f" on {task.worker}" if task.worker else ""
    words = {
        JobState.SUCCEEDED: "Task completed successfully",
        JobState.FAILED: f"Task failed: {error}" if error else "Task failed",
        JobState.TIMEOUT: f"Task took too long: {error}" if error else "Task took too long",
        JobState.CANCELLED: f"Task was cancelled: {_cut(task.error)}" if task.error else "Task was cancelled",
        JobState.RUNNING: f"Running{on}",
        JobState.RETRY_SCHEDULED: f"Waiting for another try{f': {error}' if error else ''}",
        JobState.QUEUED: f"Waiting{f' in {task.queue}' if task.queue else ''}",
        JobState.SCHEDULED: "Waits for its time",
    }[task.state]
    waits = task.state in (JobState.QUEUED, JobState.SCHEDULED)
    if waits and task.eta is not None and task.eta > now:
        # A worker may hold it for its time: then it is in no queue.
        words = f"Waits for its time, {to_rfc3339(task.eta)[:19].replace('T', ' ')}Z{on}"
    if task.orphaned:
        words = f"Begun{on}, which is gone"
    elif task.gap is not None:
        words += "; its end may have been missed"
    elif not task.complete:
        words += f"; {task.unnamed}" if task.unnamed else ""
    return words if len(words) <= 2 * ERROR_CHARS else words[: 2 * ERROR_CHARS - 1] + "…"


def situation_json(situation: Situation) -> dict[str, Any]:
    """The situation report."""
    metrics, now = situation.metrics, situation.at
    return {
        "timestamp": to_rfc3339(now),
        "health_status": situation.health.value,
        "task_metrics": {
            "total_tasks": metrics.total_tasks,
            "active_tasks": metrics.active_tasks,
            "completed_tasks": metrics.completed_tasks,
            "failed_tasks": metrics.failed_tasks,
            "pending_tasks": metrics.pending_tasks,
            "cancelled_tasks": metrics.cancelled_tasks,
            "success_rate": metrics.success_rate,
            "orphaned_tasks": metrics.orphaned_tasks,
            "unresolved_tasks": metrics.unresolved_tasks,
        },
        "figures": {name: _figure(figure, now) for name, figure in situation.figures.items()},
        "recent_tasks": [recent_json(task, now) for task in situation.recent],
        "queues": [queue_json(queue) for queue in situation.queues],
        "workers": [worker_json(worker) for worker in situation.workers],
        "upcoming": [
            {
                "task_id": one.task_id,
                "name": friendly_name(one.name),
                "task": one.name,
                "due_at": to_rfc3339(one.due_at),
                "origin": one.origin,
            }
            for one in situation.upcoming
        ],
        "attention": [
            {
                "code": one.code,
                "severity": one.severity,
                "says": one.says,
                "remedy": one.remedy,
                "since": _at(one.since),
            }
            for one in situation.attention
        ],
        "sources": [_source(one, now) for one in situation.sources],
    }
