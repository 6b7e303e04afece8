"""What the flagship workload brings: tasks, routes, things that grow old; nothing where its extra is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import APIRouter

    from headway.config import Settings
    from headway.service import Services

_NEEDS = ("roadrunner", "libsbml", "numpy", "pint")


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload's parts.

    Attributes:
        task_modules: imported by the service and by its children.
        routers, document_routers: made for the services and settings.
        adapter: what ``/mcp/capabilities`` says of it.
    """

    task_modules: tuple[str, ...] = ()
    routers: Callable[[Services, Settings], Sequence[APIRouter]] = lambda _, __: ()
    document_routers: Callable[[Services, Settings], Sequence[APIRouter]] = lambda _, __: ()
    adapter: Callable[[], Mapping[str, Any]] | None = None


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

    installed = all(find_spec(name) is not None for name in _NEEDS)
    return Workload(
        task_modules=("headway.pbpk.tasks",) if installed else (),
        routers=mounting.routers,
        document_routers=mounting.document_routers,
        adapter=mounting.adapter,
    )


def population_sweep(services: Services, settings: Settings) -> Callable[[], object]:
    """Removes old files of populations (``POPULATION_RETENTION_SECONDS``)."""
    from headway.pbpk import mounting

    return mounting.population_sweep(services, settings)
