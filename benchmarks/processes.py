"""Processes that are measured: children that report one line of JSON, and real servers of Headway."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
_CHILD_SECONDS = 1800.0
_READY_SECONDS = 60.0
_END_SECONDS = 30.0
_OURS = ("HEADWAY_", "JOB_", "CELERY_", "POPULATION_", "SESSION_", "AUDIT_")


class ChildFailed(RuntimeError):
    """A process that was to be measured did not do its work; the text ends with what it wrote."""


def environment(**more: str) -> dict[str, str]:
    """The environment of what is measured: no settings of whoever runs the benchmarks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    path = os.pathsep.join(part for part in (str(ROOT), kept.get("PYTHONPATH")) if part)
    return {**kept, "PYTHONPATH": path, **more}


def run_child(module: str, wanted: Mapping[str, Any], cwd: Path, **variables: str) -> dict[str, Any]:
    """Run ``python -m module`` with ``wanted`` as JSON in its first argument; what its last line of output says.

    Raises:
        ChildFailed: it ended with an error.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(wanted)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=_CHILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ChildFailed(f"{module} ended with {done.returncode}\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


class HeadwayServer:
    """A ``headway`` command that serves over a data directory, on a free port, as a user starts it.

    Args:
        data_dir: its data.
        command: what stands behind ``headway``.

    Attributes:
        ready_seconds: from the start of the process to its ready line.
    """

    def __init__(self, data_dir: Path, command: Sequence[str]) -> None:
        self._data_dir = data_dir
        self._name = command[0]
        self._command = [sys.executable, "-m", "headway", *command, "--port", "0", "--data-dir", str(data_dir)]
        self._log = data_dir.parent / f"{data_dir.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.ready_seconds = 0.0

    def __enter__(self) -> Self:
        begun = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._data_dir.parent,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            self.url = self._wait_ready(self._process, begun + _READY_SECONDS)
        except BaseException:
            self._end()
            raise
        self.ready_seconds = time.monotonic() - begun
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of the supervisor, whose descendants all the others are."""
        assert self._process is not None
        return self._process.pid

    @property
    def service(self) -> psutil.Process:
        """The process that serves and works, a child of the supervisor."""
        for child in psutil.Process(self.pid).children():
            if "headway.serve" in child.cmdline():
                return child
        raise ChildFailed(f"the supervisor has no service process\n{self._last_lines()}")

    def client(self) -> httpx.Client:
        """A client of REST, which keeps its connection open."""
        return httpx.Client(base_url=f"{self.url}/api/v1", timeout=120, trust_env=False)

    def _wait_ready(self, process: subprocess.Popen[bytes], ends: float) -> str:
        assert process.stdout is not None
        written = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (left := ends - time.monotonic()) > 0:
                if not selector.select(left):
                    break
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    break
                written += piece
                for line in written.decode(errors="replace").splitlines():
                    if line.startswith("Headway is ready at "):
                        return line.removeprefix("Headway is ready at ").strip()
        raise ChildFailed(f"`headway {self._name}` did not become ready\n{self._last_lines()}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def _last_lines(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


class HeadwayUp(HeadwayServer):
    """``headway up``.

    Args:
        data_dir: its data.
        app: the value of ``-A``; None is Headway's own tasks.
        workers: jobs at a time.
    """

    def __init__(self, data_dir: Path, *, app: str | None = None, workers: int = 2) -> None:
        super().__init__(data_dir, ["up", "--workers", str(workers), *(["-A", app] if app else [])])


class HeadwayObserve(HeadwayServer):
    """``headway observe`` with its defaults.

    Args:
        data_dir: its data.
        broker: URL of the broker.
        results: URL of the result backend; None is none.
    """

    def __init__(self, data_dir: Path, broker: str, results: str | None = None) -> None:
        super().__init__(data_dir, ["observe", "--broker", broker, *(["--result-backend", results] if results else [])])
