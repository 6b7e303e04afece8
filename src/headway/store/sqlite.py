"""SQLite: one owner, one writing connection, WAL with synchronous=FULL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool, StaticPool

from headway.model.errors import JobIdTaken, StorageFull, StoreDamaged, StoreUnavailable
from headway.ports.clock import Clock
from headway.ports.signal import Signal
from headway.store.dialects import SQLITE
from headway.store.groups import RetryAlone
from headway.store.sqlstore import SqlStore

MIN_VERSION = (3, 35, 0)
_READERS = 8


def library_version() -> str:
    """The version of SQLite that Python was built with."""
    return sqlite3.sqlite_version


def open_sqlite(path: Path, *, clock: Clock, signal: Signal, delivers: bool = False) -> SqlStore:
    """Open the registry file. The caller owns the data directory and has checked the schema.

    Args:
        path: of the file.
        clock: the store's time.
        signal: wakes who waits.
        delivers: see ``SqlStore``.
    """
    return SqlStore(
        sqlite_engine(path, read_only=False),
        sqlite_engine(path, read_only=True),
        SQLITE,
        clock=clock,
        signal=signal,
        translate=translate,
        delivers=delivers,
    )


def sqlite_engine(path: Path, *, read_only: bool) -> Engine:
    """An engine over the file, set up so that an acknowledged commit survives a power cut."""
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: _connect(path),
        paramstyle="named",
        **(
            {"poolclass": QueuePool, "pool_size": _READERS, "max_overflow": 0}
            if read_only
            else {"poolclass": StaticPool}
        ),
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        # We begin by ourselves: the driver's own BEGIN comes too late for a snapshot and is never IMMEDIATE.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("PRAGMA foreign_keys = ON")
        # There are many readers, and behind each of them is the system's own cache.
        connection.execute(f"PRAGMA cache_size = {-4000 if read_only else -32000}")
        # 16 MB of log between checkpoints: the pages that every job touches are then copied seldom.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    if read_only:

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN")

    return engine


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False, cached_statements=512, timeout=5.0)


def translate(error: BaseException) -> BaseException:
    """What SQLite's exceptions mean for a caller."""
    original = getattr(error, "orig", None) or error
    if not isinstance(original, sqlite3.Error):
        return error
    text = str(original)
    if isinstance(original, sqlite3.IntegrityError) and "UNIQUE" in text:
        return RetryAlone(text, JobIdTaken(f"the id or key stands for another job ({text})"))
    if "full" in text:
        return StorageFull(f"the disk of the registry is full ({text})")
    if "malformed" in text or "not a database" in text:
        return StoreDamaged(f"the registry file is damaged ({text})")
    if isinstance(original, (sqlite3.OperationalError, sqlite3.ProgrammingError)):
        return StoreUnavailable(f"SQLite refused: {text}")
    return error
