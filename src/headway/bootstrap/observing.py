"""The service process of ``headway observe``: a store, an observer, the web application; nothing that runs jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog

from headway.bootstrap.cluster import cluster_target
from headway.bootstrap.database import Opened, services_of
from headway.bootstrap.node import open_own
from headway.bootstrap.readiness import loop_parts, store_part
from headway.config import Settings
from headway.feed import FeedTailer
from headway.http.health import Part, PartStatus
from headway.model.observed import ObservedWorker
from headway.observe.observer import Observer, ObserverSettings
from headway.observe.parse import Privacy
from headway.observe.target import Target
from headway.runtime.loop import Loop
from headway.runtime.numbering import NumberingPart
from headway.runtime.pruner import PrunerPart
from headway.service import Services, StoreObservationDoor, system_context
from headway.service.recording import observations_sweep
from headway.system import SystemIds

log = structlog.get_logger("headway.observe")
_ID_FILE: Final = "observer-id"


@dataclass(frozen=True, slots=True)
class Watch:
    """What ``headway observe`` was asked for.

    Attributes:
        app: the value of ``-A``.
        broker, result_backend: URLs; they win over what the application says.
    """

    app: str | None = None
    broker: str | None = None
    result_backend: str | None = None
    strict: bool = False
    enable_events: bool = False


@dataclass(slots=True)
class ObservingNode:
    """A service process that watches: see ``Node``.

    Attributes:
        supervisor: the process that started this one, and starts it again; None where there is none.
    """

    settings: Settings
    opened: Opened
    services: Services
    tailer: FeedTailer
    observer: Observer
    supervisor: int | None = None
    loops: list[Loop] = field(default_factory=list)

    def start(self) -> None:
        """Begin to watch."""
        self.services.job_totals.warm()
        for loop in self.loops:
            loop.start()
        self.observer.start()

    def stop(self) -> None:
        """Stop in good order and let go."""
        # A supervisor that was killed did not mean this to end.
        self.observer.stop(keep=self.supervisor is not None and os.getppid() != self.supervisor)
        for loop in self.loops:
            loop.stop()
        self.opened.close()

    def readiness(self) -> Mapping[str, Part]:
        """Each part as it is now; nothing that did not answer is called ok."""
        parts = {"store": store_part(self.opened, self.settings)}
        for source in self.observer.sources():
            # A cluster that is away is no fault of this server: it goes on, and says what it knows.
            status = PartStatus.OK if source.ok else PartStatus.DEGRADED
            parts[f"cluster: {source.name}"] = Part(status, source.says)
        return {**parts, **loop_parts(self.loops)}


def target_of(settings: Settings, watch: Watch, observer_id: str) -> Target:
    """The cluster that options, settings and the application name.

    Raises:
        AppNotLoaded: ``-A`` cannot be imported.
        BrokerNotSupported: the broker is of a kind that cannot be watched.
        InvalidSettings: nobody names a broker.
    """
    return cluster_target(
        watch.app,
        watch.broker or settings.celery_broker_url,
        watch.result_backend or settings.celery_result_backend,
        observer_id=observer_id,
        redis_url=settings.redis_url,
    )


def observer_id_of(data_dir: Path) -> str:
    """The same at every start over one data directory: what a killed observer left at the broker is then found."""
    path = data_dir / _ID_FILE
    try:
        found = path.read_text().strip()
    except OSError:
        found = ""
    if not found.isalnum():
        found = SystemIds().new_id().replace("-", "")[-12:]
        path.write_text(found + "\n")
    return found


def open_observing(settings: Settings, watch: Watch, supervisor: int | None = None) -> ObservingNode:
    """Open everything of a process that watches; nothing runs yet.

    Raises:
        HeadwayError: with the remedy; nothing stays open.
    """
    # Before the directory is taken: a wrong URL must not make one.
    target_of(settings, watch, "check")
    opened = open_own(settings)
    try:
        target = target_of(settings, watch, observer_id_of(settings.data_dir))
        plain = services_of(opened, settings, None)

        def workers() -> Sequence[ObservedWorker]:
            return plain.store.read(lambda reader: reader.observed.workers())

        observer = Observer(
            target,
            StoreObservationDoor(system_context(plain, "observer")),
            plain.clock,
            ObserverSettings(
                observer_id=target.observer_id,
                strict=watch.strict,
                enable_events=watch.enable_events,
                privacy=Privacy(arguments=settings.observe_arguments != "none"),
            ),
            workers,
        )
        services = replace(plain, cluster=observer, runs_jobs=False)
    except BaseException:
        opened.close()
        raise
    node = ObservingNode(settings, opened, services, FeedTailer(services.store, services.signal), observer, supervisor)
    node.loops = _loops(services, settings)
    log.info("observe.target", broker=target.broker_label, results=target.backend_label, strict=watch.strict)
    return node


def _loops(services: Services, settings: Settings) -> list[Loop]:
    sweep = observations_sweep(system_context(services, "pruner"), settings.observed_retention_seconds)
    parts: list[Any] = [PrunerPart(system_context(services, "pruner"), [sweep])]
    if services.store.shared:
        parts.insert(0, NumberingPart(services.store))
    return [Loop(part, services.signal) for part in parts]
