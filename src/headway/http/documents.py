"""The documents' own paths about jobs, in the documents' spelling; those about simulations are pbpk's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

from headway.feed import FeedTailer
from headway.http.bodies import answer, body_of, only_query, read_body
from headway.http.events import STREAM_DOC, LastEventId, LogsAfter, stream_responses
from headway.http.jobs import Call, JobId
from headway.http.schemas import ErrorOut, ProgressOut
from headway.http.streams import document_status, job_stream, wish_of
from headway.model.job import Job
from headway.model.states import JobState
from headway.service import Limits, cancel_job, get_job

# ruff: noqa: N815 - the documents' spelling


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class JobIdIn(_Document):
    """Names a job."""

    jobId: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]


class ResultHandleOut(_Document):
    """Where the result of a succeeded job is asked for."""

    resultsId: str


class JobStatusOut(_Document):
    """A job as the documents describe it; times are seconds since the epoch. ``state`` is our own word for it."""

    jobId: str
    status: str
    state: JobState
    task: str
    progress: ProgressOut | None
    submittedAt: float
    startedAt: float | None
    finishedAt: float | None
    attempts: int
    maxRetries: int
    timeoutSeconds: float | None
    resultHandle: ResultHandleOut | None
    error: ErrorOut | None
    cancelRequested: bool
    externalJobId: str | None

    @classmethod
    def of(cls, job: Job) -> JobStatusOut:
        """The job as answered."""
        return cls(
            jobId=job.id,
            status=document_status(job),
            state=job.state,
            task=job.task,
            progress=ProgressOut.of(job.progress),
            submittedAt=job.submitted_at / 1_000_000,
            startedAt=_seconds(job.started_at),
            finishedAt=_seconds(job.finished_at),
            attempts=job.attempts,
            maxRetries=job.max_retries,
            timeoutSeconds=job.timeout_seconds,
            resultHandle=ResultHandleOut(resultsId=job.id) if job.has_result else None,
            error=ErrorOut.of(job.error),
            cancelRequested=job.cancel_requested_at is not None,
            externalJobId=None,
        )


class CancelledOut(_Document):
    """The job after it was cancelled, or asked to stop."""

    jobId: str
    status: str
    cancelRequested: bool


_JOB_ID = TypeAdapter(JobIdIn)


def documents_router(tailer: FeedTailer, limits: Limits, adapter: Callable[[], Mapping[str, Any]] | None) -> APIRouter:
    """The documents' paths about jobs.

    Args:
        tailer: the one reader of the feed.
        limits: bounds that the capabilities tell.
        adapter: what the simulation workload says of its engine; None when it is not installed.
    """
    router = APIRouter(tags=["documents"])

    @router.post("/get_job_status", response_model=JobStatusOut, openapi_extra=body_of(JobIdIn))
    async def get_job_status(request: Request, call: Call) -> Response:
        """A job's status."""
        only_query(request)
        wanted = await read_body(request, _JOB_ID)
        return answer(JobStatusOut.of(await call(get_job, wanted.jobId)))

    @router.post("/cancel_job", response_model=CancelledOut, openapi_extra=body_of(JobIdIn))
    async def cancel(request: Request, call: Call) -> Response:
        """Cancel a job."""
        only_query(request)
        wanted = await read_body(request, _JOB_ID)
        return _cancelled(await call(cancel_job, wanted.jobId))

    @router.post("/mcp/jobs/{job_id}/cancel", response_model=CancelledOut)
    async def cancel_by_path(request: Request, call: Call, job_id: JobId) -> Response:
        """Cancel a job (the runbook's path)."""
        only_query(request)
        return _cancelled(await call(cancel_job, job_id))

    @router.get(
        "/jobs/{job_id}/events",
        response_class=Response,
        responses=stream_responses(404),
        description=f"The stream of one job; the data says `status` in the documents' spelling, too.{STREAM_DOC}",
    )
    async def events(
        request: Request, call: Call, job_id: JobId, last_event_id: LastEventId = None, logs_after: LogsAfter = None
    ) -> Response:
        only_query(request, "logs_after")
        return await job_stream(call, tailer, job_id, wish_of(last_event_id, logs_after, document=True))

    @router.get("/mcp/capabilities")
    async def capabilities(request: Request, call: Call) -> dict[str, Any]:
        """What this server can do."""
        only_query(request)
        nothing = {"name": "none", "populationSupported": False, "health": {"status": "unavailable"}}
        timeout = limits.default_timeout
        return {
            "transports": ["http", "sse"],
            "adapter": dict(await call.run(adapter)) if adapter is not None else nothing,
            "maxPayloadKb": limits.max_payload_bytes // 1024,
            "timeouts": {"defaultMs": int(timeout * 1000) if timeout else None, "adapterTimeoutMs": None},
            "annotations": {},
        }

    return router


def _cancelled(job: Job) -> Response:
    return answer(
        CancelledOut(jobId=job.id, status=document_status(job), cancelRequested=job.cancel_requested_at is not None)
    )


def _seconds(at: int | None) -> float | None:
    return None if at is None else at / 1_000_000
