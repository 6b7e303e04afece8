"""REST of many jobs at once: all or none, in one commit."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from headway.http.bodies import answer, body_of, only_query, problems_of, read_body
from headway.http.calls import Caller
from headway.http.jobs import Call
from headway.http.schemas import BATCH, BatchIn, BatchOut
from headway.service import submit_batch

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])


@router.post(
    "/batch",
    status_code=202,
    response_model=BatchOut,
    responses=problems_of(400, 404, 413, 415),
    openapi_extra=body_of(BatchIn),
)
async def submit_many(request: Request, call: Call) -> Response:
    """Run many tasks: all of them are stored when this answers, or none."""
    only_query(request)
    raw = await read_body(request, BATCH)
    job_ids = await call.run(lambda: _submit(call, raw))
    return answer(BatchOut.model_construct(job_ids=job_ids), 202)


def _submit(call: Caller, batch: BatchIn) -> list[str]:
    # In the thread: ten thousand commands would hold the event loop for a while.
    return submit_batch(call.context(), [job.command(traceparent=call.traceparent) for job in batch.jobs])
