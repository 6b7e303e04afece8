"""The one instrumented door: every verb passes it, so permission and span are never forgotten."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from headway.model.actor import PERMISSIONS, Role
from headway.model.errors import Forbidden, HeadwayError, ObservesOnly
from headway.service.context import Context

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger("headway.service")


def verb(function: Callable[Concatenate[Context, P], R]) -> Callable[Concatenate[Context, P], R]:
    """Put a function ``(ctx, …)`` behind the door, under its own name.

    The actor's role is checked against the one table; a change is logged with its actor, its trace id and
    how long it took; a refusal is logged with its code. The database's own errors pass unchanged.
    """
    name = function.__name__
    least = PERMISSIONS[name]
    changes = least != "viewer"

    @functools.wraps(function)
    def through(ctx: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not ctx.actor.may(name):
            raise Forbidden(
                f"{ctx.actor.name} has the role {ctx.actor.role}, and {name} needs {least}",
                hint=f"Ask somebody with the role {least}.",
            )
        if least == Role.OPERATOR and not ctx.services.runs_jobs:
            raise ObservesOnly(f"this server only watches a cluster; {name} is not done here")
        begun = time.perf_counter()
        try:
            answer = function(ctx, *args, **kwargs)
        except HeadwayError as error:
            log.info("verb.refused", verb=name, actor=ctx.actor.name, code=error.code, trace_id=ctx.trace_id)
            raise
        if changes:
            took = round((time.perf_counter() - begun) * 1000, 3)
            log.debug("verb.done", verb=name, actor=ctx.actor.name, trace_id=ctx.trace_id, milliseconds=took)
        return answer

    return through
