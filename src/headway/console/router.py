"""The routes of the pages, and of the fragments that keep them live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from headway.console import words
from headway.console.colours import states_css
from headway.console.live import change_stream
from headway.console.observed import observed_routes, situation_page
from headway.console.pages import STATIC, Pages, watches
from headway.feed import FeedTailer
from headway.model.commands import ListJobs
from headway.model.errors import HeadwayError
from headway.model.job import Job
from headway.model.states import JobState
from headway.service import count_jobs, get_job, list_attempts, list_jobs, read_logs, read_result

PAGE_JOBS: Final = 30
PAGE_LINES: Final = 500
LineId = Annotated[int, Query(ge=0, le=2**63 - 1)]
"""Id of a log line, as wide as the database holds one."""
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the list shows."""

    state: JobState | None = None
    text: str = ""
    cursor: str | None = None

    @classmethod
    def of(cls, request: Request) -> Filter:
        """From the query; what is not known is not filtered by."""
        given = request.query_params
        known = {state.value for state in JobState}
        state = JobState(given["state"]) if given.get("state") in known else None
        return cls(state, words.text_of(given, "text"), given.get("cursor") or None)

    def query(self, **changes: str | None) -> str:
        """The query string of this filter, with changes."""
        fields = {
            "state": self.state.value if self.state else None,
            "text": self.text,
            "cursor": self.cursor,
            **changes,
        }
        return urlencode({name: value for name, value in fields.items() if value})


def console_router(tailer: FeedTailer, *, version: str) -> APIRouter:
    """The pages ``/``, ``/situation``, ``/jobs``, ``/tasks``, those of one job and of one task, ``/login``, and their files.

    ``/`` is the list of jobs where jobs are run, and the situation where a cluster is watched.
    They find the request's caller in ``request.state.call``, which the door of the web puts there.

    Args:
        tailer: the one reader of the feed.
        version: of Headway, shown and used to renew cached files.
    """
    pages = Pages(version)
    router = APIRouter(include_in_schema=False)
    _list_routes(router, pages)
    _job_routes(router, pages)
    observed_routes(router, pages)

    @router.get("/console/stream")
    async def stream(job: str | None = None, after: LineId = 0) -> Response:
        # The stream says at once that something changed, so what the page lacks above `after` it asks for by itself.
        return await change_stream(tailer, job or None)

    @router.get("/login")
    async def login(request: Request) -> Response:
        if request.state.security.api_key is None:
            return RedirectResponse("/", 303)
        return pages.page(
            request, "login.html", failed="failed" in request.query_params, next=request.query_params.get("next", "/")
        )

    @router.get("/static/{path:path}")
    async def static(path: str) -> Response:
        return _file(path)

    @router.get("/favicon.ico")
    async def favicon() -> Response:
        return _file("favicon.svg")

    return router


def _list_routes(router: APIRouter, pages: Pages) -> None:
    async def fields(request: Request) -> dict[str, Any]:
        wanted = Filter.of(request)
        call = request.state.call
        query = ListJobs(
            states=(wanted.state,) if wanted.state else (),
            text=wanted.text or None,
            limit=PAGE_JOBS,
            cursor=wanted.cursor,
        )
        page = await call(list_jobs, query)
        counts = await call(count_jobs)
        now = call.services.clock.now()
        return {
            "filter": wanted,
            "jobs": page.items,
            "next_cursor": page.next_cursor,
            "counts": counts,
            "now": now,
            "ran": {job.id: words.ran_for(job, now) for job in page.items},
        }

    @router.get("/")
    async def index(request: Request) -> Response:
        return await (situation_page(request, pages) if watches(request) else jobs(request))

    @router.get("/jobs")
    async def jobs(request: Request) -> Response:
        try:
            return pages.page(request, "jobs.html", **await fields(request))
        except HeadwayError as error:
            return pages.error(request, error)

    @router.get("/console/jobs")
    async def fragment(request: Request) -> Response:
        return pages.page(request, "_jobs.html", **await fields(request))


def _job_routes(router: APIRouter, pages: Pages) -> None:
    async def fields(request: Request, job_id: str) -> dict[str, Any]:
        call = request.state.call
        job = await call(get_job, job_id)
        now = call.services.clock.now()
        return {
            "job": job,
            "now": now,
            "ran": words.ran_for(job, now),
            "attempts": (await call(list_attempts, job_id))[::-1],
            **await _result(call, job),
        }

    @router.get("/jobs/{job_id}/view")
    async def view(request: Request, job_id: str) -> Response:
        try:
            job = await fields(request, job_id)
            lines = await request.state.call(read_logs, job_id, 0, PAGE_LINES)
        except HeadwayError as error:
            return pages.error(request, error)
        return pages.page(
            request, "job.html", lines=lines, after=lines[-1].id if lines else 0, more=len(lines) == PAGE_LINES, **job
        )

    @router.get("/console/jobs/{job_id}")
    async def fragment(request: Request, job_id: str) -> Response:
        return pages.page(request, "_job.html", **await fields(request, job_id))

    @router.get("/console/jobs/{job_id}/log")
    async def log(request: Request, job_id: str, after: LineId = 0) -> Response:
        call = request.state.call
        lines = await call(read_logs, job_id, after, PAGE_LINES)
        last = lines[-1].id if lines else after
        return pages.page(
            request,
            "_log.html",
            lines=lines,
            after=last,
            more=len(lines) == PAGE_LINES,
            job=await call(get_job, job_id),
        )


async def _result(call: Any, job: Job) -> dict[str, Any]:
    if job.state is not JobState.SUCCEEDED:
        return {"result": None, "no_result": None}
    try:
        return {"result": words.result_view(await call(read_result, job.id)), "no_result": None}
    except HeadwayError as error:
        return {"result": None, "no_result": error}


def _file(path: str) -> Response:
    if path == "states.css":
        return Response(states_css(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})
    file = (STATIC / path).resolve()
    if STATIC.resolve() not in file.parents or not file.is_file():
        return Response("There is no such file.", 404, media_type="text/plain")
    # Pages ask by a stamp of the content, so an old copy is never used after an upgrade.
    return FileResponse(file, media_type=_TYPES.get(file.suffix), headers={"Cache-Control": "max-age=3600"})
