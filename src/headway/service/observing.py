"""The verbs of what is observed: tasks (jobs of ours among them), workers, queues, gaps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headway.model.commands import ListJobs
from headway.model.errors import InvalidRequest, TaskNotFound
from headway.model.evidence import ENDED, CeleryState, ObservedTask
from headway.model.job import Job, Page
from headway.model.observed import Gap, ListTasks, ObservedQueue, ObservedWorker, TaskView, WorkerView
from headway.model.paging import read_cursor, write_cursor
from headway.model.redact import mask_secrets
from headway.model.states import VIEW, JobState
from headway.ports.store import Reader
from headway.service.context import Context
from headway.service.verbs import verb

MAX_PAGE = 1000
MAX_RELATED = 1000
_TEXT_CHARS = 1024
_LOOK_UP_SECONDS = 0.7


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
        return newest_tasks(reader, query, gone_workers(reader.observed.workers(), now), now, at)

    items = ctx.services.store.read(work)
    page = items[: query.limit]
    more = len(items) > query.limit
    return Page(page, write_cursor(page[-1].at, page[-1].id) if more else None)


def newest_tasks(
    reader: Reader, query: ListTasks, gone: Sequence[str], now: int, at: tuple[int, str] | None = None
) -> list[TaskView]:
    """The tasks of a page and at least one more, where there is more; ``gone`` are workers that count as gone."""
    items = [task_view(task, gone) for task in reader.observed.list_tasks(query, gone, at)]
    jobs = _jobs_query(query)
    if jobs is not None:
        items += [job_view(job, now) for job in reader.list_jobs(jobs).items]
    items.sort(key=lambda item: (item.at, item.id), reverse=True)
    return items


def _jobs_query(query: ListTasks) -> ListJobs | None:
    if query.orphaned or query.root is not None:
        # Our own lost workers' jobs are rescued; and jobs know no root of a canvas that was only observed.
        return None
    return ListJobs(
        states=query.states,
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
    """One task with its trail. Raises ``TaskNotFound`` for an id that nobody knows."""
    now = ctx.services.clock.now()

    def work(reader: Reader) -> TaskView | None:
        job = reader.get(task_id)
        if job is not None:
            return job_view(job, now)
        task = reader.observed.task(task_id)
        return None if task is None else task_view(task, gone_workers(reader.observed.workers(), now), whole=True)

    found = ctx.services.store.read(work)
    cluster = ctx.services.cluster
    if found is None and cluster is not None and cluster.look_up(task_id, _LOOK_UP_SECONDS):
        found = ctx.services.store.read(work)
    if found is None:
        raise TaskNotFound(
            f"nobody knows a task with the id {task_id[:80]!r}: it is no job of this server, and nothing was observed of it"
        )
    return found


@verb
def related_tasks(ctx: Context, task_id: str) -> list[TaskView]:
    """The tasks of the same chain, group or chord, oldest first; the task itself among them."""
    now = ctx.services.clock.now()

    def work(reader: Reader) -> list[TaskView]:
        task = reader.observed.task(task_id)
        if task is None:
            return []
        gone = gone_workers(reader.observed.workers(), now)
        return [task_view(one, gone) for one in reader.observed.related(task.root_id or task.id, MAX_RELATED)]

    return ctx.services.store.read(work)


@verb
def list_workers(ctx: Context) -> list[WorkerView]:
    """Workers of the cluster, and those of this server, by name."""
    now = ctx.services.clock.now()

    def work(reader: Reader) -> list[WorkerView]:
        observed = reader.observed.workers()
        orphans = reader.observed.count_orphans(gone_workers(observed, now))
        return worker_views(ctx, reader, observed, orphans, now)

    return ctx.services.store.read(work)


def worker_views(
    ctx: Context,
    reader: Reader,
    observed: Sequence[ObservedWorker],
    orphans: Mapping[str, tuple[int, int]],
    now: int,
) -> list[WorkerView]:
    """Workers observed, with how many orphans each left, and those of this server, by name."""
    found = [
        WorkerView(
            one.hostname,
            one.standing(now),
            one.seen_at,
            "observed",
            orphans.get(one.hostname, (0, 0))[0],
            {**one.facts, "first_seen_at": one.first_seen_at, "heartbeat_at": one.heartbeat_at},
        )
        for one in observed
    ]
    lease = ctx.services.limits.lease_seconds
    found += [_own_worker(row, now, lease) for row in reader.own_workers()]
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
    """Queues of the broker as they were last seen, by name."""
    return ctx.services.store.read(lambda reader: reader.observed.queues())


@verb
def list_gaps(ctx: Context, limit: int = 100) -> list[Gap]:
    """The newest times in which events may have been missed."""
    return ctx.services.store.read(lambda reader: reader.observed.gaps(limit))


def gone_workers(workers: Sequence[ObservedWorker], now: int) -> list[str]:
    """Names of those that are gone or said goodbye."""
    return [one.hostname for one in workers if one.standing(now) in ("gone", "offline")]


def task_view(task: ObservedTask, gone: Sequence[str], *, whole: bool = False) -> TaskView:
    """An observed task as people see it."""
    orphaned = task.state == CeleryState.STARTED and task.worker in gone
    return TaskView(
        id=task.id,
        name=task.name,
        state=task.job_state,
        celery_state=task.state,
        at=task.seen_first_at,
        origin="observed",
        queue=task.queue,
        worker=task.worker,
        retries=task.retries,
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
        parent_id=task.parent_id,
        seen_at=task.seen_at,
        complete=task.gap is None and (task.name is not None or task.rank < ENDED),
        orphaned=orphaned,
        gap=task.gap,
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
