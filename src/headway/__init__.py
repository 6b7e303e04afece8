"""Headway runs, schedules and watches long-running Python work.

The public names are imported when they are first used, so that ``import headway`` costs next to nothing.
"""

from __future__ import annotations

import importlib

# Type checkers take this name for true; importing `typing` would be most of what `import headway` costs.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from headway.bootstrap import attach, connect
    from headway.client import Client
    from headway.engine.current import CurrentJob, current_job
    from headway.engine.task import task

__version__ = "0.1.0"

__all__ = ["Client", "CurrentJob", "__version__", "attach", "connect", "current_job", "task"]

_PLACES = {
    "Client": "headway.client",
    "CurrentJob": "headway.engine.current",
    "attach": "headway.bootstrap",
    "connect": "headway.bootstrap",
    "current_job": "headway.engine.current",
    "task": "headway.engine.task",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    if name == "task":
        from headway.engine.task import set_default_door_factory

        set_default_door_factory(_connect_door)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


def _connect_door() -> Any:
    from headway.bootstrap import connect_door

    return connect_door()
