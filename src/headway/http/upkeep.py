"""What an administrator asks of the running server."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from headway.http.bodies import answer, only_query, problems_of
from headway.http.jobs import Call
from headway.service import run_retention

router = APIRouter(prefix="/api/v1", tags=["upkeep"])


class RetentionOut(BaseModel):
    """How much was removed."""

    jobs: int
    blobs: int


@router.post("/retention/run", response_model=RetentionOut, responses=problems_of())
async def retention(request: Request, call: Call) -> Response:
    """Remove jobs older than ``JOB_RETENTION_SECONDS`` now; the server also does it by itself."""
    only_query(request)
    report = await call(run_retention)
    return answer(RetentionOut(jobs=report.jobs, blobs=report.blobs))
