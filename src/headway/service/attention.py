"""What of a situation wants somebody's attention: one function a kind of thing, each finding with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from headway.model.observed import SILENT_SECONDS, Gap, ObservedQueue, TaskView, WorkerView
from headway.model.permissions import permission_remedy
from headway.model.situation import Attention, SourceView

_OLD_SECONDS: Final = 600.0
_MANY: Final = 100
_LATELY_SECONDS: Final = 3600.0
"""A worker that went without a word is told of for so long; afterwards only if it left tasks behind."""


def look_for(
    *,
    now: int,
    workers: Sequence[WorkerView],
    queues: Sequence[ObservedQueue],
    gaps: Sequence[Gap],
    orphans: Sequence[TaskView],
    orphaned: int,
    sources: Sequence[SourceView],
    unresolved: int,
    watched: bool,
) -> list[Attention]:
    """All there is, errors first."""
    found = [*_sources(sources)]
    if watched:
        found += [
            *_workers(workers, now),
            *_orphans(orphans, orphaned),
            *_queues(queues, workers, now),
            *_gaps(gaps, unresolved, now),
        ]
    return sorted(found, key=lambda one: one.severity != "error")


def nobody_watches(watched_until: int | None, jobs_ran_at: int | None) -> Attention:
    """What is said first of a store over which nobody works."""
    says = "nobody watches and nobody runs jobs: what is here was stored before, and nobody knows what is so now"
    if watched_until is None and jobs_ran_at is None:
        says = "nobody watches and nobody runs jobs, and nobody ever did here"
    remedy = (
        "Start `headway observe …` or `headway up` over it; or name the right data directory with --data-dir, or a "
        "server with --url."
    )
    since = max((one for one in (watched_until, jobs_ran_at) if one is not None), default=None)
    return Attention("nobody_watches", "error", says, remedy, since)


def _sources(sources: Sequence[SourceView]) -> Iterator[Attention]:
    for one in sources:
        if one.name == "broker" and one.ok is False:
            remedy = "Start the broker or correct its URL; Headway connects again by itself."
            remedy = permission_remedy(one.says) or remedy
            yield Attention("broker_away", "error", one.says or "the broker does not answer", remedy, one.seen_at)
        elif one.name == "events" and one.ok is False:
            remedy = "Headway connects again by itself; what happens meanwhile is a gap, which is narrowed afterwards."
            remedy = permission_remedy(one.says) or remedy
            yield Attention("events_lost", "error", one.says or "events are not heard", remedy, one.seen_at)
        elif one.name == "events" and one.facts.get("workers_without_events"):
            yield _events_off(one)
        elif one.name == "results" and one.ok is False:
            remedy = permission_remedy(one.says) or "Start the result backend, or correct --result-backend."
            yield Attention("results_away", "warning", one.says, remedy, one.seen_at)
        elif one.name == "results" and one.facts.get("readable") is False:
            remedy = (
                "Ends that are missed are never found without: give the application a result backend that others may "
                "read, or name it with --result-backend."
            )
            yield Attention("no_results", "warning", one.says, remedy)


def _events_off(source: SourceView) -> Attention:
    # Not what the source says: that names the remedy, too.
    names = sorted(source.facts["workers_without_events"])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    remedy = "Start workers with -E, set worker_send_task_events = True, or run `headway observe` with --enable-events."
    return Attention("events_off", "warning", f"no task events from {', '.join(names[:5])}{more}", remedy)


def _workers(workers: Sequence[WorkerView], now: int) -> Iterator[Attention]:
    observed = [one for one in workers if one.origin == "observed"]
    if not any(one.standing == "online" for one in observed):
        remedy = "Start a worker: `celery -A APP worker -E`."
        says = "no worker answers" if observed else "no worker has been heard of yet"
        yield Attention("no_worker", "error", says, remedy, max((one.seen_at for one in observed), default=None))
        return
    for one in observed:
        lately = now - one.seen_at < _LATELY_SECONDS * 1_000_000
        if one.standing in ("silent", "gone") and (lately or one.orphans):
            says = f"worker {one.name} has not been heard of: {one.standing}"
            if one.standing == "silent" and now - one.seen_at < SILENT_SECONDS * 1_000_000:
                says = f"worker {one.name} was heard of lately, and did not answer just now: silent"
            severity = "error" if one.standing == "gone" else "warning"
            remedy = "Look at its process and its log."
            if one.facts.get("pool") == "solo":
                remedy += " While a worker of the pool `solo` runs a task, it says nothing."
            yield Attention("worker_silent", severity, says, remedy, one.seen_at)


def _orphans(orphans: Sequence[TaskView], orphaned: int) -> Iterator[Attention]:
    if orphans:
        names = ", ".join(sorted({one.worker or "?" for one in orphans})[:3])
        remedy = (
            "See them with `headway tasks --orphaned`. With task_acks_late the broker gives them to another worker; "
            "without, send them again."
        )
        says = f"{_some(orphaned, 'task was', 'tasks were')} begun by workers that are gone ({names})"
        yield Attention("orphans", "error", says, remedy, min(one.at for one in orphans))


def _queues(queues: Sequence[ObservedQueue], workers: Sequence[WorkerView], now: int) -> Iterator[Attention]:
    online = [one for one in workers if one.origin == "observed" and one.standing == "online"]
    asked = bool(online) and all("queues" in one.facts for one in online)
    consumed = {name for one in online for name in one.facts.get("queues") or ()}
    for queue in queues:
        depth, consumers = queue.facts.get("depth"), queue.facts.get("consumers")
        if not depth:
            continue
        if consumers == 0 or (consumers is None and asked and queue.name not in consumed):
            waiting = _some(depth, "message waits", "messages wait")
            says = f"{waiting} in the queue {queue.name}, which no worker consumes"
            remedy = f"Start a worker with -Q {queue.name}, or `celery control add_consumer {queue.name}`."
            yield Attention("queue_without_consumer", "error", says, remedy)
            continue
        oldest = queue.facts.get("oldest_at")
        if isinstance(oldest, int) and now - oldest > _OLD_SECONDS * 1_000_000:
            least = "at least " if queue.facts.get("oldest") != "exact" else ""
            minutes = (now - oldest) / 60_000_000
            says = f"the oldest of {_some(depth, 'message', 'messages')} in {queue.name} has waited for {least}{minutes:,.0f} minutes"
            yield Attention("queue_old", "warning", says, "Start more workers for it, or see what holds them.", oldest)
        elif depth >= _MANY and (queue.facts.get("growth_per_minute") or 0) > depth:
            says = f"{queue.name} grows by {queue.facts['growth_per_minute']:,.0f} messages a minute"
            yield Attention("queue_growing", "warning", says, "Start more workers for it.")


def _gaps(gaps: Sequence[Gap], unresolved: int, now: int) -> Iterator[Attention]:
    lost = sum(one.lost for one in gaps if now - (one.ended_at or now) < _LATELY_SECONDS * 1_000_000)
    if lost:
        remedy = "Give Headway's database more room to write: events came faster than they could be stored."
        dropped = _some(lost, "message was", "messages were")
        yield Attention("events_dropped", "error", f"{dropped} dropped within the last hour", remedy)
    if unresolved:
        since = min((gap.began_at for gap in gaps if gap.unresolved), default=None)
        says = f"the end of {_some(unresolved, 'task', 'tasks')} may have been missed"
        remedy = (
            "Keep results (no ignore_result) in a backend that Headway may read, so that ends are found afterwards."
        )
        yield Attention("ends_missed", "warning", says, remedy, since)


def _some(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"
