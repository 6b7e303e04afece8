"""Workers as process groups of their own, which can be stopped, killed and frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil

from tests.cluster.settings import Cluster
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
STOP_SECONDS = 30.0

Pool = Literal["prefork", "threads", "solo"]


class Worker:
    """One `celery worker` process with its pool; `with` starts it and ends all of it.

    Args:
        cluster: which cluster it works for.
        name: the part of its node name before the @; also the name of its log in the cluster's folder.
        pool: Celery's pool.
        concurrency: processes or threads of the pool; `solo` has one whatever is said.
        events: whether it sends events (-E).
        queues: the queues it takes from; none named is Celery's default queue.
        options: further options of `celery worker`.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str = "one",
        *,
        pool: Pool = "prefork",
        concurrency: int = 2,
        events: bool = True,
        queues: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        self.cluster = cluster
        self.hostname = f"{name}@cluster"
        self.log = cluster.folder / f"worker-{name}.log"
        self._log_from = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [sys.executable, "-m", "celery", "-A", "tests.cluster.app", "worker", "--loglevel", "INFO"]
        self._command += ["--hostname", self.hostname, "--pool", pool, "--concurrency", str(concurrency)]
        self._command += [*(["-E"] if events else []), *(["-Q", ",".join(queues)] if queues else []), *options]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"the end of what {self.hostname} said:\n{self.said()[-4000:]}")

    @property
    def main(self) -> subprocess.Popen[bytes]:
        """The worker's main process."""
        assert self._process is not None, f"{self.hostname} was not started"
        return self._process

    def start(self) -> None:
        """Start it, and return when it says that it is ready."""
        self.spawn()
        self.ready()

    def spawn(self) -> None:
        """Start it in a session of its own, and return at once."""
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        environment = {**os.environ, **self.cluster.environment(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.cluster.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> None:
        """Wait until it says that it takes tasks."""
        line = f"{self.hostname} ready."
        try:
            wait_until(
                lambda: line in self.said() or self.main.poll() is not None,
                what=f"{self.hostname} to be ready",
                seconds=READY_SECONDS,
                every=0.05,
            )
            assert self.main.poll() is None, f"{self.hostname} ended with {self.main.poll()}"
        except AssertionError as error:
            self.kill()
            error.add_note(self.said()[-4000:])
            raise

    def said(self) -> str:
        """What it wrote to its log since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def children(self) -> list[psutil.Process]:
        """The processes of its pool."""
        return [process for process in self._family() if process.pid != self.main.pid]

    def stop(self) -> int:
        """Warm shutdown: it ends its running tasks, then itself; its exit code."""
        family = self._family()
        self.main.send_signal(signal.SIGTERM)
        code = self.main.wait(STOP_SECONDS)
        _wait_for_end(family)
        self._process = None
        return code

    def kill(self) -> None:
        """kill -9 of the whole process group, as a power cut would end it; nothing if it does not run."""
        if self._process is None:
            return
        family = self._family()
        self._signal_group(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        _wait_for_end(family)
        self._process = None

    def kill_child(self, pid: int) -> None:
        """kill -9 of one process of the pool."""
        child = next(process for process in self.children() if process.pid == pid)
        child.kill()
        _wait_for_end([child])

    def freeze(self) -> None:
        """Stop all its processes without ending them."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.main.pid, number)
        except ProcessLookupError:
            return

    def _family(self) -> list[psutil.Process]:
        try:
            main = psutil.Process(self.main.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _wait_for_end(processes: list[psutil.Process]) -> None:
    wait_until(
        lambda: not [process.pid for process in processes if _executes(process)],
        what="a worker's processes to be gone",
        seconds=STOP_SECONDS,
    )


def _executes(process: psutil.Process) -> bool:
    # An orphan's zombie waits for init, which takes its time in some containers; it holds nothing any more.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
