"""A real node: SQLite store, the service's door, the embedded engine and the sample application."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from headway.engine.codec import KombuCodec
from headway.engine.embedded.catalog import AppCatalog
from headway.engine.embedded.engine import EmbeddedEngine
from headway.engine.embedded.settings import EngineSettings
from headway.model.actor import Actor, Role
from headway.model.commands import SubmitJob
from headway.model.states import TERMINAL_STATES
from headway.service import Context, Limits, Services, StoreJobDoor, list_attempts, read_logs
from headway.store.blobs import FileBlobs
from headway.store.signals import LocalSignal
from headway.store.sqlite import open_sqlite
from headway.system import SystemClock, SystemIds
from tests.integration.engine import sample
from tests.migrated import migrate_sqlite

WORKER = "w1"


class Node:
    """Everything that `headway up` would start for the engine, without the faces."""

    def __init__(self, folder: Path, *, limits: Limits | None = None) -> None:
        self.folder = folder
        self.clock, self.signal, ids = SystemClock(), LocalSignal(), SystemIds()
        database = folder / "registry.db"
        migrate_sqlite(database)
        self.store = open_sqlite(database, clock=self.clock, signal=self.signal)
        services = Services(
            self.store,
            FileBlobs(folder / "blobs", ids),
            self.signal,
            self.clock,
            ids,
            KombuCodec(),
            AppCatalog(sample.app),
            limits or Limits(),
        )
        self.catalog = services.catalog
        self.ctx = Context(services, Actor("local:0", Role.ADMIN))
        facts = {"host": "here", "pid": os.getpid(), "slots": 2, "version": "0"}
        self.store.write(lambda tx: tx.register_worker(WORKER, facts))
        self.door: Any = StoreJobDoor(Context(services, Actor(f"worker:{WORKER}", Role.OPERATOR)), WORKER)
        self.engine: Any = None
        self.exhausted = 0

    def settings(self, **changes: Any) -> EngineSettings:
        values: dict[str, Any] = {
            "threads": 2,
            "heartbeat_seconds": 0.1,
            "cancel_grace_seconds": 0.2,
            "poll_seconds": 0.2,
            "app_spec": "tests.integration.engine.sample:app",
        } | changes
        return EngineSettings(self.folder / "spool", self.folder / "children", **values)

    def start(self, door: Any = None, **changes: Any) -> Any:
        self.engine = EmbeddedEngine(
            door or self.door,
            sample.app,
            clock=self.clock,
            settings=self.settings(**changes),
            log=structlog.get_logger("test"),
            on_exhausted=self._note_exhausted,
        )
        self.engine.start()
        return self.engine

    def _note_exhausted(self) -> None:
        self.exhausted += 1

    def submit(self, task: str, *args: Any, **options: Any) -> Any:
        return self.door.submit(SubmitJob(task, list(args), **options))

    def ended(self, job_id: str, timeout: float = 20.0) -> Any:
        """The job once it has ended; due retries are moved on meanwhile, as the due loop does."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            job = self.door.wait(job_id, 0.05)
            if job is not None and job.state in TERMINAL_STATES:
                return job
            self.move_due()
        raise AssertionError(f"job {job_id} has not ended: {self.door.get(job_id)}")

    def move_due(self) -> None:
        from headway.service import enqueue_due

        enqueue_due(self.ctx)

    def outcomes(self, job_id: str) -> list[str]:
        return [str(attempt.outcome) for attempt in list_attempts(self.ctx, job_id)]

    def log_lines(self, job_id: str) -> list[tuple[str, str]]:
        return [(line.stream, line.text) for line in read_logs(self.ctx, job_id)]

    def close(self) -> None:
        sample.OPEN.set()
        if self.engine is not None:
            self.engine.drain(5)
            self.engine.stop()
        self.store.close()
        self.signal.close()


@pytest.fixture
def make_node() -> Iterator[Callable[..., Node]]:
    made: list[tuple[Node, Path]] = []
    sample.OPEN.clear()
    sample.STARTED.clear()

    def make(**options: Any) -> Node:
        folder = Path(tempfile.mkdtemp(prefix="headway-engine-"))
        node = Node(folder, **options)
        made.append((node, folder))
        return node

    yield make
    for node, folder in made:
        node.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    node = make_node()
    node.start()
    return node
