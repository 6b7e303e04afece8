"""Every adapter of a port, behind one fixture per port."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from headway.engine.codec import KombuCodec
from headway.model.actor import Actor, Role
from headway.model.commands import Begun, Finish, FinishAnswer, SubmitJob
from headway.model.job import Job
from headway.model.states import AttemptOutcome
from headway.ports.clock import Clock
from headway.service import Context, Limits, Services, StoreJobDoor, submit_job
from headway.store.blobs import FileBlobs
from headway.store.postgres import open_postgres, postgres_engine
from headway.store.schema import upgrade_schema
from headway.store.signals import LocalSignal
from headway.store.sqlite import open_sqlite, sqlite_engine
from headway.store.sqlstore import SqlStore
from headway.system import SystemClock, SystemIds
from tests.servers.postgres import drop_database

OPERATOR = Actor("key:test", Role.ADMIN)
FACTS = {"host": "here", "pid": 1, "slots": 2, "version": "0"}


@dataclass
class Database:
    """One migrated database, to be opened by as many stores as it allows."""

    kind: str
    folder: Path
    url: str
    opened: list[SqlStore] = field(default_factory=list)

    def open(self, clock: Clock | None = None, *, delivers: bool = False) -> SqlStore:
        """A store over it; on Postgres as if by a further process."""
        clock = clock or SystemClock()
        if self.kind == "postgres":
            store = open_postgres(self.url, clock=clock, signal=LocalSignal(), delivers=delivers)
        else:
            path = self.folder / "registry.db"
            store = open_sqlite(path, clock=clock, signal=LocalSignal(), delivers=delivers)
        self.opened.append(store)
        return store

    def upgrade(self) -> None:
        """Bring the schema up."""
        engine = (
            postgres_engine(self.url, read_only=False)
            if self.kind == "postgres"
            else sqlite_engine(self.folder / "registry.db", read_only=False)
        )
        upgrade_schema(engine)
        engine.dispose()


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database; of the session, so that a server it needs is there before a test's leftovers are counted."""
    if request.param == "postgres":
        request.getfixturevalue("postgres_server")
    return str(request.param)


@pytest.fixture(scope="session")
def migrated(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database that was brought up once, to be copied for every test."""
    url = request.getfixturevalue("postgres_server").create_database() if kind == "postgres" else ""
    made = Database(kind, tmp_path_factory.mktemp("migrated"), url)
    made.upgrade()
    yield made
    if url:
        drop_database(url)


@pytest.fixture
def database(migrated: Database, tmp_path: Path) -> Iterator[Database]:
    """A fresh database of each kind."""
    url = _copied(migrated.url) if migrated.url else ""
    made = Database(migrated.kind, tmp_path, url)
    if not url:
        shutil.copy(migrated.folder / "registry.db", tmp_path / "registry.db")
    yield made
    for store in made.opened:
        store.close()
    if url:
        drop_database(url)


def _copied(url: str) -> str:
    base, _, template = url.rpartition("/")
    name = f"headway_{uuid4().hex}"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return f"{base}/{name}"


@pytest.fixture
def store(database: Database) -> SqlStore:
    """A store over a fresh database."""
    return database.open()


@dataclass
class House:
    """One store with the service over it, as one process has it."""

    store: SqlStore
    services: Services
    ctx: Context
    folder: Path
    workers: set[str] = field(default_factory=set)

    def door(self, worker_id: str) -> StoreJobDoor:
        """The door of a worker, registered when it is new."""
        if worker_id not in self.workers:
            self.workers.add(worker_id)
            self.store.write(lambda tx: tx.register_worker(worker_id, FACTS))
        return StoreJobDoor(Context(self.services, Actor(f"worker:{worker_id}", Role.OPERATOR)), worker_id)

    def submit(self, task: str = "app.task", **fields: object) -> Job:
        """Submit one job."""
        return submit_job(self.ctx, SubmitJob(task, **fields))  # type: ignore[arg-type]


def build_house(store: SqlStore, folder: Path, clock: Clock | None = None, limits: Limits | None = None) -> House:
    """The service over a store."""
    services = Services(
        store=store,
        blobs=FileBlobs(folder / "blobs", SystemIds()),
        signal=store._signal,
        clock=clock or SystemClock(),
        ids=SystemIds(),
        codec=KombuCodec(),
        limits=limits or Limits(),
    )
    return House(store, services, Context(services, OPERATOR), folder)


@pytest.fixture
def house(store: SqlStore, tmp_path: Path) -> House:
    """The service over a store over a fresh database."""
    return build_house(store, tmp_path)


@pytest.fixture
def another_house(database: Database, house: House, tmp_path: Path) -> Callable[[], House]:
    """A second process: a store of its own where the database is shared, the same store where it has one owner."""

    def make() -> House:
        return build_house(database.open(), tmp_path) if database.kind == "postgres" else house

    return make


def succeed(door: StoreJobDoor, begun: Begun, result_json: str = "1") -> FinishAnswer:
    """Finish an attempt well."""
    return door.finish(
        Finish(begun.job_id, begun.fence, AttemptOutcome.SUCCEEDED, result_json=result_json, begun=begun)
    )


def begin_one(door: StoreJobDoor) -> Begun:
    """Begin exactly one job."""
    begun = door.begin(1)
    assert len(begun) == 1
    return begun[0]
