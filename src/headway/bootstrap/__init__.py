"""The only room that knows every adapter: it opens a store, puts the parts together and starts them.

Its names are imported when they are first used: the supervisor of ``headway up`` needs none of the store's weight.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.bootstrap.cluster import cluster_findings
    from headway.bootstrap.database import db_check, db_upgrade, retention_run, sqlite_version
    from headway.bootstrap.deploying import compose_files, systemd_units
    from headway.bootstrap.fleet import SUPERVISOR, fleet_described, place_of, run_fleet
    from headway.bootstrap.managed import attach
    from headway.bootstrap.reaching import connect, connect_door, must_be_there, reach
    from headway.bootstrap.reaching_fleet import (
        answers,
        ask_fleet,
        fleet_status,
        left_over,
        start_fleet,
        stop_fleet,
    )
    from headway.bootstrap.starting import up
    from headway.bootstrap.working import work
    from headway.store.owner import file_system, prepare_directory, read_owner

__all__ = [
    "SUPERVISOR",
    "answers",
    "ask_fleet",
    "attach",
    "cluster_findings",
    "compose_files",
    "connect",
    "connect_door",
    "db_check",
    "db_upgrade",
    "file_system",
    "fleet_described",
    "fleet_status",
    "left_over",
    "must_be_there",
    "place_of",
    "prepare_directory",
    "reach",
    "read_owner",
    "retention_run",
    "run_fleet",
    "sqlite_version",
    "start_fleet",
    "stop_fleet",
    "systemd_units",
    "up",
    "work",
]

_HOMES = {
    "headway.bootstrap.cluster": ("cluster_findings",),
    "headway.bootstrap.database": ("db_check", "db_upgrade", "retention_run", "sqlite_version"),
    "headway.bootstrap.deploying": ("compose_files", "systemd_units"),
    "headway.bootstrap.fleet": ("SUPERVISOR", "fleet_described", "place_of", "run_fleet"),
    "headway.bootstrap.managed": ("attach",),
    "headway.bootstrap.reaching": ("connect", "connect_door", "must_be_there", "reach"),
    "headway.bootstrap.reaching_fleet": (
        "answers",
        "ask_fleet",
        "fleet_status",
        "left_over",
        "start_fleet",
        "stop_fleet",
    ),
    "headway.bootstrap.starting": ("up",),
    "headway.bootstrap.working": ("work",),
    "headway.store.owner": ("file_system", "prepare_directory", "read_owner"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'headway.bootstrap' has no attribute {name!r}")
    return getattr(import_module(home), name)
