"""What is observed over REST: tasks, workers, queues, gaps, the situation report; and the documents' paths of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from headway.http.bodies import answer, only_query, problems_of, said
from headway.http.jobs import MAX_LIMIT, Call, moment_of, names_of, wrong
from headway.http.observed_schemas import (
    GapsOut,
    QueuesOut,
    SitrepOut,
    TaskDetailOut,
    TaskPageOut,
    TasksOut,
    WorkersOut,
)
from headway.model.errors import InvalidRequest, TaskNotFound
from headway.model.observed import TASK_STATES, ListTasks, TaskView, task_states
from headway.model.reported import gap_json, queue_json, situation_json, task_json, worker_json
from headway.model.sayings import CeleryState
from headway.model.situation import Situation
from headway.model.states import TERMINAL_STATES, JobState
from headway.model.times import to_rfc3339
from headway.service import (
    get_task,
    list_gaps,
    list_queues,
    list_tasks,
    list_workers,
    read_metrics,
    related_tasks,
)

router = APIRouter(prefix="/api/v1", tags=["observed"])
documents = APIRouter(tags=["documents"])
metrics_router = APIRouter(tags=["observed"])
_FILTERS: Final = (
    "state", "task", "queue", "worker", "root", "text", "orphaned", "since", "until", "limit", "cursor",
)  # fmt: skip


async def task_id_of(task_id: Annotated[str, Path(description="id of the task")]) -> str:
    """Dependency: an id that may exist."""
    if not 0 < len(task_id) <= 255 or "\x00" in task_id:
        raise TaskNotFound(f"No task has the id {task_id[:80]!r}.")
    return task_id


TaskId = Annotated[str, Depends(task_id_of)]


@router.get("/tasks", response_model=TaskPageOut, responses=problems_of())
async def tasks(
    request: Request,
    call: Call,
    state: Annotated[list[str] | None, Query(description="our names or Celery's; repeated or with commas")] = None,
    task: Annotated[str | None, Query(description="the task's name")] = None,
    queue: str | None = None,
    worker: str | None = None,
    root: Annotated[str | None, Query(description="tasks of this chain, group or chord")] = None,
    text: Annotated[str | None, Query(max_length=200)] = None,
    orphaned: bool = False,
    since: Annotated[str | None, Query(description="first seen at or after, RFC 3339 with a zone")] = None,
    until: Annotated[str | None, Query(description="first seen before, RFC 3339 with a zone")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: str | None = None,
) -> Response:
    """Jobs of ours and tasks observed, newest first."""
    only_query(request, *_FILTERS)
    for name, value in (("task", task), ("queue", queue), ("worker", worker), ("root", root), ("text", text)):
        if value is not None and "\x00" in value:
            raise InvalidRequest(f"{name}: expected no NUL character.", hint="Leave the character out.")
    ours, celerys = _states_of(state or [])
    query = ListTasks(
        states=ours,
        celery_states=celerys,
        name=task,
        queue=queue,
        worker=worker,
        root=root,
        text=text or None,
        orphaned=orphaned,
        since=moment_of("since", since),
        until=moment_of("until", until),
        limit=limit,
        cursor=cursor,
    )
    page = await call(list_tasks, query)
    return said({"items": [task_json(one) for one in page.items], "next_cursor": page.next_cursor})


def _states_of(given: list[str]) -> tuple[tuple[JobState, ...], tuple[CeleryState, ...]]:
    try:
        return task_states(names_of(given))
    except ValueError as error:
        raise wrong("state", f"expected one of {', '.join(TASK_STATES)}, got: {error.args[0][:60]!r}") from None


# An id may be anything that a producer chose, with slashes in it, too: so the longer path comes first.
@router.get("/tasks/{task_id:path}/related", response_model=TasksOut, responses=problems_of(404))
async def related(request: Request, call: Call, task_id: TaskId) -> Response:
    """The tasks of the same chain, group or chord: those of its root, those that called it, those it called. Oldest first."""
    only_query(request)
    found = await call(related_tasks, task_id)
    return said({"items": [task_json(one) for one in found]})


@router.get("/tasks/{task_id:path}", response_model=TaskDetailOut, responses=problems_of(404))
async def task(request: Request, call: Call, task_id: TaskId) -> Response:
    """One task with everything that was said of it."""
    only_query(request)
    return said(task_json(await call(get_task, task_id), whole=True))


@router.get("/workers", response_model=WorkersOut, responses=problems_of())
async def workers(request: Request, call: Call) -> Response:
    """Workers of the cluster, and those of this server."""
    only_query(request)
    found = await call(list_workers)
    return said({"items": [worker_json(one) for one in found]})


@router.get("/queues", response_model=QueuesOut, responses=problems_of())
async def queues(request: Request, call: Call) -> Response:
    """Queues of the broker, as they were last seen."""
    only_query(request)
    found = await call(list_queues)
    return said({"items": [queue_json(one) for one in found]})


@router.get("/gaps", response_model=GapsOut, responses=problems_of())
async def gaps(request: Request, call: Call) -> Response:
    """Times in which events may have been missed, the newest first."""
    only_query(request)
    return said({"items": [gap_json(one) for one in await call(list_gaps)]})


async def _sitrep(request: Request, call: Call) -> Response:
    only_query(request)
    return said(situation_json(await call.situation()))


@router.get("/sitrep", response_model=SitrepOut, responses=problems_of())
async def sitrep(request: Request, call: Call) -> Response:
    """The situation: what is so, how old each figure is, and what wants attention. It waits for nobody outside longer than a second."""
    return await _sitrep(request, call)


@documents.get("/api/scheduler/sitrep", response_model=SitrepOut)
async def scheduler_sitrep(request: Request, call: Call) -> Response:
    """The situation report at the documents' path."""
    return await _sitrep(request, call)


class CeleryStatusOut(BaseModel):
    """The cluster in short. ``unknown``: the broker does not answer, or nobody watches."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["connected", "no_workers", "unknown"]
    active_workers: list[str]
    worker_count: int
    scheduled_tasks_count: int
    beat_schedule: dict[str, Any]
    worker_stats: dict[str, Any]
    health_status: str
    timestamp: str


class CeleryTaskOut(BaseModel):
    """One task in Celery's words."""

    model_config = ConfigDict(extra="forbid")

    task_id: str
    status: str
    ready: bool
    result: Any = None
    error: str | None = None
    traceback: str | None = None
    name: str | None
    worker: str | None
    retries: int | None
    complete: bool


def celery_router(beat_schedule: Callable[[], dict[str, Any]]) -> APIRouter:
    """The documents' paths about Celery.

    Args:
        beat_schedule: entries of the application's own schedule, by name.
    """
    celery = APIRouter(tags=["documents"])

    @celery.get("/api/celery/status", response_model=CeleryStatusOut)
    async def status(request: Request, call: Call) -> Response:
        """The cluster in short."""
        only_query(request)
        return answer(_status(await call.situation(), beat_schedule()))

    @celery.get("/api/celery/task/{task_id:path}", response_model=CeleryTaskOut)
    async def celery_task(request: Request, call: Call, task_id: TaskId) -> Response:
        """One task in Celery's words; 404 for what nobody knows, 503 while the result backend cannot be asked."""
        only_query(request)
        return answer(_celery_task(await call(get_task, task_id)))

    return celery


def _status(situation: Situation, entries: dict[str, Any]) -> CeleryStatusOut:
    sources = {one.name: one for one in situation.sources}
    broker = sources.get("broker")
    online = [one for one in situation.workers if one.standing == "online" and one.origin == "observed"]
    if broker is None or broker.ok is not True:
        state: Literal["connected", "no_workers", "unknown"] = "unknown"
    else:
        state = "connected" if online else "no_workers"
    return CeleryStatusOut(
        status=state,
        active_workers=[one.name for one in online],
        worker_count=len(online),
        scheduled_tasks_count=len(entries),
        beat_schedule=entries,
        worker_stats={one.name: worker_json(one) for one in online},
        health_status=situation.health,
        timestamp=to_rfc3339(situation.at),
    )


def _celery_task(task: TaskView) -> CeleryTaskOut:
    failed = task.state in (JobState.FAILED, JobState.TIMEOUT, JobState.RETRY_SCHEDULED, JobState.CANCELLED)
    return CeleryTaskOut(
        task_id=task.id,
        status=task.celery_state,
        ready=task.state in TERMINAL_STATES,
        result=task.result if task.state is JobState.SUCCEEDED else None,
        error=task.error if failed else None,
        traceback=task.traceback if failed else None,
        name=task.name,
        worker=task.worker,
        retries=task.retries,
        complete=task.complete,
    )


@metrics_router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, call: Call) -> Response:
    """For Prometheus: celery-exporter's names, and ours beside them. Nobody is asked for it."""
    # Imported at the first scrape: a start must not wait for what it may never need.
    from headway.feed.metrics import CONTENT_TYPE, render

    body = await call.run(lambda: render(read_metrics(call.context())))
    return Response(body, media_type=CONTENT_TYPE)
