"""The only room that knows every adapter: it opens a store, puts the parts together and starts them."""

from headway.bootstrap.database import db_check, db_upgrade, retention_run, sqlite_version
from headway.bootstrap.reaching import connect, connect_door, reach
from headway.bootstrap.starting import up
from headway.store.owner import file_system, prepare_directory, read_owner

__all__ = [
    "connect",
    "connect_door",
    "db_check",
    "db_upgrade",
    "file_system",
    "prepare_directory",
    "reach",
    "read_owner",
    "retention_run",
    "sqlite_version",
    "up",
]
