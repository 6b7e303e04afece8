"""A managed cluster of real processes: one service, workers, a Postgres and a broker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from headway.client import Client
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
_SERVING = re.compile(r"^Headway is ready at (http://\S+)$", re.MULTILINE)
_WORKING = re.compile(r"^Headway worker (\S+) is ready$", re.MULTILINE)


@dataclass
class Managed:
    """Where everything of one cluster is, and what its processes are told.

    Args:
        folder: of logs, data and effects.
        registry: URL of the database.
        broker: URL.
    """

    folder: Path
    registry: str
    broker: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def effects(self) -> Path:
        """The file into which tasks write what they did."""
        return self.folder / "effects"

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the cluster is started with."""
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "JOB_BACKEND": "celery",
            "JOB_REGISTRY_PATH": self.registry,
            "MANAGED_BROKER": self.broker,
            "FAULT_EFFECTS": str(self.effects),
            "HEADWAY_HEARTBEAT_SECONDS": "0.5",
            "HEADWAY_LEASE_SECONDS": "2",
            "HEADWAY_CANCEL_GRACE_SECONDS": "1",
            **self.settings,
        }

    def service(self, *options: str, app: str | None = "tests.managed.app") -> Part:
        """The service process, not started."""
        command = ["serve", "--port", "0", "--data-dir", str(self.folder / "data"), *options]
        return Part(self, "service", [*command, *(["-A", app] if app else [])], _SERVING)

    def worker(self, *options: str, name: str = "one", app: str | None = "tests.managed.app") -> Part:
        """A worker process, not started."""
        command = ["worker", "-n", name, "--data-dir", str(self.folder / f"data-{name}"), *options]
        return Part(self, f"worker-{name}", [*command, *(["-A", app] if app else [])], _WORKING)


class Part:
    """One process of the cluster with all that it starts; `with` starts it and ends all of it."""

    def __init__(self, cluster: Managed, name: str, arguments: list[str], ready: re.Pattern[str]) -> None:
        self.cluster = cluster
        self.log = cluster.folder / f"{name}.log"
        self._ready = ready
        self._command = [sys.executable, "-m", "headway", *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"the end of {self.log.name}:\n{self.log.read_text(errors='replace')[-4000:]}")

    @property
    def main(self) -> subprocess.Popen[bytes]:
        """Its main process."""
        assert self._process is not None, "it was not started"
        return self._process

    def spawn(self) -> None:
        """Start it and return at once."""
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.cluster.folder,
                env=self.cluster.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> str:
        """Start it; what its ready line says."""
        self.spawn()
        return self.ready()

    def ready(self) -> str:
        """What its ready line says, as soon as it says so."""
        wait_until(
            lambda: self._ready.search(self.said()) or self.main.poll() is not None,
            what=f"{self.log.stem} to be ready",
            seconds=START_SECONDS,
        )
        found = self._ready.findall(self.said())
        assert found, f"it ended with {self.main.poll()}:\n{self.said()}"
        return str(found[-1])

    def client(self) -> Client:
        """A client of the service. Close it."""
        return Client(self.ready())

    def said(self) -> str:
        """What it said since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The main process and everything below it."""
        try:
            main = psutil.Process(self.main.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def children(self) -> list[psutil.Process]:
        """What the main process has started."""
        return self.processes()[1:]

    def end(self, seconds: float = 30.0) -> int:
        """SIGTERM; its exit code."""
        self.main.send_signal(signal.SIGTERM)
        return self.main.wait(seconds)

    def kill(self) -> None:
        """SIGKILL to all of it, at once."""
        if self._process is None:
            return
        family = self.processes()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=10)
        self._process.wait(10)
