"""A store on SQLite with the service over it, for tests that need no second database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headway.engine.codec import KombuCodec
from headway.model.actor import Actor, Role
from headway.model.commands import SubmitJob
from headway.model.job import Job
from headway.ports.clock import Clock, Ids
from headway.service import Context, Limits, Services, submit_job
from headway.store.blobs import FileBlobs
from headway.store.signals import LocalSignal
from headway.store.sqlite import open_sqlite
from headway.store.sqlstore import SqlStore
from headway.system import SystemClock, SystemIds
from tests.migrated import migrate_sqlite


@dataclass(frozen=True)
class House:
    """One process' store and service."""

    store: SqlStore
    services: Services
    ctx: Context
    signal: LocalSignal

    def submit(self, task: str = "app.task", **fields: object) -> Job:
        """Submit one job."""
        return submit_job(self.ctx, SubmitJob(task, **fields))  # type: ignore[arg-type]


def open_house(
    folder: Path, *, clock: Clock | None = None, ids: Ids | None = None, limits: Limits | None = None
) -> House:
    """Migrate ``registry.db`` in the folder and open it."""
    migrate_sqlite(folder / "registry.db")
    clock, ids, signal = clock or SystemClock(), ids or SystemIds(), LocalSignal()
    store = open_sqlite(folder / "registry.db", clock=clock, signal=signal)
    services = Services(
        store, FileBlobs(folder / "blobs", ids), signal, clock, ids, KombuCodec(), limits=limits or Limits()
    )
    return House(store, services, Context(services, Actor("key:test", Role.ADMIN)), signal)
