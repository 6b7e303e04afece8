"""The only room that knows every adapter: it opens a store, puts the parts together and starts them.

Its names are imported when they are first used: the supervisor of ``headway up`` needs none of the store's weight.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.bootstrap.cluster import cluster_findings
    from headway.bootstrap.database import db_check, db_upgrade, retention_run, sqlite_version
    from headway.bootstrap.managed import attach
    from headway.bootstrap.reaching import connect, connect_door, must_be_there, reach
    from headway.bootstrap.starting import up
    from headway.bootstrap.working import work
    from headway.store.owner import file_system, prepare_directory, read_owner

__all__ = [
    "attach",
    "cluster_findings",
    "connect",
    "connect_door",
    "db_check",
    "db_upgrade",
    "file_system",
    "must_be_there",
    "prepare_directory",
    "reach",
    "read_owner",
    "retention_run",
    "sqlite_version",
    "up",
    "work",
]

_HOMES = {
    "headway.bootstrap.cluster": ("cluster_findings",),
    "headway.bootstrap.database": ("db_check", "db_upgrade", "retention_run", "sqlite_version"),
    "headway.bootstrap.managed": ("attach",),
    "headway.bootstrap.reaching": ("connect", "connect_door", "must_be_there", "reach"),
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
