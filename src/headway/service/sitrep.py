"""The situation report: stored state first, then who answers now, within a time limit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

from headway.model.errors import StoreUnavailable
from headway.model.observed import Gap, ListTasks, ObservedQueue, Observer, TaskView, WorkerView
from headway.model.sayings import CeleryState
from headway.model.situation import (
    Attention,
    Health,
    Metrics,
    Situation,
    SourceView,
    Upcoming,
)
from headway.ports.cluster import LiveAnswer, Source
from headway.ports.store import Reader
from headway.service.attention import look_for, nobody_watches
from headway.service.context import Context
from headway.service.figures import Counted, figures_of
from headway.service.observing import newest_tasks, standing_of, task_view, worker_views
from headway.service.verbs import verb
from headway.service.watching import Watch, watch_of

LIVE_SECONDS: Final = 0.7
"""The whole of what a report waits for anybody outside: with all else it must answer within a second."""

REPORT_SECONDS: Final = 3.0
"""What a whole report may take; a database that is only busy answers sooner."""

RECENT: Final = 10
_UPCOMING: Final = 10
_GAPS: Final = 20
_ORPHANS: Final = 20
_STALE_SECONDS: Final = 120.0
# Beyond, those that wait are not told apart by their queue: a report has no time for it.
_FEW: Final = 5_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database says, all of one moment."""

    now: int
    counted: Counted
    views: list[WorkerView]
    queues: list[ObservedQueue]
    recent: list[TaskView]
    gaps: list[Gap]
    observers: list[Observer]
    orphans: list[TaskView]
    upcoming: tuple[Upcoming, ...]
    watch: Watch

    @property
    def jobs_ran_at(self) -> int | None:
        """When a server that runs jobs was last heard of; None is never."""
        return max((one.seen_at for one in self.views if one.origin == "job"), default=None)


@verb
def read_sitrep(ctx: Context) -> Situation:
    """The situation now. Raises ``StoreUnavailable`` when our own database does not answer."""
    cluster = ctx.services.cluster
    # They are asked while the database is read.
    waiting = cluster.live(LIVE_SECONDS) if cluster is not None else None
    stored = _stored(ctx)
    answer = waiting() if waiting is not None else None
    workers = [_as_answered(one, answer) for one in stored.views]
    queues = [one for one in stored.queues if _is_fresh(one, stored.now) or cluster is None]
    left = _is_left_alone(ctx, stored)
    sources = _sources(ctx, stored, answer, left=left)
    attention = look_for(
        now=stored.now,
        workers=workers,
        queues=queues,
        gaps=stored.gaps,
        orphans=stored.orphans,
        sources=sources,
        unresolved=sum(stored.counted.unresolved.values()),
        orphaned=stored.counted.orphaned[0],
        watched=stored.watch.somebody,
    )
    if left:
        attention.insert(0, nobody_watches(stored.watch.until, stored.jobs_ran_at))
    health = _health(sources, attention, workers, watched=stored.watch.somebody or left)
    metrics, figures = figures_of(stored.counted, queues, sources, health, workers)
    return Situation(
        at=stored.now,
        health=health,
        metrics=metrics,
        figures=figures,
        recent=tuple(stored.recent),
        queues=tuple(queues),
        workers=tuple(workers),
        upcoming=stored.upcoming,
        attention=tuple(attention),
        sources=tuple(sources),
    )


def begin_report(ctx: Context) -> Future[Situation]:
    """Begin ``read_sitrep`` in a thread of its own; a database that is away is no error, but what the report says.

    One that is frozen takes connections and says nothing: whoever waits should do so for no longer than
    ``REPORT_SECONDS``, and then take ``without_answer``. How many are waited for in vain is bounded.
    """
    return ctx.services.reports.begin(lambda: read_sitrep(ctx))


def without_answer(ctx: Context) -> Situation:
    """The report that is given when a database has said nothing for too long."""
    return ctx.services.reports.away(StoreUnavailable(f"it has said nothing for {REPORT_SECONDS:g} seconds"))


def _stored(ctx: Context) -> Stored:
    now = ctx.services.clock.now()

    def work(reader: Reader) -> Stored:
        observed = reader.observed
        workers, watch = observed.workers(), watch_of(ctx, reader, now)
        standing = standing_of(reader, watch, workers)
        gone = standing.gone
        orphans = observed.count_orphans(gone)
        upcoming = [
            Upcoming(task.id, task.name, task.eta or 0, "observed") for task in observed.upcoming(now, gone, _UPCOMING)
        ] + [Upcoming(job.id, job.task, job.run_at or 0, "job") for job in reader.upcoming(_UPCOMING)]
        tasks = observed.counts()
        waits = tasks.get(CeleryState.PENDING, 0) + tasks.get(CeleryState.RETRY, 0)
        return Stored(
            now=now,
            counted=Counted(
                tasks=tasks,
                waiting=observed.waiting_by_queue() if waits <= _FEW else None,
                unresolved=observed.unresolved(),
                live_jobs=reader.counts(),
                ended_jobs=ctx.services.job_totals.figures(reader),
                orphaned=(
                    sum(count for count, _ in orphans.values()),
                    sum(missing for _, missing in orphans.values()),
                ),
            ),
            views=worker_views(ctx, reader, workers, orphans, watch, now),
            queues=observed.queues(),
            recent=newest_tasks(reader, ListTasks(limit=RECENT), standing, now)[:RECENT],
            gaps=observed.gaps(_GAPS),
            observers=observed.observers(),
            orphans=[task_view(task, standing) for task in observed.orphans(gone, _ORPHANS)] if orphans else [],
            upcoming=tuple(sorted(upcoming, key=lambda one: one.due_at)[:_UPCOMING]),
            watch=watch,
        )

    return ctx.services.store.read(work)


def _is_fresh(queue: ObservedQueue, now: int) -> bool:
    """Whether its figures are of now; the more queues there are, the more seldom each is looked at."""
    every = queue.facts.get("looked_every_seconds")
    return now - queue.seen_at < max(_STALE_SECONDS, 3 * (every or 0.0)) * 1_000_000


def _is_left_alone(ctx: Context, stored: Stored) -> bool:
    """Whether this is read straight from a store over which nobody works now: all there is can only be history.

    For a server that runs jobs, that a cluster was once observed over its directory is history, and no more.
    """
    if ctx.services.alone:
        return True
    if ctx.services.serves or stored.watch.somebody:
        return False
    # Others may run jobs over a shared database; but where a cluster was watched, somebody has to watch it.
    at_work = any(one.origin == "job" and one.standing == "online" for one in stored.views)
    return bool(stored.observers) or not at_work


def _as_answered(worker: WorkerView, answer: LiveAnswer | None) -> WorkerView:
    """A worker that was asked just now and said nothing is not called online, whatever it said seconds ago."""
    if worker.origin != "observed" or answer is None or answer.workers is None:
        return worker
    if worker.name in answer.workers:
        return replace(worker, standing="online", seen_at=max(worker.seen_at, answer.asked_at))
    return replace(worker, standing="silent") if worker.standing == "online" else worker


def _sources(ctx: Context, stored: Stored, answer: LiveAnswer | None, *, left: bool) -> list[SourceView]:
    cluster = ctx.services.cluster
    sources = [SourceView("jobs", stored.now, complete=stored.counted.ended_jobs is not None, ok=True)]
    if left:
        says = "nobody runs jobs now: start `headway up`"
        sources = [SourceView("jobs", stored.jobs_ran_at, complete=False, ok=None, says=says)]
    if cluster is not None:
        gap_open = any(gap.ended_at is None for gap in stored.gaps)
        pending = any(gap.reconciled_at is None for gap in stored.gaps)
        sources += [_with_answer(one, answer, gap_open=gap_open or pending) for one in cluster.sources()]
    elif stored.watch.elsewhere or (left and stored.observers):
        says = (
            "another process watches the cluster; its own report knows more"
            if stored.watch.elsewhere
            else "nobody watches now: start `headway observe`"
        )
        sources.append(SourceView("events", stored.watch.until, complete=False, ok=None, says=says))
    return sources


def _with_answer(source: Source, answer: LiveAnswer | None, *, gap_open: bool) -> SourceView:
    seen_at, complete, ok, says = source.seen_at, source.complete, source.ok, source.says
    if answer is not None and source.name == "broker":
        seen_at = answer.asked_at if answer.broker else seen_at
        ok, says = answer.broker, "" if answer.broker else answer.says
        complete = complete and ok
    elif answer is not None and source.name == "workers" and not (answer.broker and answer.workers is None):
        ok = bool(answer.workers)
        seen_at = answer.asked_at if ok else seen_at
        says, complete = ("" if ok else answer.says), complete and ok
    elif source.name == "events" and answer is not None and not answer.broker:
        ok, complete = False, False
    if source.name == "events" and gap_open:
        complete = False
        says = says or "there is a gap that has not been looked through yet"
    return SourceView(source.name, seen_at, complete, ok, says, source.facts)


def _health(
    sources: Sequence[SourceView], attention: Sequence[Attention], workers: Sequence[WorkerView], *, watched: bool
) -> Health:
    by_name = {one.name: one for one in sources}
    broker, events = by_name.get("broker"), by_name.get("events")
    if watched:
        if broker is None or broker.ok is not True:
            return Health.UNKNOWN
        observed = [one for one in workers if one.origin == "observed"]
        if not observed and (events is None or events.seen_at is None):
            # A broker that answers says nothing of workers that nobody has ever heard of.
            return Health.UNKNOWN
        if not any(one.standing == "online" for one in observed):
            return Health.DEGRADED
    if any(one.ok is False for one in sources) or any(one.severity == "error" for one in attention):
        return Health.DEGRADED
    if watched and any(one.standing == "silent" for one in workers):
        # It was asked just now, or has missed several heartbeats, and says nothing.
        return Health.DEGRADED
    if watched and events is not None and not events.complete:
        return Health.DEGRADED
    return Health.OK


@verb
def read_metrics(ctx: Context) -> Metrics:
    """What ``/metrics`` shows, from stored state only: a scrape must not wait for anybody."""
    stored = _stored(ctx)
    tallies = ctx.services.store.read(lambda reader: reader.observed.tallies())
    age: dict[str, float] = {}
    facts: dict[str, float] = {}
    cluster = ctx.services.cluster
    for source in cluster.sources() if cluster is not None else ():
        if source.seen_at is not None:
            age[source.name] = max(0.0, (stored.now - source.seen_at) / 1_000_000)
        if source.name == "events":
            facts = {name: float(value) for name, value in source.facts.items() if isinstance(value, int | float)}
    jobs = {**stored.counted.live_jobs, **(stored.counted.ended_jobs or {})}
    return Metrics(
        at=stored.now,
        tallies=tuple(tallies),
        workers=tuple(stored.views),
        queues=tuple(one for one in stored.queues if _is_fresh(one, stored.now)),
        jobs=jobs,
        tasks=stored.counted.tasks,
        age=age,
        facts=facts,
        orphans=stored.counted.orphaned[0],
        unresolved=sum(stored.counted.unresolved.values()),
        gaps_open=sum(1 for gap in stored.gaps if gap.ended_at is None),
    )
