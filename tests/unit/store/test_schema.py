"""Migrations make the tables; wrong databases are refused with the remedy."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from headway.model.errors import SchemaMismatch, StoreDamaged
from headway.store.postgres import postgres_engine
from headway.store.schema import check_schema, differences, schema_state, upgrade_schema
from headway.store.sqlite import sqlite_engine, translate
from tests.unit.store.house import open_house


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    """Of the session: a server it needs is then there before a test's leftovers are counted."""
    if request.param == "postgres":
        request.getfixturevalue("postgres_server")
    return str(request.param)


@pytest.fixture
def where(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a schema: a path or a URL."""
    return str(request.getfixturevalue("postgres_url")) if kind == "postgres" else str(tmp_path / "registry.db")


def engine_for(where: str) -> Engine:
    if where.startswith("postgresql:"):
        return postgres_engine(where, read_only=False)
    return sqlite_engine(Path(where), read_only=False)


@pytest.fixture
def engine(where: str) -> Iterator[Engine]:
    made = engine_for(where)
    yield made
    made.dispose()


def test_migrations_make_exactly_the_tables(engine: Engine) -> None:
    state = upgrade_schema(engine)
    assert state.current
    assert differences(engine) == []
    assert check_schema(engine) == state
    assert upgrade_schema(engine) == state


def test_the_comparison_sees_a_difference(engine: Engine) -> None:
    upgrade_schema(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP INDEX ix_jobs_listed")
        connection.commit()
    assert "ix_jobs_listed" in str(differences(engine))


def test_an_empty_database_is_refused_with_the_remedy(engine: Engine) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        check_schema(engine)
    assert "headway db upgrade" in caught.value.hint
    with engine.connect() as connection:
        assert schema_state(connection).found is None


def test_a_newer_database_is_refused_by_check_and_upgrade(engine: Engine) -> None:
    upgrade_schema(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(SchemaMismatch, match="9999") as caught:
        check_schema(engine)
    assert "newer Headway" in caught.value.hint
    with pytest.raises(SchemaMismatch, match="9999"):
        upgrade_schema(engine)
    with engine.connect() as connection:
        assert schema_state(connection).found == "9999"


def _upgrade(where: str, start: object, answers: object) -> None:
    engine = engine_for(where)
    start.wait(30)  # type: ignore[attr-defined]
    try:
        answers.put(upgrade_schema(engine).found)  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 the other process has to hear of it
        answers.put(repr(error))  # type: ignore[attr-defined]
    finally:
        engine.dispose()


def test_two_processes_upgrade_at_once(where: str, engine: Engine) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_upgrade, args=(where, start, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    said = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert len(set(said)) == 1, said
    assert said[0] == check_schema(engine).expected
    assert differences(engine) == []


@pytest.mark.parametrize("damage", ["no database at all", "a page in the middle"])
def test_a_damaged_file_is_refused_with_the_remedy(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "registry.db"
    if damage == "no database at all":
        path.write_bytes(b"this is not a database " * 500)
    else:
        house = open_house(tmp_path)
        for _ in range(50):
            house.submit(args=["x" * 500])
        house.store.close()
        size = path.stat().st_size
        assert size > 100_000
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 8192))
    engine = sqlite_engine(path, read_only=False)
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011 translated below, as every caller does
            check_schema(engine)
    finally:
        engine.dispose()
    said = translate(caught.value)
    assert isinstance(said, StoreDamaged)
    assert "restore" in said.hint
