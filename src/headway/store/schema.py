"""The schema: brought up by migrations under a lock, checked at every start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.schema import SchemaItem

from headway.model.errors import SchemaMismatch, StoreDamaged
from headway.store import delivery_tables, join_tables, observed_tables
from headway.store.tables import NOT_ON_SQLITE, metadata

# Importing these has added theirs.
assert all(kind.metadata is metadata for kind in (delivery_tables, join_tables, observed_tables))
_metadata = metadata
_MIGRATION_LOCK = 5207062
_SMALL_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Which migration the database is at, and which one this Headway expects; None is an empty database."""

    found: str | None
    expected: str

    @property
    def current(self) -> bool:
        """Whether they are the same."""
        return self.found == self.expected


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def schema_state(connection: Connection) -> SchemaState:
    """Read the version; nothing is changed."""
    expected = ScriptDirectory.from_config(_config()).get_current_head()
    assert expected is not None
    return SchemaState(MigrationContext.configure(connection).get_current_revision(), expected)


def check_schema(engine: Engine, *, whole: bool = True) -> SchemaState:
    """Refuse, with the remedy, a database that this Headway cannot work with.

    Args:
        engine: of the database.
        whole: read all of an SQLite file. A start does so only while the file is small: a million jobs take
            longer to read than anybody waits for a start, and damage shows itself with the same error later.

    Raises:
        SchemaMismatch: it is empty, older or newer.
        StoreDamaged: SQLite's own quick check finds the file damaged.
    """
    with engine.connect() as connection:
        state = schema_state(connection)
        if engine.dialect.name == "sqlite" and (whole or _file_bytes(connection) <= _SMALL_BYTES):
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise StoreDamaged(f"the registry file is damaged: {found}")
    if state.current:
        return state
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if state.found is None:
        raise SchemaMismatch(
            f"the database has no Headway schema yet, expected version {state.expected}",
            hint="Run `headway db upgrade`.",
        )
    if state.found in known:
        raise SchemaMismatch(
            f"the database is at schema version {state.found}, this Headway expects {state.expected}",
            hint="Back it up, then run `headway db upgrade`.",
        )
    raise SchemaMismatch(
        f"the database is at schema version {state.found}, which is newer than this Headway ({state.expected})",
        hint="Install the newer Headway again, or restore a copy of the database from before its upgrade.",
    )


def _file_bytes(connection: Connection) -> int:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    return int(pages) * int(size)


def upgrade_schema(engine: Engine, to: str = "head") -> SchemaState:
    """Bring the database to a version, the expected one; safe beside another process doing the same."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            state = schema_state(connection)
            known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
            if state.found is not None and state.found not in known:
                raise SchemaMismatch(
                    f"the database is at schema version {state.found}, which this Headway does not know",
                    hint="Install the Headway that wrote it.",
                )
            if state.found is None:
                _refuse_foreign(connection)
            if not state.current:
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, to)
            connection.commit()
            return schema_state(connection)
        finally:
            if engine.dialect.name == "postgresql":
                connection.rollback()
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
                connection.commit()


def _refuse_foreign(connection: Connection) -> None:
    taken = sorted(set(_metadata.tables) & set(sa.inspect(connection).get_table_names()))
    if taken:
        raise SchemaMismatch(
            f"the database has tables of another program under names that Headway needs: {', '.join(taken)}",
            hint="Name an empty database with JOB_REGISTRY_PATH.",
        )


def differences(engine: Engine) -> list[object]:
    """What Alembic would change to make the database equal to the tables; empty when they are equal."""
    from alembic.autogenerate import compare_metadata

    def wanted(item: SchemaItem, name: str | None, kind: str, reflected: bool, other: SchemaItem | None) -> bool:
        # Alembic does not ask by itself whether an index is meant for this database.
        return reflected or kind != "index" or name not in NOT_ON_SQLITE or engine.dialect.name != "sqlite"

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": wanted})
        return list(compare_metadata(context, _metadata))
