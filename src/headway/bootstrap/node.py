"""One service process put together: store, engine, long-running parts, web application."""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

import headway
from headway.bootstrap.database import Opened, open_store, services_of
from headway.bootstrap.readiness import loop_parts, store_part
from headway.bootstrap.workloads import child_environment, population_sweep, workload
from headway.config import Settings
from headway.console import console_router
from headway.engine.embedded.catalog import AppCatalog
from headway.engine.embedded.engine import EmbeddedEngine
from headway.engine.embedded.loader import configured_broker, load_app
from headway.engine.embedded.orphans import reap_orphans
from headway.engine.embedded.settings import EngineSettings
from headway.engine.embedded.spool import Spool, offer_spooled
from headway.feed import FeedTailer
from headway.http import sending, upkeep
from headway.http.app import HttpParts, create_http_app
from headway.http.health import Part, PartStatus
from headway.http.security import SecuritySettings
from headway.model.actor import Actor, Role
from headway.model.errors import DataDirectoryInUse, EngineNotAvailable, InvalidSettings, StoreUnavailable
from headway.runtime.due import DuePart
from headway.runtime.loop import Loop
from headway.runtime.numbering import NumberingPart
from headway.runtime.pruner import PrunerPart
from headway.runtime.rescuer import RescuerPart
from headway.service import Context, Services, StoreJobDoor, rescue_lapsed, system_context
from headway.service.recording import observations_sweep
from headway.service.upkeep import register_worker, retire_worker
from headway.store.owner import read_owner

if TYPE_CHECKING:
    from fastapi import FastAPI

log = structlog.get_logger("headway.node")
DRAIN_SECONDS: Final = 10.0
_PASSING_SECONDS: Final = 10.0


@dataclass(slots=True)
class Node:
    """A service process' parts, in the order in which they start."""

    settings: Settings
    opened: Opened
    services: Services
    engine: EmbeddedEngine
    tailer: FeedTailer
    worker_id: str
    loops: list[Loop] = field(default_factory=list)

    def start(self) -> None:
        """Recover what a dead owner left, then begin to work."""
        if not self.opened.store.shared:
            # This process owns the store alone, so whoever was running before is gone: no lease to wait for.
            # Finishes in the spool come first, because a good attempt that ended must not run again.
            offer_spooled(Spool(self.settings.data_dir / "spool"), self._door())
            rescue_lapsed(system_context(self.services, "recovery"), silent_for=None)
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "slots": self.settings.job_worker_threads}
        register_worker(
            system_context(self.services, "start"), self.worker_id, {**facts, "version": headway.__version__}
        )
        self.services.job_totals.warm()
        for loop in self.loops:
            loop.start()
        self.engine.start()

    def _door(self) -> StoreJobDoor:
        return StoreJobDoor(worker_context(self.services, self.worker_id), self.worker_id)

    def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Drain, stop and let go; interrupted attempts go back to the queue."""
        self.engine.drain(drain_seconds)
        self.engine.stop()
        for loop in self.loops:
            loop.stop()
        try:
            retire_worker(system_context(self.services, "shutdown"), self.worker_id)
        except StoreUnavailable as error:
            log.warning("node.retire_failed", code=error.code)
        self.opened.close()

    def readiness(self) -> Mapping[str, Part]:
        """Each part as it is now; nothing that did not answer is called ok."""
        return {
            "store": store_part(self.opened, self.settings),
            "engine": self._engine_part(),
            **loop_parts(self.loops),
        }

    def _engine_part(self) -> Part:
        status = self.engine.status()
        said = f"{status.running} running, {status.idle_slots} idle slots"
        if status.draining:
            return Part(PartStatus.DEGRADED, f"draining, {said}", "It begins nothing more; wait or restart.")
        if status.lost_slots:
            hint = "Threads cannot be stopped: give these tasks isolation='process'."
            return Part(PartStatus.DEGRADED, f"{said}, {status.lost_slots} lost", hint)
        return Part(PartStatus.OK, said)


def worker_context(services: Services, worker_id: str) -> Context:
    """The context in which the engine works."""
    return Context(services, Actor(f"worker:{worker_id}", Role.OPERATOR))


def load_application(app_spec: str | None, *, engine_chosen: bool) -> Any:
    """The application of ``-A``.

    Raises:
        AppNotLoaded: it cannot be imported.
        InvalidSettings: it names a broker of its own and nobody said that its jobs should run here.
    """
    app = load_app(app_spec, imports=("headway.engine.builtin", *workload().task_modules))
    broker = configured_broker(app)
    if app_spec is not None and broker is not None and not engine_chosen:
        from headway.config.settings import mask_url

        raise InvalidSettings(
            f"{app_spec} sets a broker of its own ({mask_url(broker)}), so its workers elsewhere may run its tasks",
            hint=f"`headway observe -A {app_spec}` watches them and changes nothing; `headway up --engine thread -A {app_spec}` runs what it sends from here in this process, "
            "recorded, and does not touch that broker.",
        )
    return app


def open_node(
    settings: Settings, *, app_spec: str | None, engine_chosen: bool, on_exhausted: Callable[[], None]
) -> Node:
    """Open everything of a service process; nothing runs yet.

    Raises:
        HeadwayError: with the remedy; nothing stays open.
    """
    if settings.job_backend == "celery":
        raise EngineNotAvailable(
            "JOB_BACKEND is celery, and this way to start runs jobs in its own threads.",
            hint="Start `headway up --engine celery`, or `headway serve` and workers; or set JOB_BACKEND=thread.",
        )
    app = load_application(app_spec, engine_chosen=engine_chosen)
    opened = open_own(settings)
    try:
        killed = reap_orphans(settings.data_dir / "children")
        if killed:
            log.warning("node.orphans_ended", pids=killed)
        services = services_of(opened, settings, AppCatalog(app))
        worker_id = f"{platform.node() or 'host'}-{os.getpid()}-{services.ids.new_id()[-6:]}"
        door = StoreJobDoor(worker_context(services, worker_id), worker_id)
        engine = EmbeddedEngine(
            door,
            app,
            clock=services.clock,
            settings=engine_settings(settings, app_spec, worker_id),
            log=structlog.get_logger("headway.engine"),
            on_exhausted=on_exhausted,
        )
    except BaseException:
        opened.close()
        raise
    tailer = FeedTailer(services.store, services.signal)
    node = Node(settings, opened, services, engine, tailer, worker_id)
    node.loops = _loops(node)
    return node


def open_own(settings: Settings) -> Opened:
    """Open the store as its owner; a command or a script that has the directory for a moment is waited for."""
    ends = time.monotonic() + _PASSING_SECONDS
    while True:
        try:
            return open_store(settings, own=True, upgrade=True)
        except DataDirectoryInUse:
            owner = read_owner(settings.data_dir)
            if (owner is not None and owner.url is not None) or time.monotonic() > ends:
                raise
            time.sleep(0.02)


def _loops(node: Node) -> list[Loop]:
    services, settings = node.services, node.settings
    parts: list[Any] = [
        DuePart(system_context(services, "due")),
        RescuerPart(system_context(services, "rescuer"), settings.lease_seconds, node.engine.beat),
        PrunerPart(
            system_context(services, "pruner"),
            [
                population_sweep(services, settings),
                # What was observed over this directory before grows old here too.
                observations_sweep(system_context(services, "pruner"), settings.observed_retention_seconds),
            ],
        ),
    ]
    if services.store.shared:
        parts.insert(0, NumberingPart(services.store))
    return [Loop(part, services.signal) for part in parts]


def engine_settings(settings: Settings, app_spec: str | None, worker_id: str) -> EngineSettings:
    """The engine's part of the settings."""
    return EngineSettings(
        spool_dir=settings.data_dir / "spool",
        children_dir=settings.data_dir / "children",
        threads=settings.job_worker_threads,
        heartbeat_seconds=settings.heartbeat_seconds,
        cancel_grace_seconds=settings.cancel_grace_seconds,
        app_spec=app_spec,
        imports=("headway.engine.builtin", *workload().task_modules),
        workdir=Path.cwd(),
        environment=child_environment(settings),
        hostname=worker_id,
    )


class ServedNode(Protocol):
    """What the web application needs of a service process, whether it runs jobs or watches."""

    settings: Settings
    opened: Opened
    services: Services
    tailer: FeedTailer

    def readiness(self) -> Mapping[str, Part]:
        """Each part as it is now."""
        ...

    def start(self) -> None:
        """Begin to work."""
        ...

    def stop(self) -> None:
        """Drain, stop and let go."""
        ...


def web_application(
    node: ServedNode,
    *,
    hosts: tuple[str, ...] = (),
    on_start: Callable[[], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> FastAPI:
    """The web application over a node."""
    settings = node.settings
    owned = node.opened.owned
    work = workload()
    version = headway.__version__
    return create_http_app(
        HttpParts(
            services=node.services,
            security=SecuritySettings(
                api_key=settings.api_key,
                owner_token=owned.token if owned is not None else None,
                hosts=(*hosts, *settings.allowed_hosts),
                max_request_bytes=settings.max_request_bytes,
            ),
            tailer=node.tailer,
            readiness=node.readiness,
            version=version,
            routers=[
                sending.router,
                upkeep.router,
                console_router(node.tailer, version=version),
                *work.routers(node.services, settings),
            ],
            document_routers=work.document_routers(node.services, settings),
            adapter=work.adapter,
            beat_schedule=node.services.cluster.beat_schedule if node.services.cluster is not None else dict,
            on_start=on_start,
            on_stop=on_stop,
        )
    )


class Exhaustion:
    """Remembers that the engine asked for a restart, and tells whoever can end the server."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.tell: Callable[[], None] | None = None

    def __call__(self) -> None:
        """The engine has lost too many slots."""
        log.error("engine.exhausted", then="the service drains and restarts")
        self.asked.set()
        if self.tell is not None:
            self.tell()
