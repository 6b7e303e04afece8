"""The verbs of what is observed: tasks (jobs of ours among them), workers, queues, gaps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from headway.model.commands import ListJobs
from headway.model.errors import InvalidRequest, ResultsAway, TaskNotFound
from headway.model.evidence import ObservedTask
from headway.model.job import Job, Page
from headway.model.observed import Gap, ListTasks, ObservedQueue, ObservedWorker, TaskView, WorkerView
from headway.model.paging import read_cursor, write_cursor
from headway.model.redact import mask_secrets
from headway.model.sayings import ENDED, CeleryState, unnamed
from headway.model.states import STATE_VIEWS, VIEW, JobState
from headway.ports.cluster import LookedUp
from headway.ports.store import Reader
from headway.service.context import Context
from headway.service.family import MAX_CHILDREN, family_of
from headway.service.verbs import verb
from headway.service.watching import Watch, watch_of

MAX_PAGE = 1000
_T = TypeVar("_T")
_TEXT_CHARS = 1024
_LOOK_UP_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class Standing:
    """What a task is judged by beside what was said of it.

    Attributes:
        gone: workers that count as gone.
        unsaid: there are workers that send no events: what was sent may have been done long ago.
    """

    gone: Sequence[str]
    unsaid: bool = False


def standing_of(reader: Reader, watch: Watch, workers: Sequence[ObservedWorker]) -> Standing:
    """As it is now."""
    unsaid = any(gap.reason == "events_off" for gap in reader.observed.gaps_open())
    return Standing(watch.gone(workers), unsaid)


@verb
def list_tasks(ctx: Context, query: ListTasks) -> Page[TaskView]:
    """A page of tasks, newest first: jobs of ours and tasks observed, each once.

    What is said of a job is never stored as an observation, so nothing is in both.
    """
    if not 1 <= query.limit <= MAX_PAGE:
        raise InvalidRequest(f"expected limit to be 1 to {MAX_PAGE}, got: {query.limit}")
    at = read_cursor(query.cursor) if query.cursor is not None else None
    now = ctx.services.clock.now()

    def work(reader: Reader) -> list[TaskView]:
        return newest_tasks(
            reader, query, standing_of(reader, watch_of(ctx, reader, now), reader.observed.workers()), now, at
        )

    items = ctx.services.store.read(work)
    page = items[: query.limit]
    more = len(items) > query.limit
    return Page(page, write_cursor(page[-1].at, page[-1].id) if more else None)


def newest_tasks(
    reader: Reader, query: ListTasks, standing: Standing, now: int, at: tuple[int, str] | None = None
) -> list[TaskView]:
    """The tasks of a page and at least one more, where there is more."""
    items = [task_view(task, standing) for task in reader.observed.list_tasks(query, standing.gone, at)]
    jobs = _jobs_query(query)
    if jobs is not None:
        items += [job_view(job, now) for job in reader.list_jobs(jobs).items]
    items.sort(key=lambda item: (item.at, item.id), reverse=True)
    return items


def _jobs_query(query: ListTasks) -> ListJobs | None:
    if query.orphaned or query.root is not None:
        # Our own lost workers' jobs are rescued; and jobs know no root of a canvas that was only observed.
        return None
    celerys = [view.state for view in STATE_VIEWS if view.celery in query.celery_states]
    states = tuple(dict.fromkeys((*query.states, *celerys)))
    if query.celery_states and not states:
        # No job is ever RECEIVED or REJECTED.
        return None
    return ListJobs(
        states=states,
        task=query.name,
        queue=query.queue,
        worker=query.worker,
        text=query.text,
        since=query.since,
        until=query.until,
        # One more, to see whether there is more: as the observed ones do.
        limit=query.limit + 1,
        cursor=query.cursor,
    )


@verb
def get_task(ctx: Context, task_id: str) -> TaskView:
    """One task with its trail and its children.

    Raises:
        TaskNotFound: nobody knows this id.
        ResultsAway: nobody here does, and the result backend did not answer.
    """
    now = ctx.services.clock.now()

    def work(reader: Reader) -> TaskView | None:
        job = reader.get(task_id)
        if job is not None:
            return job_view(job, now)
        task = reader.observed.task(task_id)
        if task is None:
            return None
        view = task_view(task, standing_of(reader, watch_of(ctx, reader, now), reader.observed.workers()), whole=True)
        return replace(view, children=tuple(reader.observed.children(task_id, MAX_CHILDREN)))

    return _known(ctx, task_id, work)


@verb
def related_tasks(ctx: Context, task_id: str) -> list[TaskView]:
    """The tasks of the same chain, group or chord, oldest first; the task itself among them.

    Those of its root, those that called it, and all that these called. A job of ours is alone.

    Raises:
        TaskNotFound: nobody knows this id.
        ResultsAway: nobody here does, and the result backend did not answer.
    """
    now = ctx.services.clock.now()

    def work(reader: Reader) -> list[TaskView] | None:
        job = reader.get(task_id)
        if job is not None:
            return [job_view(job, now)]
        task = reader.observed.task(task_id)
        if task is None:
            return None
        standing = standing_of(reader, watch_of(ctx, reader, now), reader.observed.workers())
        return [task_view(one, standing) for one in family_of(reader.observed, task)]

    return _known(ctx, task_id, work)


def _known(ctx: Context, task_id: str, work: Callable[[Reader], _T | None]) -> _T:
    """What is stored of a task; else what the result backend says of it, which is stored then."""
    found = ctx.services.store.read(work)
    if found is not None:
        return found
    cluster, looked_up = ctx.services.cluster, LookedUp.NOT_READABLE
    if cluster is not None:
        looked_up = cluster.look_up(task_id, _LOOK_UP_SECONDS)
        found = ctx.services.store.read(work)
    if found is not None:
        return found
    if looked_up is LookedUp.NOT_ASKED:
        raise ResultsAway(
            f"nothing is known here of a task with the id {task_id[:80]!r}, and the result backend did not answer"
        )
    raise TaskNotFound(
        f"nobody knows a task with the id {task_id[:80]!r}: it is no job of this server, and nothing was observed of it",
        hint=_where_else(ctx, looked_up),
    )


def _where_else(ctx: Context, looked_up: LookedUp) -> str:
    """Where was looked, and how far back that reaches."""
    limits = ctx.services.limits
    kept = [
        f"{what} for {_span(seconds)} ({setting})" if seconds else f"{what} for ever ({setting}=0)"
        for what, seconds, setting in (
            ("observed tasks are kept", limits.observed_retention_seconds, "HEADWAY_OBSERVED_RETENTION_SECONDS"),
            ("finished jobs", limits.job_retention_seconds, "JOB_RETENTION_SECONDS"),
        )
    ]
    if looked_up is LookedUp.NOBODY_KNOWS:
        asked = "The result backend was asked too, and has no entry of it"
    elif ctx.services.cluster is None:
        asked = "No result backend was asked, because no cluster is watched by this process"
    else:
        asked = "There is no result backend that could be asked"
    return f"{asked}. History: {', '.join(kept)}; GET /api/v1/gaps (`headway sitrep`) says when nobody watched."


def _span(seconds: float) -> str:
    for size, word in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {word}"
    return f"{seconds:g} seconds"


@verb
def list_workers(ctx: Context) -> list[WorkerView]:
    """Workers of the cluster, and those of this server, by name."""
    now = ctx.services.clock.now()

    def work(reader: Reader) -> list[WorkerView]:
        observed = reader.observed.workers()
        watch = watch_of(ctx, reader, now)
        orphans = reader.observed.count_orphans(watch.gone(observed))
        return worker_views(ctx, reader, observed, orphans, watch, now)

    return ctx.services.store.read(work)


def worker_views(
    ctx: Context,
    reader: Reader,
    observed: Sequence[ObservedWorker],
    orphans: Mapping[str, tuple[int, int]],
    watch: Watch,
    now: int,
) -> list[WorkerView]:
    """Workers observed, with how many orphans each left, and those of this server, by name."""
    found = [
        WorkerView(
            one.hostname,
            watch.standing(one),
            one.seen_at,
            "observed",
            orphans.get(one.hostname, (0, 0))[0],
            {**one.facts, "first_seen_at": one.first_seen_at, "heartbeat_at": one.heartbeat_at},
        )
        for one in observed
    ]
    lease = ctx.services.limits.lease_seconds
    # Nobody runs jobs over a store that this process has for itself, however lately somebody did.
    alone = ctx.services.alone
    found += [_own_worker(row, now, 0.0 if alone else lease) for row in reader.own_workers()]
    return sorted(found, key=lambda one: one.name)


def _own_worker(row: dict[str, Any], now: int, lease: float) -> WorkerView:
    if row["stopped_at"] is not None:
        standing = "offline"
    else:
        standing = "online" if now - row["beat_at"] <= lease * 1_000_000 else "gone"
    facts = {
        "pid": row["pid"],
        "concurrency": row["slots"],
        "version": row["version"],
        "host": row["host"],
        "pool": "threads",
        "ident": "headway",
        "first_seen_at": row["started_at"],
    }
    return WorkerView(row["id"], standing, row["beat_at"], "job", 0, facts)


@verb
def list_queues(ctx: Context) -> list[ObservedQueue]:
    """Queues of the broker as they were last seen, and those that jobs wait in, by name."""

    def look(reader: Reader) -> list[ObservedQueue]:
        found = {one.name: one for one in reader.observed.queues()}
        paused = {one.name: one for one in reader.deliveries.paused()}
        counts, sent, now = reader.queue_counts(), reader.deliveries.outstanding(), reader.now()
        for name in (*counts, *paused):
            seen = found.get(name) or ObservedQueue(name, now, {"exists": True})
            waiting, running = counts.get(name, (0, 0))
            jobs = {"waiting": waiting, "running": running, "unsent": sent[name].unsent if name in sent else 0}
            found[name] = replace(seen, facts={**seen.facts, "jobs": jobs, "paused": paused.get(name)})
        return [found[name] for name in sorted(found)]

    return ctx.services.store.read(look)


@verb
def list_gaps(ctx: Context, limit: int = 100) -> list[Gap]:
    """The newest times in which events may have been missed."""
    return ctx.services.store.read(lambda reader: reader.observed.gaps(limit))


def task_view(task: ObservedTask, standing: Standing, *, whole: bool = False) -> TaskView:
    """An observed task as people see it."""
    orphaned = task.state == CeleryState.STARTED and task.worker in standing.gone
    unsaid = standing.unsaid and task.state == CeleryState.PENDING
    nameless = task.name is None and task.rank >= ENDED
    return TaskView(
        id=task.id,
        name=task.name,
        state=task.job_state,
        celery_state=task.state,
        at=task.seen_first_at,
        origin="observed",
        queue=task.queue,
        worker=task.worker,
        retries=task.retries if task.tries_known else None,
        args=task.args,
        kwargs=task.kwargs,
        result=task.result,
        error=task.error,
        traceback=task.traceback if whole else None,
        runtime=task.runtime,
        sent_at=task.sent_at,
        received_at=task.received_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        eta=task.eta,
        expires_at=task.expires,
        root_id=task.root_id,
        # What was stored by an earlier version may name itself.
        parent_id=task.parent_id if task.parent_id != task.id else None,
        seen_at=task.seen_at,
        complete=task.gap is None and not nameless and not unsaid,
        orphaned=orphaned,
        gap=task.gap,
        unnamed=unnamed(mark.said for mark in task.trail) if nameless else "",
        trail=tuple(sorted(task.trail, key=lambda mark: mark.at)) if whole else (),
    )


def job_view(job: Job, now: int) -> TaskView:
    """A job of ours as people see it among tasks."""
    done = job.finished_at is not None and job.started_at is not None
    return TaskView(
        id=job.id,
        name=job.task,
        state=job.state,
        celery_state=VIEW[job.state].celery,
        at=job.submitted_at,
        origin="job",
        queue=job.queue,
        worker=job.worker_id,
        retries=max(0, job.attempts - 1),
        args=_shown(job.args),
        kwargs=_shown(job.kwargs),
        error=job.error.message if job.error is not None else None,
        traceback=job.error.traceback if job.error is not None else None,
        runtime=(job.finished_at - job.started_at) / 1_000_000 if done else None,  # type: ignore[operator]
        sent_at=job.submitted_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        eta=job.run_at if job.state in (JobState.SCHEDULED, JobState.RETRY_SCHEDULED) else None,
        expires_at=job.expires_at,
        root_id=job.root_id,
        parent_id=job.parent_id,
        seen_at=now,
    )


def _shown(value: Any) -> str:
    text = mask_secrets(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _TEXT_CHARS else text[: _TEXT_CHARS - 1] + "…"
