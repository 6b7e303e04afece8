"""From the event loop to the service: each verb runs in a bounded pool of threads, as the request's actor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Request

from headway.model.actor import Actor
from headway.model.situation import Situation
from headway.service import REPORT_SECONDS, Context, Services, begin_report, without_answer

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls verbs of the service for one request.

    It is ``request.state.call`` of every request that the door let in, so that routers of other rooms
    need nothing else: ``job = await request.state.call(get_job, job_id)``.
    """

    services: Services
    actor: Actor
    traceparent: str
    limiter: CapacityLimiter

    async def __call__(self, verb: Callable[Concatenate[Context, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``verb(context, *args, **kwargs)`` in a thread; what it raises is raised here."""
        return await self.run(partial(verb, self.context(), *args, **kwargs))

    def context(self) -> Context:
        """What a verb is given: for work that calls several in one thread."""
        return Context(services=self.services, actor=self.actor, traceparent=self.traceparent)

    async def situation(self) -> Situation:
        """The situation report, or after ``REPORT_SECONDS`` that nobody can tell."""
        context = self.context()
        try:
            async with self.limiter:
                return await asyncio.wait_for(asyncio.wrap_future(begin_report(context)), REPORT_SECONDS)
        except TimeoutError:
            return without_answer(context)

    async def run(self, work: Callable[[], T]) -> T:
        """Run any blocking work in the same bounded pool."""
        return await anyio.to_thread.run_sync(work, limiter=self.limiter)


def caller(request: Request) -> Caller:
    """The caller of this request."""
    found: Any = request.state.call
    if not isinstance(found, Caller):
        raise TypeError(f"expected a Caller in request.state.call, got {type(found).__name__}")
    return found


async def call_of(request: Request) -> Caller:
    """Dependency: the caller of this request. Asynchronous, as FastAPI runs all others in a thread."""
    return caller(request)
