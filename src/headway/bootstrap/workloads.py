"""What the flagship workload brings: tasks, routes, things that grow old; nothing where its extra is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import APIRouter

    from headway.config import Settings
    from headway.model.job import Job
    from headway.pbpk.places import Places
    from headway.pbpk.ways import Ways
    from headway.service import Services


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload's parts.

    Attributes:
        task_modules: imported by the service and by its children.
        routers, document_routers: made for the services and settings.
        adapter: what ``/mcp/capabilities`` says of it.
        queues: of tasks that have a queue of their own on managed workers.
    """

    task_modules: tuple[str, ...] = ()
    routers: Callable[[Services, Settings], Sequence[APIRouter]] = lambda _, __: ()
    document_routers: Callable[[Services, Settings], Sequence[APIRouter]] = lambda _, __: ()
    adapter: Callable[[], Mapping[str, Any]] | None = None
    queues: Mapping[str, str] = field(default_factory=dict)


def child_environment(settings: Settings) -> dict[str, str]:
    """What tasks in child processes must know of the settings, wherever those came from, as variables."""
    models = (
        *(("shipped",) if settings.shipped_models else ()),
        *(str(path.absolute()) for path in settings.model_paths),
    )
    return {
        "HEADWAY_DATA_DIR": str(settings.data_dir.absolute()),
        # An empty variable counts as not set; a lone separator is the empty list.
        "HEADWAY_MODEL_PATHS": os.pathsep.join(models) or os.pathsep,
        "JOB_WORKER_THREADS": str(settings.job_worker_threads),
    }


def workload() -> Workload:
    """PBPK. Its routes are there without its extra too, and say what to install."""
    from headway.pbpk import mounting
    from headway.pbpk.names import POPULATION

    return Workload(
        task_modules=() if mounting.missing() else ("headway.pbpk.tasks",),
        routers=lambda services, settings: mounting.routers(_ways(services, settings)),
        document_routers=lambda services, settings: mounting.document_routers(_ways(services, settings)),
        adapter=mounting.adapter,
        queues={POPULATION: "populations"},
    )


def population_sweep(services: Services, settings: Settings) -> Callable[[], object]:
    """Removes old files of populations (``POPULATION_RETENTION_SECONDS``)."""
    from headway.pbpk.retention import sweep

    def find(job_id: str) -> Job | None:
        return services.store.read(lambda reader: reader.get(job_id))

    places = _places(settings)
    return lambda: sweep(places, find, services.clock.now(), settings.population_retention_seconds)


def _ways(services: Services, settings: Settings) -> Ways:
    from headway import service
    from headway.pbpk import mounting
    from headway.pbpk.ways import Ways

    return Ways(service, _places(settings), services.clock.now, services.ids.new_id, mounting.missing())


def _places(settings: Settings) -> Places:
    from headway.pbpk.places import Places

    return Places.from_environment(child_environment(settings))
