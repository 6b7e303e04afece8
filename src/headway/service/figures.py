"""The figures of a situation report: each counted once, with how well it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headway.model.observed import ObservedQueue, WorkerView
from headway.model.sayings import CeleryState
from headway.model.situation import Figure, Health, SourceView, TaskMetrics
from headway.model.states import JobState


@dataclass(frozen=True, slots=True)
class Counted:
    """What the database counts, all of one moment.

    Attributes:
        tasks: observed tasks in each of Celery's states.
        unresolved: of these, those whose end may have been missed.
        waiting: tasks of which a message waits by all that is known, by queue; None where they are too many to be told
            apart in time.
        live_jobs: jobs of ours that have not ended, by state.
        ended_jobs: those that have; None where they could not be counted in time.
        orphaned: tasks whose worker is gone, and how many of them are unresolved, too.
    """

    tasks: dict[str, int]
    unresolved: dict[str, int]
    waiting: dict[str, int] | None
    live_jobs: dict[JobState, int]
    ended_jobs: dict[JobState, int] | None
    orphaned: tuple[int, int]


def known_before(metrics: TaskMetrics, figures: Mapping[str, Figure]) -> tuple[TaskMetrics, dict[str, Figure]]:
    """The figures of an earlier report where nobody can give newer ones: of their own age, and none complete."""
    rate = metrics.success_rate if metrics.success_rate is not None else figures["success_rate"].last_known
    older = {name: replace(one, complete=False) for name, one in figures.items()}
    older["success_rate"] = replace(older["success_rate"], last_known=rate)
    return replace(metrics, success_rate=None), older


def figures_of(
    counted: Counted,
    queues: Sequence[ObservedQueue],
    sources: Sequence[SourceView],
    health: Health,
    workers: Sequence[WorkerView],
) -> tuple[TaskMetrics, dict[str, Figure]]:
    """The figures of a report, and how well each is known."""
    tasks, missing, live = counted.tasks, counted.unresolved, counted.live_jobs
    ended = counted.ended_jobs or {}

    def seen(state: CeleryState) -> int:
        return tasks.get(state, 0)

    def going(state: CeleryState) -> int:
        # What may have ended unseen is not counted as going on.
        return max(0, seen(state) - missing.get(state, 0))

    depths = [one.facts.get("depth") for one in queues]
    known = [depth for depth in depths if isinstance(depth, int)]
    waiting = sum(known) if known else going(CeleryState.PENDING)
    # Of those that are to be tried again a message waits in a queue, too; at some brokers not before it is due.
    retried = going(CeleryState.RETRY)
    if known:
        retried = max(0, retried - max(0, waiting - seen(CeleryState.PENDING)))
    orphans, in_gap = counted.orphaned
    active = max(0, going(CeleryState.STARTED) - (orphans - in_gap)) + live.get(JobState.RUNNING, 0)
    pending = waiting + going(CeleryState.RECEIVED) + retried
    pending += sum(live.get(state, 0) for state in (JobState.SCHEDULED, JobState.QUEUED, JobState.RETRY_SCHEDULED))
    completed = seen(CeleryState.SUCCESS) + ended.get(JobState.SUCCEEDED, 0)
    failed = seen(CeleryState.FAILURE) + seen(CeleryState.REJECTED)
    failed += ended.get(JobState.FAILED, 0) + ended.get(JobState.TIMEOUT, 0)
    cancelled = seen(CeleryState.REVOKED) + ended.get(JobState.CANCELLED, 0)
    rate = round(completed / (completed + failed), 4) if completed + failed else None
    # Every task once: those that are known to wait are among the messages that do.
    waits = seen(CeleryState.PENDING) + seen(CeleryState.RETRY)
    total = sum(tasks.values()) + _unheard(queues, counted.waiting, waits)
    figures = _figures(sources, workers, health, missing=bool(missing), rate=rate)
    metrics = TaskMetrics(
        total_tasks=total + sum(live.values()) + sum(ended.values()),
        active_tasks=active,
        completed_tasks=completed,
        failed_tasks=failed,
        pending_tasks=pending,
        cancelled_tasks=cancelled,
        success_rate=rate if figures["success_rate"].last_known is None else None,
        orphaned_tasks=orphans,
        unresolved_tasks=max(0, sum(missing.values()) - in_gap),
    )
    return metrics, figures


def _unheard(queues: Sequence[ObservedQueue], waiting: Mapping[str, int] | None, known: int) -> int:
    """Messages that wait and that nobody heard of, queue by queue: one may have been emptied unseen."""
    depths = {one.name: depth for one in queues if isinstance(depth := one.facts.get("depth"), int)}
    if waiting is None:
        return max(0, sum(depths.values()) - known)
    beyond = sum(max(0, depth - waiting.get(name, 0)) for name, depth in depths.items())
    return max(0, beyond - waiting.get("", 0))


def _figures(
    sources: Sequence[SourceView],
    workers: Sequence[WorkerView],
    health: Health,
    *,
    missing: bool,
    rate: float | None,
) -> dict[str, Figure]:
    """How well each figure is known. The rate that nobody can say for now is its ``last_known``."""
    by_name = {one.name: one for one in sources}
    events, jobs = by_name.get("events"), by_name["jobs"]
    seen_at = jobs.seen_at if events is None else events.seen_at
    complete = jobs.complete and (events is None or events.complete) and not missing
    figure = Figure(seen_at, complete)
    figures = dict.fromkeys(("completed_tasks", "failed_tasks", "cancelled_tasks"), figure)
    broker, asked = by_name.get("broker"), by_name.get("workers")
    # What workers took before anybody listened, only they can say.
    whole = complete and (asked is None or asked.complete)
    figures |= dict.fromkeys(
        ("total_tasks", "active_tasks", "orphaned_tasks", "unresolved_tasks"), Figure(seen_at, whole)
    )
    figures["pending_tasks"] = (
        Figure(seen_at, whole) if broker is None else Figure(broker.seen_at, whole and broker.complete)
    )
    told = health is not Health.UNKNOWN and (events is None or any(one.standing == "online" for one in workers))
    figures["success_rate"] = Figure(seen_at, complete and told, None if told else rate)
    return figures
