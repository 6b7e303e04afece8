"""REST of jobs: submit, get, list, cancel, rerun, attempts, logs, result."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from headway.http.bodies import answer, body_of, only_query, problems_of, read_body, result_answer
from headway.http.calls import Caller, call_of
from headway.http.schemas import (
    CANCEL,
    RERUN,
    SUBMIT,
    AttemptOut,
    AttemptsOut,
    CancelIn,
    JobOut,
    JobPageOut,
    LogLineOut,
    LogsOut,
    RerunIn,
    ResultOut,
    SubmitIn,
    WorkflowOut,
)
from headway.model.commands import ListJobs
from headway.model.errors import InvalidRequest, JobNotFound
from headway.model.job import Job
from headway.model.states import STATE_VIEWS, JobState, states_named
from headway.model.times import from_rfc3339
from headway.service import (
    MAX_WORKFLOW,
    cancel_job,
    get_job,
    list_attempts,
    list_jobs,
    read_logs,
    read_result,
    read_workflow,
    rerun_job,
    submit_job,
)

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

Call = Annotated[Caller, Depends(call_of)]
MAX_LIMIT: Final = 1000
MAX_LINES: Final = 10_000
LineId = Annotated[int, Query(ge=0, le=2**63 - 1)]
"""Id of a log line, as wide as the database holds one."""
_FILTERS: Final = ("state", "task", "queue", "worker", "label", "text", "since", "until", "limit", "cursor")


async def job_id_of(job_id: Annotated[str, Path(description="id of the job")]) -> str:
    """Dependency: an id that may exist; what cannot be one is not found before any database is asked."""
    if not 0 < len(job_id) <= 255 or "\x00" in job_id:
        raise JobNotFound(f"No job has the id {job_id[:80]!r}.")
    return job_id


JobId = Annotated[str, Depends(job_id_of)]


def location(job: Job) -> dict[str, str]:
    """The header that says where the job is."""
    return {"Location": f"/api/v1/jobs/{job.id}"}


async def idempotency_key_of(
    idempotency_key: Annotated[
        str | None, Header(description="the same key and payload is the same job, other payload 409")
    ] = None,
) -> str | None:
    """Dependency: the request's ``Idempotency-Key``."""
    if idempotency_key is None:
        return None
    if not 0 < len(idempotency_key) <= 255 or not idempotency_key.isprintable():
        raise InvalidRequest(
            f"expected Idempotency-Key to be 1 to 255 printable characters, got: {len(idempotency_key)} characters",
            errors=[{"field": "Idempotency-Key", "message": "expected 1 to 255 printable characters"}],
        )
    return idempotency_key


@router.post(
    "",
    status_code=202,
    response_model=JobOut,
    responses=problems_of(400, 404, 409, 413, 415),
    openapi_extra=body_of(SubmitIn),
)
async def submit(request: Request, call: Call, key: Annotated[str | None, Depends(idempotency_key_of)]) -> Response:
    """Run a task: the job is stored when this answers."""
    only_query(request)
    wanted = await read_body(request, SUBMIT)
    job = await call(submit_job, wanted.command(idempotency_key=key, traceparent=call.traceparent))
    return answer(JobOut.of(job), 202, location(job))


@router.get("", response_model=JobPageOut, responses=problems_of())
async def list_(
    request: Request,
    call: Call,
    state: Annotated[list[str] | None, Query(description="our names or Celery's; repeated or with commas")] = None,
    task: str | None = None,
    queue: str | None = None,
    worker: str | None = None,
    label: Annotated[str | None, Query(description="name=value")] = None,
    text: Annotated[str | None, Query(max_length=200)] = None,
    since: Annotated[str | None, Query(description="submitted at or after, RFC 3339 with a zone")] = None,
    until: Annotated[str | None, Query(description="submitted before, RFC 3339 with a zone")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: str | None = None,
) -> Response:
    """Jobs, newest first."""
    only_query(request, *_FILTERS)
    for name, value in (("task", task), ("queue", queue), ("worker", worker), ("label", label), ("text", text)):
        if value is not None and "\x00" in value:
            raise wrong(name, "expected no NUL character")
    query = ListJobs(
        states=states_of(state or []),
        task=task,
        queue=queue,
        worker=worker,
        label=_label_of(label),
        text=text or None,
        since=moment_of("since", since),
        until=moment_of("until", until),
        limit=limit,
        cursor=cursor,
    )
    page = await call(list_jobs, query)
    return answer(
        JobPageOut.model_construct(items=[JobOut.of(job) for job in page.items], next_cursor=page.next_cursor)
    )


@router.get("/{job_id}", response_model=JobOut, responses=problems_of(404))
async def get(request: Request, call: Call, job_id: JobId) -> Response:
    """One job as it is now."""
    only_query(request)
    return answer(JobOut.of(await call(get_job, job_id)))


@router.get("/{job_id}/attempts", response_model=AttemptsOut, responses=problems_of(404))
async def attempts(request: Request, call: Call, job_id: JobId) -> Response:
    """All tries of a job, oldest first."""
    only_query(request)
    found = await call(list_attempts, job_id)
    return answer(AttemptsOut.model_construct(items=[AttemptOut.of(attempt) for attempt in found]))


@router.get("/{job_id}/workflow", response_model=WorkflowOut, responses=problems_of(404))
async def workflow(
    request: Request, call: Call, job_id: JobId, limit: Annotated[int, Query(ge=1, le=MAX_WORKFLOW)] = MAX_WORKFLOW
) -> Response:
    """All jobs of the workflow that a job belongs to: its root, and what that and those below it sent."""
    only_query(request, "limit")
    found = await call(read_workflow, job_id, limit)
    items = [JobOut.of(job) for job in found.jobs]
    return answer(WorkflowOut.model_construct(root_id=found.root_id, items=items, complete=found.complete))


@router.get("/{job_id}/logs", response_model=LogsOut, responses=problems_of(404))
async def logs(
    request: Request,
    call: Call,
    job_id: JobId,
    after: LineId = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LINES)] = 1000,
) -> Response:
    """Lines of a job's log, oldest first."""
    only_query(request, "after", "limit")
    lines = await call(read_logs, job_id, after, limit)
    items = [LogLineOut.of(line) for line in lines]
    return answer(LogsOut.model_construct(items=items, next_after=lines[-1].id if lines else after))


@router.get("/{job_id}/result", response_model=ResultOut, responses=problems_of(404, 409, 410))
async def result(request: Request, call: Call, job_id: JobId) -> Response:
    """What the task returned."""
    only_query(request)
    return result_answer(await call(read_result, job_id))


@router.post(
    "/{job_id}/cancel",
    response_model=JobOut,
    responses=problems_of(400, 404, 409, 415),
    openapi_extra=body_of(CancelIn, required=False),
)
async def cancel(request: Request, call: Call, job_id: JobId) -> Response:
    """Cancel a job: before its start it never starts; a running one is asked to stop, then stopped."""
    only_query(request)
    wanted = await read_body(request, CANCEL, empty=b"{}")
    return answer(JobOut.of(await call(cancel_job, job_id, wanted.reason)))


@router.post(
    "/{job_id}/rerun",
    status_code=202,
    response_model=JobOut,
    responses=problems_of(400, 404, 409, 413, 415),
    openapi_extra=body_of(RerunIn, required=False),
)
async def rerun(request: Request, call: Call, job_id: JobId) -> Response:
    """Run a job again as a new job, with its own arguments or edited ones."""
    only_query(request)
    wanted = await read_body(request, RERUN, empty=b"{}")
    job = await call(rerun_job, job_id, wanted.args, wanted.kwargs)
    return answer(JobOut.of(job), 202, location(job))


def names_of(given: list[str]) -> list[str]:
    """Names that were repeated or written with commas."""
    return [part.strip() for value in given for part in value.split(",")]


def states_of(names: list[str]) -> tuple[JobState, ...]:
    """States of jobs by our names or Celery's.

    Args:
        names: as given, with commas or repeated.

    Raises:
        InvalidRequest: a name that nobody knows.
    """
    found: dict[JobState, None] = {}
    for name in names_of(names):
        states = states_named(name) if name else ()
        if not states:
            known = ", ".join([*JobState, *sorted({view.celery for view in STATE_VIEWS})])
            raise wrong("state", f"expected one of {known}, got: {name[:60]!r}")
        found.update(dict.fromkeys(states))
    return tuple(found)


def _label_of(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, equals, value = text.partition("=")
    if not equals:
        name, equals, value = text.partition(":")
    if not equals or not name:
        raise wrong("label", f"expected name=value, got: {text[:60]!r}")
    return name, value


def moment_of(name: str, text: str | None) -> int | None:
    """A time of a query. Raises ``InvalidRequest``."""
    try:
        return None if text is None else from_rfc3339(text)
    except ValueError as error:
        if text is not None and _is_moment(text.replace(" ", "+")):
            raise wrong(name, str(error), "In a URL a `+` is written %2B: as it stands it means a space.") from error
        raise wrong(name, str(error)) from error


def _is_moment(text: str) -> bool:
    try:
        from_rfc3339(text)
    except ValueError:
        return False
    return True


def wrong(field: str, message: str, hint: str = "Compare the request with /openapi.json.") -> InvalidRequest:
    """The error of one field."""
    errors: list[dict[str, Any]] = [{"field": field, "message": message}]
    return InvalidRequest(f"{field}: {message}.", hint=hint, errors=errors)
