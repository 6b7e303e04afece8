"""The pages of what is observed: the situation, the list of tasks, one task. They ask for themselves anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from headway.console import health, trail
from headway.console.pages import Pages, watches
from headway.console.words import text_of
from headway.model.errors import HeadwayError, TaskNotFound
from headway.model.observed import TASK_STATES, ListTasks, TaskView, task_states
from headway.service import (
    MAX_CHILDREN,
    get_task,
    list_gaps,
    list_queues,
    list_tasks,
    list_workers,
    related_tasks,
)

PAGE_TASKS: Final = 30
MAX_RELATIVES: Final = 200
_MAX_GAPS: Final = 1_000
_MAX_ID: Final = 255
_STATES: Final = frozenset(name.lower() for name in TASK_STATES)


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """What the list of tasks shows; ``state`` as it was asked for, by our name or Celery's."""

    state: str = ""
    task: str = ""
    queue: str = ""
    worker: str = ""
    text: str = ""
    orphaned: bool = False
    cursor: str = ""

    @classmethod
    def of(cls, request: Request) -> TaskFilter:
        """From the query; a state that nobody knows is not filtered by."""
        given = request.query_params
        state = text_of(given, "state")
        return cls(
            state=state if state.lower() in _STATES else "",
            task=text_of(given, "task", _MAX_ID),
            queue=text_of(given, "queue", _MAX_ID),
            worker=text_of(given, "worker", _MAX_ID),
            text=text_of(given, "text"),
            orphaned=text_of(given, "orphaned").lower() in ("true", "1", "on"),
            cursor=text_of(given, "cursor"),
        )

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return any((self.state, self.task, self.queue, self.worker, self.text, self.orphaned))

    def query(self, **changes: str) -> str:
        """The query string of this filter, with changes."""
        fields = {
            "state": self.state,
            "task": self.task,
            "queue": self.queue,
            "worker": self.worker,
            "text": self.text,
            "orphaned": "true" if self.orphaned else "",
            "cursor": self.cursor,
            **changes,
        }
        return urlencode({name: value for name, value in fields.items() if value})

    def wanted(self) -> ListTasks:
        """What to ask the service for."""
        ours, celerys = task_states([self.state] if self.state else [])
        return ListTasks(
            states=ours,
            celery_states=celerys,
            name=self.task or None,
            queue=self.queue or None,
            worker=self.worker or None,
            text=self.text or None,
            orphaned=self.orphaned,
            limit=PAGE_TASKS,
            cursor=self.cursor or None,
        )


def observed_routes(router: APIRouter, pages: Pages) -> None:
    """Add the pages ``/situation``, ``/tasks`` and ``/tasks/{id}/view``, and their fragments.

    Args:
        router: of the pages.
        pages: the templates.
    """

    @router.get("/situation")
    async def situation(request: Request) -> Response:
        return await situation_page(request, pages)

    @router.get("/console/situation")
    async def fragment(request: Request) -> Response:
        return pages.page(request, "_situation.html", **await _situation_fields(request))

    _list_routes(router, pages)
    _task_routes(router, pages)


async def situation_page(request: Request, pages: Pages) -> Response:
    """The page of the situation."""
    return pages.page(request, "situation.html", **await _situation_fields(request))


async def _situation_fields(request: Request) -> dict[str, Any]:
    now_is = await request.state.call.situation()
    return {
        "situation": now_is,
        "now": now_is.at,
        "verdict": health.verdict(now_is),
        "tiles": health.tiles(now_is),
        "total": health.total(now_is),
        "workers": [health.worker_row(one) for one in now_is.workers],
        "queues": [health.queue_row(one, now_is.at) for one in now_is.queues],
        "sources": [health.source_row(one) for one in now_is.sources],
        "rows": [trail.task_row(one) for one in now_is.recent],
        "upcoming": [(one, trail.page_of(one.task_id, one.origin)) for one in now_is.upcoming],
        "watched": any(one.name == "broker" for one in now_is.sources),
        "stored": all(one.ok is not False for one in now_is.sources if one.name == "jobs"),
    }


def _list_routes(router: APIRouter, pages: Pages) -> None:
    async def fields(request: Request) -> dict[str, Any]:
        call = request.state.call
        wanted = TaskFilter.of(request)
        page = await call(list_tasks, wanted.wanted())
        return {
            "filter": wanted,
            "rows": [trail.task_row(one) for one in page.items],
            "next_cursor": page.next_cursor or "",
            "now": call.services.clock.now(),
            "watched": watches(request),
        }

    @router.get("/tasks")
    async def index(request: Request) -> Response:
        try:
            shown = await fields(request)
            choices = await _choices(request, shown["filter"])
        except HeadwayError as error:
            return pages.error(request, error)
        return pages.page(request, "tasks.html", choices=choices, **shown)

    @router.get("/console/tasks")
    async def fragment(request: Request) -> Response:
        return pages.page(request, "_tasks.html", **await fields(request))


async def _choices(request: Request, wanted: TaskFilter) -> dict[str, list[str]]:
    """What can be chosen from: what workers and the broker name, and always what was asked for."""
    call = request.state.call
    workers, queues = await call(list_workers), await call(list_queues)
    names = {str(name) for one in workers for name in one.facts.get("registered") or ()}
    consumed = {str(name) for one in workers for name in one.facts.get("queues") or ()}
    return {
        "task": sorted({*names, wanted.task} - {""}),
        "queue": sorted({*consumed, *(one.name for one in queues), wanted.queue} - {""}),
        "worker": sorted({*(one.name for one in workers), wanted.worker} - {""}),
    }


def _task_routes(router: APIRouter, pages: Pages) -> None:
    # An id may be anything that a producer chose, with slashes in it, too.
    @router.get("/tasks/{task_id:path}/view")
    async def view(request: Request, task_id: str) -> Response:
        try:
            task = await _found(request, task_id)
            if task.origin == "job":
                return RedirectResponse(trail.page_of(task.id, "job"), 303)
            shown = await _task_fields(request, task)
        except HeadwayError as error:
            return pages.error(request, error)
        return pages.page(request, "task.html", **shown)

    @router.get("/console/tasks/{task_id:path}")
    async def fragment(request: Request, task_id: str) -> Response:
        return pages.page(request, "_task.html", **await _task_fields(request, await _found(request, task_id)))


async def _found(request: Request, task_id: str) -> TaskView:
    if not 0 < len(task_id) <= _MAX_ID or "\x00" in task_id:
        raise TaskNotFound(f"nobody knows a task with the id {task_id[:80]!r}")
    found: TaskView = await request.state.call(get_task, task_id)
    return found


async def _task_fields(request: Request, task: TaskView) -> dict[str, Any]:
    call = request.state.call
    related = await call(related_tasks, task.id)
    family = trail.relatives(task, related) if len(related) > 1 else []
    return {
        "task": task,
        "row": trail.task_row(task),
        "arguments": trail.arguments(task),
        "steps": trail.steps(task),
        "gap": trail.gap_words(task, await call(list_gaps, _MAX_GAPS) if task.gap else ()),
        "relatives": family[:MAX_RELATIVES],
        "more_relatives": max(0, len(family) - MAX_RELATIVES),
        "known": {one.id for one in related},
        "most_children": MAX_CHILDREN,
        "ended": trail.ended(task),
        "now": call.services.clock.now(),
    }
