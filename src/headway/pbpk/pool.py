"""Warm worker processes that simulate the chunks of a population, and how a machine's cores are shared.

The pool lives in the child process of a slot and outlasts a job, because starting a worker and compiling a model
take longer than many a population. Its workers die with it, whatever happens to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from headway.pbpk import errors

Chunk = tuple[int, int]

#: A chunk that ended its worker so often ends the population.
MAX_STRIKES: Final = 3
#: How long an idle worker is kept, and how long a busy one may finish its chunk once the job is cancelled.
IDLE_SECONDS: Final = 60.0
STOP_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.2
_EXIT_SECONDS: Final = 2.0
# One core per worker: the linear algebra inside numpy must not start threads of its own.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Worker:
    """One process; used by one thread at a time."""

    def __init__(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-m", "headway.pbpk.worker"]
        command += ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        try:
            # In the group and with the environment of this process: who ends or looks for it finds them, too.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env={**os.environ, **_ONE_THREAD}
            )
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
        self._end = mine
        self._rest = b""

    def fileno(self) -> int:
        """For a selector."""
        return self._end.fileno()

    def send(self, order: dict[str, Any]) -> None:
        """Give it an order. Raises ``OSError`` when it is gone."""
        self._end.sendall(json.dumps(order).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """Its answer, once the selector says that there is something to read; ``{}`` while it is not complete.

        Returns:
            ``None`` when the process is gone.
        """
        try:
            data = self._end.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            return None
        line, found, self._rest = (self._rest + data).partition(b"\n")
        if not found:
            self._rest = line
            return {}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self, *, kill: bool = False) -> int:
        """End it: by closing its socket, unless it must be killed. Returns its exit code."""
        self._end.close()
        if not kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(_EXIT_SECONDS)
        self.process.kill()
        return self.process.wait()


class Shares:
    """How many workers a population may use: one always, and as many more as it can lock of the machine's shares.

    The locks are files', so they are free again when their holder dies. Several populations at once therefore
    start about as many workers as there are cores, and not as many each.

    Args:
        folder: of the lock files.
        count: how many shares there are.
        wanted: how many workers the population would use at most.
    """

    def __init__(self, folder: Path, count: int, wanted: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{number}.lock" for number in range(count)]
        self._wanted = wanted
        self._held: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def allowed(self) -> int:
        """How many workers may compute now."""
        for path in self._paths:
            if 1 + len(self._held) >= self._wanted:
                break
            if path not in self._held:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(descriptor)
                else:
                    self._held[path] = descriptor
        return 1 + len(self._held)


@dataclass(frozen=True)
class Work:
    """What a pool is to do.

    Attributes:
        directory: where the population and its model lie, and where the chunks go.
        fingerprint: of the population.
        name: of the model.
        chunks: ranges of individuals.
        allowed: asked before each order: how many workers may compute.
        done: told of each chunk that is on disk.
        cancelled: asked a few times a second.
    """

    directory: Path
    fingerprint: str
    name: str
    chunks: Sequence[Chunk]
    allowed: Callable[[], int]
    done: Callable[[Chunk], None]
    cancelled: Callable[[], bool]


class WorkerPool:
    """See the module. One thread runs work; a timer ends workers that have been idle for long.

    Args:
        idle_seconds: for that long.
    """

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle: list[Worker] = []
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    @property
    def idle(self) -> list[int]:
        """Process ids of the workers that wait."""
        with self._lock:
            return [worker.process.pid for worker in self._idle]

    def run(self, work: Work) -> bool:
        """Have every chunk simulated.

        Returns:
            False if the work was cancelled: then no worker computes any more.

        Raises:
            WorkerFailed: a chunk ended its worker ``MAX_STRIKES`` times, or a worker could not write.
            PbpkError: what the library said of the model or the population.
        """
        self._stop_timer()
        run = _Run(work, self._take)
        try:
            return run.to_end()
        finally:
            for worker in run.busy:
                worker.close(kill=True)
            with self._lock:
                self._idle.extend(run.idle)
            self._start_timer()

    def close(self) -> None:
        """End every worker."""
        self._stop_timer()
        with self._lock:
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.close()

    def _take(self) -> Worker:
        with self._lock:
            return self._idle.pop() if self._idle else Worker()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(self._idle_seconds, self.close)
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class _Run:
    """One run of a pool: which chunks are left, and who computes what."""

    def __init__(self, work: Work, take: Callable[[], Worker]) -> None:
        self._work = work
        self._take = take
        self._todo = deque(work.chunks)
        self._strikes: Counter[Chunk] = Counter()
        self.busy: dict[Worker, Chunk] = {}
        self.idle: list[Worker] = []

    def to_end(self) -> bool:
        while self._todo or self.busy:
            if self._work.cancelled():
                self._wind_down()
                return False
            self._hand_out()
            self._collect(_LOOK_SECONDS)
        return True

    def _hand_out(self) -> None:
        while self._todo and len(self.busy) < self._work.allowed():
            worker = self.idle.pop() if self.idle else self._take()
            work, (start, stop) = self._work, self._todo[0]
            order = {"directory": str(work.directory), "fingerprint": work.fingerprint, "name": work.name}
            try:
                worker.send({**order, "start": start, "stop": stop})
            except OSError:
                # It died while it waited; the chunk has not been tried.
                worker.close(kill=True)
                continue
            self.busy[worker] = self._todo.popleft()

    def _collect(self, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            for worker in self.busy:
                selector.register(worker, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(seconds)]
        for worker in [worker for worker in self.busy if worker in ready]:
            answer = worker.receive()
            if answer is None:
                self._lost(worker)
            elif answer:
                self._answered(worker, answer)

    def _answered(self, worker: Worker, answer: dict[str, Any]) -> None:
        chunk = self.busy.pop(worker)
        self.idle.append(worker)
        if "error" in answer:
            raise errors.from_dict(answer["error"])
        self._work.done(chunk)

    def _lost(self, worker: Worker) -> None:
        chunk = self.busy.pop(worker)
        code = worker.close(kill=True)
        self._strikes[chunk] += 1
        if self._strikes[chunk] >= MAX_STRIKES:
            how = f"by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"with code {code}"
            raise errors.WorkerFailed(
                f"Individuals {chunk[0]} to {chunk[1]} ended their worker process {MAX_STRIKES} times, last {how}.",
                individual=chunk[0],
            )
        # Whole chunks only are on disk, so it is simply simulated again.
        self._todo.appendleft(chunk)

    def _wind_down(self) -> None:
        """Let workers finish their chunk and stay warm; those that take too long are killed by the pool."""
        ends = time.monotonic() + STOP_SECONDS
        while self.busy and (left := ends - time.monotonic()) > 0:
            self._todo.clear()
            with contextlib.suppress(errors.PbpkError):
                self._collect(left)
