"""`headway up` as a process group that can be killed, frozen and started again over the same data directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import psutil

from headway.client import Client
from tests.waiting import wait_until

READY = re.compile(r"^Headway is ready at (http://\S+)$", re.MULTILINE)
START_SECONDS = 60.0
# Inherited by everything that a server starts, so that a child which outlives it is found wherever it hangs.
RUN_VARIABLE = "FAULT_RUN"
EFFECTS_VARIABLE = "FAULT_EFFECTS"


class Server:
    """One `headway up` or `observe`, again and again, over one data directory.

    Args:
        folder: where it is started; holds the application and everything the run writes.
        app: the value of `-A`, a module in `folder`; None starts without one.
        registry: JOB_REGISTRY_PATH; None is SQLite in the data directory.
        data_dir: the data directory; `folder/data` when None.
        verb: the command that serves, `up` or `observe`.
        options: further options of `up`.
        settings: further environment.
    """

    def __init__(
        self,
        folder: Path,
        app: str | None,
        *,
        registry: str | None = None,
        data_dir: Path | None = None,
        verb: str = "up",
        options: tuple[str, ...] = (),
        settings: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.run_id = uuid4().hex
        self.effects = folder / "effects"
        self.log = folder / f"server-{self.run_id[:6]}.log"
        self._command = [sys.executable, "-m", "headway", verb, "--port", "0", "--data-dir", str(self.data_dir)]
        self._command += [*(("-A", app) if app else ()), *options]
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            RUN_VARIABLE: self.run_id,
            EFFECTS_VARIABLE: str(self.effects),
            "HEADWAY_HEARTBEAT_SECONDS": "0.5",
            "HEADWAY_LEASE_SECONDS": "2",
            "HEADWAY_CANCEL_GRACE_SECONDS": "1",
            **({"JOB_REGISTRY_PATH": registry} if registry else {}),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0
        self.starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill_group()
        if error is not None:
            error.add_note(f"the end of what the server said:\n{self.log.read_text(errors='replace')[-4000:]}")

    def spawn(self) -> None:
        """Start it, in a session of its own, and return at once."""
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1

    def start(self) -> str:
        """Start it and return its URL when it is ready."""
        self.spawn()
        return self.ready()

    def ready(self) -> str:
        """Its URL, as soon as it says so."""
        wait_until(
            lambda: READY.search(self.said()) or self.main.poll() is not None,
            what="the server to be ready",
            seconds=START_SECONDS,
        )
        found = READY.findall(self.said())
        assert found, f"it ended with {self.main.poll()}:\n{self.said()}"
        return str(found[-1])

    def count_ready(self) -> int:
        """How often it has said that it is ready, since its last start."""
        return len(READY.findall(self.said()))

    def ready_again(self, before: int) -> str:
        """Its URL, after the supervisor has started another service process; `before` counts the ready lines."""
        wait_until(lambda: self.count_ready() > before, what="it to be ready again", seconds=START_SECONDS)
        return str(READY.findall(self.said())[-1])

    def said(self) -> str:
        """What it said since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def client(self) -> Client:
        """A client of it."""
        return Client(self.ready())

    @property
    def main(self) -> subprocess.Popen[bytes]:
        """The supervisor."""
        assert self._process is not None, "it was not started"
        return self._process

    def service(self) -> psutil.Process:
        """The service process, as soon as there is one."""

        def find() -> psutil.Process | None:
            return next((p for p in self._family() if "headway.serve" in command_of(p)), None)

        found = wait_until(find, what="a service process", seconds=START_SECONDS)
        assert found is not None
        return found

    def children(self) -> list[psutil.Process]:
        """The child processes that run attempts."""
        return [p for p in self._family() if "headway.engine.embedded.child" in command_of(p)]

    def _family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.main.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def alive(self) -> list[psutil.Process]:
        """Every process that this server ever started and that still runs, orphans included."""
        mark = f"{RUN_VARIABLE}={self.run_id}".encode()
        found = []
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                if mark in Path(entry.path, "environ").read_bytes():
                    found.append(psutil.Process(int(entry.name)))
            except (OSError, psutil.NoSuchProcess):
                continue
        return found

    def kill_group(self) -> None:
        """kill -9 of the whole process group, as `kill -9 -PGID` does."""
        self.signal_group(signal.SIGKILL)
        self.main.wait(20)
        self._process = None

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor and the service process (attempts' children have groups of their own)."""
        try:
            os.killpg(self.main.pid, number)
        except ProcessLookupError:
            return

    def nothing_left(self, seconds: float = 10.0) -> None:
        """Wait until nothing that it started runs any more."""
        wait_until(lambda: not self.alive(), what=f"no process of the server {self.run_id}", seconds=seconds)

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        """End it in good order; its exit code."""
        self.main.send_signal(how)
        code = self.main.wait(seconds)
        self._process = None
        self.nothing_left()
        return code


def command_of(process: psutil.Process) -> str:
    """The command line of a process; empty when it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
