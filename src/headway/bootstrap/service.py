"""The service process of managed Celery: the web application, and what looks after jobs that workers elsewhere run."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from headway.bootstrap.database import Opened, services_of
from headway.bootstrap.managed import attached_or_attach, needs_shared
from headway.bootstrap.node import open_own
from headway.bootstrap.readiness import loop_parts, store_part
from headway.bootstrap.workloads import population_sweep, workload
from headway.config import Settings
from headway.engine.celery.courier import CeleryCourier
from headway.engine.embedded.catalog import AppCatalog
from headway.engine.embedded.loader import configured_broker, load_app
from headway.feed import FeedTailer
from headway.http.health import Part
from headway.model.errors import InvalidSettings
from headway.runtime.due import DuePart
from headway.runtime.loop import Loop
from headway.runtime.numbering import NumberingPart
from headway.runtime.pruner import PrunerPart
from headway.runtime.relay import RedeliveryPart, RelayPart
from headway.runtime.rescuer import RescuerPart
from headway.service import Services, StoreJobDoor, system_context

log = structlog.get_logger("headway.service")

OWN_APP: Final = "headway.celery_app"
"""The application of a Headway that no ``-A`` was given to."""


@dataclass(slots=True)
class ServiceNode:
    """A service process that runs no jobs itself: see ``Node``."""

    settings: Settings
    opened: Opened
    services: Services
    tailer: FeedTailer
    broker: str
    loops: list[Loop] = field(default_factory=list)

    def start(self) -> None:
        """Begin to work."""
        self.services.job_totals.warm()
        for loop in self.loops:
            loop.start()

    def stop(self) -> None:
        """Stop in good order and let go."""
        for loop in self.loops:
            loop.stop()
        self.opened.close()

    def readiness(self) -> Mapping[str, Part]:
        """Each part as it is now; nothing that did not answer is called ok."""
        return {"store": store_part(self.opened, self.settings), **loop_parts(self.loops)}


def load_managed(app_spec: str | None, settings: Settings) -> Any:
    """The application of ``-A``, or Headway's own, with the broker that settings name.

    Raises:
        AppNotLoaded: it cannot be imported.
        InvalidSettings: nobody names a broker.
    """
    # The health check is a task of every application: `headway cluster test` asks each queue.
    imports = ("headway.engine.builtin", *(() if app_spec is not None else workload().task_modules))
    app = load_app(app_spec or OWN_APP, imports=imports)
    broker = settings.celery_broker_url
    if broker is None and configured_broker(app) is None:
        broker = settings.redis_url
    if broker is not None:
        app.conf.update(broker_url=broker, broker_read_url=broker, broker_write_url=broker)
    if configured_broker(app) is None:
        raise InvalidSettings(
            "nobody names the broker that carries jobs to the workers",
            hint="Set CELERY_BROKER_URL, or broker_url of the application; a Headway without Celery needs none: `headway up`.",
            problems=["CELERY_BROKER_URL"],
        )
    return app


def open_service(settings: Settings, *, app_spec: str | None) -> ServiceNode:
    """Open everything of a service process; nothing runs yet.

    Raises:
        HeadwayError: with the remedy; nothing stays open.
    """
    needs_shared(settings)
    settings = settings.model_copy(update={"job_backend": "celery"})
    app = load_managed(app_spec, settings)
    opened = open_own(settings)
    try:
        services = services_of(opened, settings, AppCatalog(app))
        ctx = system_context(services, "service")
        attachment = attached_or_attach(app, settings)
        attachment.use(StoreJobDoor(ctx, f"service-{platform.node() or 'host'}-{os.getpid()}"))
        courier = CeleryCourier(app)
        node = ServiceNode(settings, opened, services, FeedTailer(services.store, services.signal), courier.label)
        node.loops = _loops(node, app, courier)
    except BaseException:
        opened.close()
        raise
    log.info("service.broker", broker=node.broker)
    return node


def _loops(node: ServiceNode, app: Any, courier: CeleryCourier) -> list[Loop]:
    services, settings = node.services, node.settings
    parts: list[Any] = [
        NumberingPart(services.store),
        RelayPart(system_context(services, "relay"), courier),
        RedeliveryPart(system_context(services, "relay"), CeleryCourier(app)),
        DuePart(system_context(services, "due")),
        RescuerPart(system_context(services, "rescuer"), settings.lease_seconds, lambda: None),
        PrunerPart(system_context(services, "pruner"), [population_sweep(services, settings)]),
    ]
    return [Loop(part, services.signal) for part in parts]
