"""A migrated SQLite database: made once in a process, and copied, as every migration takes a good part of a second."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from headway.store.schema import upgrade_schema
from headway.store.sqlite import sqlite_engine


def migrate_sqlite(path: Path) -> None:
    """Make a database of the newest schema at a path; one that is there already is brought up instead."""
    if path.exists():
        _upgrade(path)
    else:
        path.write_bytes(_migrated())


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "registry.db"
        _upgrade(path)
        return path.read_bytes()


def _upgrade(path: Path) -> None:
    engine = sqlite_engine(path, read_only=False)
    upgrade_schema(engine)
    engine.dispose()
