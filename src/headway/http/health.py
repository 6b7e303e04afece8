"""Alive and ready: the one says that the process answers, the other what each of its parts says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from headway.http.bodies import answer, only_query


class PartStatus(StrEnum):
    """What is known of a part: it works, it works badly, or nobody knows."""

    OK = "ok"
    DEGRADED = "degraded"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the server as it was last seen; ``hint`` says what to do when it is not ok."""

    status: PartStatus
    detail: str = ""
    hint: str = ""


Readiness = Callable[[], Mapping[str, Part]]
"""Asks every part, in a thread; a part that raises is the caller's to catch."""


class HealthOut(BaseModel):
    """The process answers. In the documents' spelling."""

    model_config = ConfigDict(extra="forbid")

    status: str
    service: str
    version: str
    uptimeSeconds: float  # noqa: N815 - the documents' spelling


class PartOut(BaseModel):
    """One part."""

    model_config = ConfigDict(extra="forbid")

    status: PartStatus
    detail: str
    hint: str


class ReadyOut(BaseModel):
    """The worst of the parts, and each of them."""

    model_config = ConfigDict(extra="forbid")

    status: PartStatus
    parts: dict[str, PartOut]


def health_router(readiness: Readiness, version: str) -> APIRouter:
    """The routes ``/health`` and ``/ready``.

    Args:
        readiness: asks every part.
        version: of Headway.
    """
    router = APIRouter(tags=["health"])
    started = time.monotonic()

    @router.get("/health", response_model=HealthOut)
    async def health(request: Request) -> Response:
        """Whether the process answers; nothing else is asked."""
        only_query(request)
        uptime = round(time.monotonic() - started, 3)
        return answer(HealthOut(status="ok", service="headway", version=version, uptimeSeconds=uptime))

    @router.get("/ready", response_model=ReadyOut, responses={503: {"model": ReadyOut}})
    async def ready(request: Request) -> Response:
        """Whether each part works; 503 while one of them does not answer."""
        only_query(request)
        parts = await request.state.call.run(readiness)
        statuses = {part.status for part in parts.values()}
        worst = next(
            (status for status in (PartStatus.UNKNOWN, PartStatus.DEGRADED) if status in statuses), PartStatus.OK
        )
        out = {name: PartOut(status=part.status, detail=part.detail, hint=part.hint) for name, part in parts.items()}
        return answer(ReadyOut(status=worst, parts=out), 503 if worst is PartStatus.UNKNOWN else 200)

    return router
