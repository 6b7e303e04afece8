"""Sends of tasks in other processes of this machine: what ``.delay()`` in a script says to the owner.

More than ``POST /jobs`` may say, because a Celery message says more: its own id, its chain and callbacks.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from headway.http.bodies import answer, body_of, only_query, problems_of, read_body
from headway.http.jobs import Call
from headway.http.schemas import MAX_SECONDS
from headway.model.commands import NewJoin, SubmitJob
from headway.model.job import Backoff
from headway.model.times import LAST_MOMENT
from headway.service import delete_group, forget_result, save_group, saved_group, submit_batch

Moment = Annotated[int, Field(ge=0, le=LAST_MOMENT)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


class BackoffSent(BaseModel):
    """The pause before a retry."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    base_seconds: Seconds
    cap_seconds: Seconds
    jitter: float


class Send(BaseModel):
    """One message, as the command it is; times are UTC microseconds."""

    model_config = ConfigDict(extra="forbid")

    task: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    job_id: str | None = None
    queue: str | None = None
    priority: int = 0
    run_at: Moment | None = None
    expires_at: Moment | None = None
    timeout_seconds: Seconds | None = None
    max_retries: int | None = None
    backoff: BackoffSent | None = None
    isolation: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    idempotency_key: str | None = None
    retry_of: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    origin: str = "celery"
    traceparent: str | None = None
    canvas: dict[str, Any] | None = None
    celery_retries: int = 0
    group_id: str | None = None
    join_id: str | None = None
    waits_for: str | None = None
    grows_join: bool = False

    def command(self, traceparent: str) -> SubmitJob:
        """The command for the service."""
        fields = self.model_dump(exclude={"backoff", "traceparent"})
        backoff = Backoff(**self.backoff.model_dump()) if self.backoff else None
        return SubmitJob(**fields, backoff=backoff, traceparent=self.traceparent or traceparent)


class JoinSent(BaseModel):
    """What some of the messages wait for: the parts of a group."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=255)]
    size: Annotated[int, Field(ge=0, le=2**31 - 1)]
    shape: list[Any] | None = None


class SendsIn(BaseModel):
    """Messages, all or none."""

    model_config = ConfigDict(extra="forbid")

    # The bodies of chords come on top of the parts.
    sends: Annotated[list[Send], Field(min_length=1, max_length=20_000)]
    joins: Annotated[list[JoinSent], Field(max_length=10_000)] = Field(default_factory=list)


class SentOut(BaseModel):
    """The ids of the jobs, in order."""

    job_ids: list[str]


class GroupOut(BaseModel):
    """The result of a group: what Celery's ``GroupResult.as_tuple`` says."""

    model_config = ConfigDict(extra="forbid")

    result: Any = None


_GROUP: Final = TypeAdapter(GroupOut)
_SENDS: Final = TypeAdapter(SendsIn)
router = APIRouter(prefix="/api/v1/sends", tags=["sends"])


@router.post(
    "",
    status_code=202,
    response_model=SentOut,
    responses=problems_of(400, 404, 413, 415),
    openapi_extra=body_of(SendsIn),
)
async def send(request: Request, call: Call) -> Response:
    """Accept the messages of a Celery application as jobs; the same send again is the same job."""
    only_query(request)
    sends = await read_body(request, _SENDS)
    context = call.context()
    joins = [NewJoin(one.id, one.size, one.shape) for one in sends.joins]
    ids = await call.run(lambda: submit_batch(context, [one.command(call.traceparent) for one in sends.sends], joins))
    return answer(SentOut(job_ids=ids), 202)


@router.post("/groups/{group_id}", response_model=GroupOut, responses=problems_of(400, 413, 415))
async def keep_group(group_id: str, request: Request, call: Call) -> Response:
    """Keep the result of a group, Celery's tuple of ids, under its id."""
    only_query(request)
    group = await read_body(request, _GROUP)
    await call(save_group, group_id, json.dumps(group.result))
    return answer(group)


@router.get("/groups/{group_id}", response_model=GroupOut, responses=problems_of(400))
async def kept_group(group_id: str, request: Request, call: Call) -> Response:
    """The result of a group as it was kept, or null."""
    only_query(request)
    text = await call(saved_group, group_id)
    return answer(GroupOut(result=None if text is None else json.loads(text)))


@router.post("/groups/{group_id}/forget", response_model=GroupOut, responses=problems_of(400))
async def forget_group(group_id: str, request: Request, call: Call) -> Response:
    """Forget the result of a group; its jobs stay."""
    only_query(request)
    await call(delete_group, group_id)
    return answer(GroupOut())


@router.post("/{job_id}/forget", response_model=SentOut, responses=problems_of(404))
async def forget(job_id: str, request: Request, call: Call) -> Response:
    """Remove the result of a job; the job stays."""
    only_query(request)
    await call(forget_result, job_id)
    return answer(SentOut(job_ids=[job_id]))
