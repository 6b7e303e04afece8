"""A real node without an engine of its own: SQLite, the verbs, the web application and uvicorn; tests play the worker."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn

from headway.console import console_router
from headway.engine.codec import KombuCodec
from headway.feed import FeedTailer
from headway.http.app import HttpParts, create_http_app
from headway.http.health import Part, PartStatus
from headway.http.security import SecuritySettings
from headway.model.actor import Actor, Role
from headway.model.commands import BeatReport, Begun, Finish, NewLogLine, SubmitJob
from headway.model.job import ErrorInfo, Job, Progress
from headway.model.states import AttemptOutcome
from headway.service import Context, Limits, Services, StoreJobDoor, submit_job
from headway.store.blobs import FileBlobs
from headway.store.signals import LocalSignal
from headway.store.sqlite import open_sqlite
from headway.system import SystemClock, SystemIds
from tests.migrated import migrate_sqlite
from tests.waiting import wait_until

WORKER = "test-worker"


class HttpNode:
    """Serves on a free port of loopback; ``begin``, ``succeed`` and so on are what a worker would do."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: SecuritySettings | None = None,
        limits: Limits | None = None,
        waiting_bytes: int = 1 << 20,
    ) -> None:
        self.folder = folder
        self._clients: list[httpx.Client] = []
        self.parts: dict[str, Part] = {"store": Part(PartStatus.OK)}
        clock, self.signal, ids = SystemClock(), LocalSignal(), SystemIds()
        path = folder / "registry.db"
        migrate_sqlite(path)
        self.store = open_sqlite(path, clock=clock, signal=self.signal)
        (folder / "blobs").mkdir(exist_ok=True)
        self.services = Services(
            store=self.store,
            blobs=FileBlobs(folder / "blobs", ids),
            signal=self.signal,
            clock=clock,
            ids=ids,
            codec=KombuCodec(),
            limits=limits or Limits(),
        )
        self.context = Context(self.services, Actor("test", Role.ADMIN))
        self.worker = StoreJobDoor(Context(self.services, Actor(f"worker:{WORKER}", Role.OPERATOR)), WORKER)
        self.store.write(
            lambda tx: tx.register_worker(WORKER, {"pid": 1, "host": "here", "slots": 1, "version": "0.0.test"})
        )
        self.tailer = FeedTailer(self.store, self.signal, max_waiting_bytes=waiting_bytes)
        self.app = create_http_app(
            HttpParts(
                services=self.services,
                security=settings or SecuritySettings(),
                tailer=self.tailer,
                readiness=self.readiness,
                version="0.0.test",
                routers=(console_router(self.tailer, version="0.0.test"),),
            )
        )
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="on")
        )
        self._thread = threading.Thread(target=self._server.run, name="test-uvicorn")

    def readiness(self) -> Mapping[str, Part]:
        return self.parts

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started, what="the server", seconds=20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tailer.close()
        self._server.should_exit = True
        self._thread.join(20)
        for client in self._clients:
            client.close()
        assert not self._thread.is_alive()
        self.store.close()
        self.signal.close()

    def client(self, **headers: str) -> httpx.Client:
        """A client of its own; closed with the node."""
        client = httpx.Client(base_url=self.url, headers=headers, timeout=20)
        self._clients.append(client)
        return client

    # ------------------------------------------------------------------------------------------ what a worker does

    def submit(self, task: str = "demo.add", **fields: Any) -> Job:
        return submit_job(self.context, SubmitJob(task=task, **fields))

    def begin(self, job: Job | None = None) -> Begun:
        """Begin the job (any, if only one is queued); what else was queued before it succeeds with null."""
        while True:
            (begun,) = self.worker.begin(1)
            if job is None or begun.job_id == job.id:
                return begun
            self.succeed(begun, "null")

    def run(self, task: str = "demo.add", result: str = "3", **fields: Any) -> Job:
        """Submit, begin and succeed one job."""
        job = self.submit(task, **fields)
        self.succeed(self.begin(job), result)
        return job

    def succeed(self, begun: Begun, result: str = "3") -> None:
        self.worker.finish(Finish(begun.job_id, begun.fence, AttemptOutcome.SUCCEEDED, result_json=result, begun=begun))

    def fail(self, begun: Begun, error: ErrorInfo) -> None:
        self.worker.finish(Finish(begun.job_id, begun.fence, AttemptOutcome.FAILED, error=error, begun=begun))

    def progress(self, begun: Begun, done: float, total: float | None = None, message: str = "") -> None:
        self.worker.beat([BeatReport(begun.job_id, begun.fence, progress=Progress(done, total, message))])

    def log(self, begun: Begun, *texts: str) -> None:
        now = self.services.clock.now()
        self.worker.log([NewLogLine(begun.job_id, begun.fence, now, "log", text) for text in texts])
