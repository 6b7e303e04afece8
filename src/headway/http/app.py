"""The web application, assembled from its parts; bootstrap brings them."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from headway.feed import FeedTailer
from headway.http import batch, jobs, login, observed, problems, queues
from headway.http.documents import JobIdIn, documents_router
from headway.http.door import Door, Paths
from headway.http.events import events_router
from headway.http.health import Readiness, health_router
from headway.http.login import LoginIn
from headway.http.schemas import BatchIn, CancelIn, EventOut, ProblemOut, RerunIn, SubmitIn
from headway.http.security import SecuritySettings
from headway.service import Services

THREADS: Final = 32
TAILER_SECONDS: Final = 2.0
COLLECT_AFTER: Final = (10_000, 10, 50)
_READ_BY_HANDLERS: Final = (
    *(SubmitIn, BatchIn, CancelIn, RerunIn, queues.PauseIn, LoginIn, JobIdIn),
    *(ProblemOut, EventOut),
)


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What the web application is made of.

    Attributes:
        services: the adapters that verbs work with.
        security: keys, hosts, limits.
        tailer: the one reader of the feed; closed when the application ends.
        readiness: asks every part of the server, for ``/ready``.
        version: of Headway.
        routers: further routes, such as the pages.
        document_routers: further routes whose errors have the documents' body, such as those of simulations.
        adapter: what the simulation workload says of itself in ``/mcp/capabilities``.
        beat_schedule: entries of the application's own schedule, by name.
        on_start, on_stop: run in a thread when the application starts and ends.
        threads: how many verbs run at the same time.
    """

    services: Services
    security: SecuritySettings
    tailer: FeedTailer
    readiness: Readiness
    version: str
    routers: Sequence[APIRouter] = ()
    document_routers: Sequence[APIRouter] = ()
    adapter: Callable[[], Mapping[str, Any]] | None = None
    beat_schedule: Callable[[], dict[str, Any]] = dict
    on_start: Callable[[], None] | None = None
    on_stop: Callable[[], None] | None = None
    threads: int = THREADS


def create_http_app(parts: HttpParts) -> FastAPI:
    """The application over these parts; nothing in it is global.

    Args:
        parts: see ``HttpParts``.

    Returns:
        An ASGI application. Every request passes ``Door`` first.
    """
    limiter = CapacityLimiter(parts.threads)
    app = FastAPI(
        title="Headway",
        version=parts.version,
        summary="Runs, schedules and watches long-running Python work.",
        # The pages of FastAPI load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(parts, limiter),
    )
    documents = [
        documents_router(parts.tailer, parts.services.limits, parts.adapter),
        observed.documents,
        observed.celery_router(parts.beat_schedule),
        *parts.document_routers,
    ]
    plain = [
        health_router(parts.readiness, parts.version),
        login.router,
        batch.router,
        jobs.router,
        observed.router,
        queues.router,
        observed.metrics_router,
        events_router(parts.tailer),
        *parts.routers,
    ]
    for router in [*plain, *documents]:
        app.include_router(router)
    problems.install(app)
    paths = Paths.of(route.path for router in documents for route in router.routes if isinstance(route, APIRoute))
    app.add_middleware(Door, services=parts.services, settings=parts.security, paths=paths, limiter=limiter)
    _describe_bodies(app)
    return app


def _lifespan(parts: HttpParts, limiter: CapacityLimiter) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        from anyio import to_thread

        if parts.on_start is not None:
            await to_thread.run_sync(parts.on_start, limiter=limiter)
        try:
            with _short_pauses(), _streams_end_on_signal(parts.tailer):
                yield
        finally:
            parts.tailer.close()
            await to_thread.run_sync(parts.tailer.join, TAILER_SECONDS, limiter=limiter)
            if parts.on_stop is not None:
                await to_thread.run_sync(parts.on_stop, limiter=limiter)

    return lifespan


@contextmanager
def _short_pauses() -> Iterator[None]:
    """Keep the garbage collector's full passes rare and short.

    One over all modules and a thousand readers holds every stream up for 200 ms. What was there at the start is
    set aside until the end.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _streams_end_on_signal(tailer: FeedTailer) -> Iterator[None]:
    """The server waits for open answers before it tells the application that it ends: streams must hear it sooner."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    loop = asyncio.get_running_loop()

    def end(number: int, frame: FrameType | None) -> None:
        # Never here: a handler interrupts this very thread wherever it is, holding a lock that it would wait for.
        loop.call_soon_threadsafe(tailer.close)
        handler = before.get(signal.Signals(number))
        if callable(handler):
            handler(number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        # Where nobody handles it, the default (the process ends) must stay.
        if callable(handler):
            before[number] = handler
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)


def _describe_bodies(app: FastAPI) -> None:
    """Bodies that handlers parse by themselves are described in OpenAPI like all others."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            _, described = models_json_schema(
                [(model, "validation") for model in _READ_BY_HANDLERS],
                ref_template="#/components/schemas/{model}",
            )
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, definition in described.get("$defs", {}).items():
                components.setdefault(name, definition)
            _forget_foreign_errors(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's own documented way


def _forget_foreign_errors(schema: dict[str, Any]) -> None:
    """FastAPI describes its own answer to a wrong request, which is never sent here: ours are problems."""
    for path in schema.get("paths", {}).values():
        for operation in path.values():
            responses = operation.get("responses", {})
            content = responses.get("422", {}).get("content", {})
            if "HTTPValidationError" in str(content.get("application/json", "")):
                del responses["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
