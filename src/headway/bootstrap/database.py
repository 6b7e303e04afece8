"""Opening the store that the settings name, and looking after its schema."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.config import Settings
from headway.model.errors import DataDirectoryUnusable, HeadwayError, StoreUnavailable
from headway.ports.blobs import BlobStore
from headway.ports.signal import Signal
from headway.ports.store import Store
from headway.service import Context, Limits, RetentionReport, Services, run_retention
from headway.store.owner import Ownership, claim_directory, prepare_directory
from headway.system import SystemClock, SystemIds

if TYPE_CHECKING:
    from headway.ports.catalog import TaskCatalog
    from headway.store.schema import SchemaState


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store with what belongs to it. ``owned`` is the data directory's lock, if this process took it."""

    store: Store
    blobs: BlobStore
    signal: Signal
    owned: Ownership | None

    def close(self) -> None:
        """Let go of everything, the lock last."""
        self.store.close()
        for part in (self.signal, self.blobs):
            close = getattr(part, "close", None)
            if close is not None:
                close()
        if self.owned is not None:
            self.owned.release()


def open_store(
    settings: Settings,
    *,
    own: bool,
    upgrade: bool,
    brief: bool = False,
    delivers: bool | None = None,
    signal: Signal | None = None,
    checked: bool = False,
) -> Opened:
    """Open the registry.

    Args:
        settings: name it.
        own: take the data directory's lock. SQLite is never opened without.
        brief: for one call: nothing is listened for.
        upgrade: make the schema of an empty database. An older one is never changed without being asked.
        delivers: whether jobs that become ready are sent to a broker; what JOB_BACKEND says if None.
        signal: instead of one that is made here (Postgres).
        checked: the schema was looked at by whoever started this process.

    Raises:
        DataDirectoryInUse, DataDirectoryUnusable, SchemaMismatch, StoreDamaged, StoreUnavailable: with the remedy.
    """
    owned = claim_directory(settings.data_dir) if own or not settings.on_postgres else None
    try:
        return (
            _open_postgres(settings, owned, upgrade, brief, delivers, signal, checked)
            if settings.on_postgres
            else _open_sqlite(settings, owned, upgrade)
        )
    except BaseException:
        if owned is not None:
            owned.release()
        raise


def _open_sqlite(settings: Settings, owned: Ownership | None, upgrade: bool) -> Opened:
    from headway.store.blobs import FileBlobs
    from headway.store.signals import LocalSignal
    from headway.store.sqlite import open_sqlite

    path = _registry_file(settings)
    with _engine(settings) as engine:
        _ready(engine, upgrade=upgrade)
    signal = LocalSignal()
    return Opened(
        open_sqlite(path, clock=SystemClock(), signal=signal),
        FileBlobs(settings.data_dir / "blobs", SystemIds()),
        signal,
        owned,
    )


def _open_postgres(
    settings: Settings,
    owned: Ownership | None,
    upgrade: bool,
    brief: bool,
    delivers: bool | None,
    signal: Signal | None,
    checked: bool,
) -> Opened:
    from headway.store.dbblobs import DatabaseBlobs
    from headway.store.postgres import conninfo, open_postgres, postgres_engine
    from headway.store.postgres_signals import PostgresNotice, PostgresSignal

    url = settings.registry_url
    if not checked:
        with _engine(settings) as engine:
            _ready(engine, upgrade=upgrade)
    if signal is None:
        signal = PostgresNotice(conninfo(url)) if brief else PostgresSignal(conninfo(url))
    if delivers is None:
        delivers = settings.job_backend == "celery"
    blobs = DatabaseBlobs(postgres_engine(url, read_only=True), SystemClock(), SystemIds())
    return Opened(open_postgres(url, clock=SystemClock(), signal=signal, delivers=delivers), blobs, signal, owned)


def _ready(engine: Any, *, upgrade: bool) -> None:
    from headway.store.schema import check_schema, schema_state, upgrade_schema

    with engine.connect() as connection:
        empty = schema_state(connection).found is None
    if empty and upgrade:
        upgrade_schema(engine)
    check_schema(engine, whole=False)


@contextmanager
def _engine(settings: Settings) -> Iterator[Any]:
    """A short-lived engine for schema work; a driver's exception comes out as ours."""
    if settings.on_postgres:
        from headway.store.postgres import postgres_engine, translate

        engine = postgres_engine(settings.registry_url, read_only=False)
    else:
        from headway.store.sqlite import sqlite_engine, translate

        engine = sqlite_engine(_registry_file(settings), read_only=False)
    try:
        yield engine
    except HeadwayError:
        raise
    except Exception as error:
        said = translate(error)
        if isinstance(said, HeadwayError):
            raise said from error
        raise StoreUnavailable(f"the database could not be opened: {' '.join(str(error).split())}") from error
    finally:
        engine.dispose()


def _registry_file(settings: Settings) -> Path:
    path = settings.registry_file
    assert path is not None
    prepare_directory(path.parent)
    if not path.exists():
        # SQLite gives its other files the rights of this one.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    if path.exists() and not os.access(path, os.W_OK):
        raise DataDirectoryUnusable(f"the registry {path} is not writable for user {os.getuid()}")
    return path


def services_of(opened: Opened, settings: Settings, catalog: TaskCatalog | None) -> Services:
    """The adapters as the verbs want them."""
    from headway.engine.codec import KombuCodec

    return Services(
        store=opened.store,
        blobs=opened.blobs,
        signal=opened.signal,
        clock=SystemClock(),
        ids=SystemIds(),
        codec=KombuCodec(),
        catalog=catalog,
        limits=Limits(
            max_payload_bytes=settings.max_payload_bytes,
            max_request_bytes=settings.max_request_bytes,
            max_attempts=settings.max_attempts,
            max_rescues=settings.max_rescues,
            default_timeout=settings.job_timeout_seconds,
            default_max_retries=settings.job_max_retries,
            default_isolation=settings.isolation,
            job_retention_seconds=settings.job_retention_seconds,
            observed_retention_seconds=settings.observed_retention_seconds,
            lease_seconds=settings.lease_seconds,
        ),
    )


def db_upgrade(settings: Settings) -> SchemaState:
    """Bring the database to this Headway's schema.

    Raises:
        DataDirectoryInUse: a server runs; stop it first.
        SchemaMismatch: the database is newer than this Headway.
    """
    from headway.store.schema import upgrade_schema

    owned = None if settings.on_postgres else claim_directory(settings.data_dir)
    try:
        with _engine(settings) as engine:
            return upgrade_schema(engine)
    finally:
        if owned is not None:
            owned.release()


def db_check(settings: Settings) -> SchemaState:
    """Whether the database answers, is whole and has the expected schema; nothing is changed."""
    from headway.store.schema import check_schema

    with _engine(settings) as engine:
        return check_schema(engine)


def retention_run(settings: Settings) -> RetentionReport:
    """Apply retention now: by the server that owns the data directory, else here."""
    from headway.bootstrap.reaching import local_actor
    from headway.store.owner import read_owner

    owner = read_owner(settings.data_dir)
    if owner is not None and owner.url is not None:
        from headway.client import Client

        with Client(owner.url, owner.token) as client:
            return RetentionReport(**client.call("POST", "/retention/run", {}))
    opened = open_store(settings, own=False, upgrade=False)
    try:
        return run_retention(Context(services_of(opened, settings, None), local_actor()))
    finally:
        opened.close()


def sqlite_version() -> str:
    """The version of SQLite that Python was built with."""
    from headway.store.sqlite import library_version

    return library_version()
