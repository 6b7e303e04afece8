"""The handle of a publishing child process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.observe.stream import sent_ids
from benchmarks.processes import ChildFailed, environment


class Publisher:
    """Publishes the events of tasks that nobody executes; see ``publish_run``.

    Args:
        broker: its URL.
        cwd: where it runs, and where its errors go.
        multi: whether workers gather events into messages of at most ten.
        seed: of its tasks.
        beating: whether its workers send heartbeats.
        direct: whether what kombu made is written to Redis many messages at once.
    """

    def __init__(
        self,
        broker: str,
        cwd: Path,
        *,
        multi: bool = True,
        seed: int = 1,
        beating: bool = True,
        direct: bool = False,
    ) -> None:
        self._wanted = {"broker": broker, "multi": multi, "seed": seed, "beating": beating, "direct": direct}
        self._cwd = cwd
        self._log = cwd / f"publisher-{seed}.log"
        self._process: subprocess.Popen[str] | None = None
        self.seed = seed
        self.tasks = 0

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.observe.publish_run", json.dumps(self._wanted)],
                cwd=self._cwd,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self.wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, tasks: int, rate: float | None = None) -> None:
        """Begin to publish so many tasks; ``wait`` says when their last event is out."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"tasks": tasks, "rate": rate}) + "\n")
        self._process.stdin.flush()
        self.tasks += tasks

    def wait(self) -> dict[str, Any]:
        """What the child answers next."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildFailed(f"the publisher ended\n{self._log.read_text(errors='replace')[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def publish(self, tasks: int, rate: float | None = None) -> int:
        """Publish so many tasks; the number of their events, once the last one is out."""
        self.ask(tasks, rate)
        return int(self.wait()["events"])

    def ids(self, first: int = 0) -> Iterator[str]:
        """The ids of what was published from task number ``first`` on."""
        return sent_ids(self.seed, first, self.tasks - first)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def two_publishers(broker: str, cwd: Path, first_seed: int = 1) -> Iterator[Sequence[Publisher]]:
    """Two of them, as fast as can be; only one sends heartbeats, because they stand for the same workers."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Publisher(broker, cwd, seed=first_seed + number, beating=number == 0, direct=True))
            for number in range(2)
        ]
