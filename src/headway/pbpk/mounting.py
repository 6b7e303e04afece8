"""What bootstrap mounts of this workload: routes, capabilities, and the sweep of old files.

Importing it needs nothing of the extra ``pbpk``; without the extra the routes say what to install.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fastapi import APIRouter

    from headway.pbpk.ways import Ways

#: Modules of the extra ``pbpk``.
NEEDS: Final = ("roadrunner", "libsbml", "numpy", "matplotlib", "pint")


def missing() -> tuple[str, ...]:
    """Modules of the extra that are not installed."""
    return tuple(name for name in NEEDS if find_spec(name) is None)


def routers(ways: Ways) -> list[APIRouter]:
    """Routes of our own, whose errors are problems: the plots."""
    from headway.pbpk.routes_results import plots_router

    return [plots_router(ways)]


def document_routers(ways: Ways) -> list[APIRouter]:
    """The documents' paths about simulations."""
    from headway.pbpk.routes_models import models_router
    from headway.pbpk.routes_results import results_router
    from headway.pbpk.routes_runs import runs_router

    return [models_router(ways), runs_router(ways), results_router(ways)]


def adapter() -> Mapping[str, Any]:
    """What ``/mcp/capabilities`` says of the engine; it is not loaded for that."""
    absent = missing()
    if absent:
        health = {"status": "unavailable", "missing": list(absent), "hint": "pip install 'headway[pbpk]'"}
        return {"name": "roadrunner", "populationSupported": False, "health": health}
    try:
        engine = version("libroadrunner")
    except PackageNotFoundError:
        engine = "unknown"
    return {"name": "roadrunner", "version": engine, "populationSupported": True, "health": {"status": "ok"}}
