"""Queues of jobs: paused and resumed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from headway.http.bodies import answer, body_of, only_query, problems_of, read_body
from headway.http.jobs import Call
from headway.http.observed_schemas import PausedOut
from headway.model.times import to_rfc3339
from headway.service import pause_queue, resume_queue

router = APIRouter(prefix="/api/v1/queues", tags=["queues"])


class PauseIn(BaseModel):
    """Why; for the record."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field("", max_length=1000)


class QueueStateOut(BaseModel):
    """Whether a queue is paused, after what was asked; ``changed`` is false where it was so before."""

    name: str
    paused: PausedOut | None
    changed: bool


_PAUSE: TypeAdapter[PauseIn] = TypeAdapter(PauseIn)
QueueName = Annotated[str, Path(description="name of the queue", max_length=255)]


@router.post(
    "/{name}/pause",
    response_model=QueueStateOut,
    responses=problems_of(400, 415),
    openapi_extra=body_of(PauseIn, required=False),
)
async def pause(request: Request, call: Call, name: QueueName) -> Response:
    """Pause a queue: nothing of it begins and nothing more is sent; what runs goes on."""
    only_query(request)
    wanted = await read_body(request, _PAUSE, empty=b"{}")
    paused, changed = await call(pause_queue, name, wanted.reason)
    out = PausedOut.model_validate({"at": to_rfc3339(paused.paused_at), "actor": paused.actor, "reason": paused.reason})
    return answer(QueueStateOut(name=name, paused=out, changed=changed))


@router.post(
    "/{name}/resume",
    response_model=QueueStateOut,
    responses=problems_of(400, 415),
    openapi_extra=body_of(PauseIn, required=False),
)
async def resume(request: Request, call: Call, name: QueueName) -> Response:
    """Let a queue go on."""
    only_query(request)
    wanted = await read_body(request, _PAUSE, empty=b"{}")
    changed = await call(resume_queue, name, wanted.reason)
    return answer(QueueStateOut(name=name, paused=None, changed=changed))
