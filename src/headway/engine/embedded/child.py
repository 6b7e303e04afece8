"""The child process: runs attempts of ``isolation="process"`` for its parent, one at a time.

Started by ``children.py`` as ``python -m headway.engine.embedded.child``; imports only what ``-A`` names, never the
user's ``__main__``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from headway.engine.embedded.attempt import RunningAttempt
from headway.engine.embedded.wire import Wire, error_from_wire, job_from_wire, to_wire
from headway.model.commands import Begun
from headway.model.errors import HeadwayError, StoreUnavailable

if TYPE_CHECKING:
    from headway.model.commands import NewJoin, NewLogLine, SubmitJob
    from headway.model.job import Job

_PR_SET_PDEATHSIG = 1
_NEWS_SECONDS = 0.1


class _Clock:
    """The machine's clock, for log times; the parent's rules the attempt."""

    def now(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class PipeDoor:
    """What a task in a child may do with jobs: the parent's door, asked over the pipe."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._numbers = itertools.count()
        self._waiting: dict[int, queue.SimpleQueue[tuple[bool, Any]]] = {}

    def submit_many(self, commands: Sequence[SubmitJob], joins: Sequence[NewJoin] = ()) -> list[str]:
        """See ``JobDoor.submit_many``."""
        ids: list[str] = self._ask("submit_many", to_wire(list(commands)), to_wire(list(joins)))
        return ids

    def save_group(self, group_id: str, result_json: str) -> None:
        """See ``JobDoor.save_group``."""
        self._ask("save_group", group_id, result_json)

    def saved_group(self, group_id: str) -> str | None:
        """See ``JobDoor.saved_group``."""
        text: str | None = self._ask("saved_group", group_id)
        return text

    def delete_group(self, group_id: str) -> None:
        """See ``JobDoor.delete_group``."""
        self._ask("delete_group", group_id)

    def get(self, job_id: str) -> Job | None:
        """See ``JobDoor.get``."""
        return job_from_wire(self._ask("get", job_id))

    def result_json(self, job_id: str) -> str | None:
        """See ``JobDoor.result_json``."""
        text: str | None = self._ask("result_json", job_id)
        return text

    def forget(self, job_id: str) -> None:
        """See ``JobDoor.forget``."""
        self._ask("forget", job_id)

    def cancel(self, job_id: str) -> None:
        """Cancel a job (what Celery calls revoke)."""
        self._ask("cancel", job_id)

    def wait(self, job_id: str, timeout: float | None) -> Job | None:
        """See ``JobDoor.wait``."""
        return job_from_wire(self._ask("wait", job_id, timeout))

    def log(self, lines: Sequence[NewLogLine]) -> None:
        """See ``JobDoor.log``."""
        self._wire.send("log", to_wire(list(lines)))

    def answer(self, number: int, good: bool, value: Any) -> None:
        """Hand the parent's reply to the thread that waits for it."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.put((good, value))

    def _ask(self, verb: str, *arguments: Any) -> Any:
        number = next(self._numbers)
        box: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._waiting[number] = box
        try:
            self._wire.send("request", number, verb, arguments)
        except OSError as error:
            raise StoreUnavailable(f"The parent process is gone: {error}.") from error
        good, value = box.get()
        if good:
            return value
        raise error_from_wire(value)


class Child:
    """The loop of the process: the main thread runs tasks, a second one reads the pipe."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._door = PipeDoor(wire)
        self._todo: queue.SimpleQueue[Begun] = queue.SimpleQueue()
        self._current: RunningAttempt | None = None
        self._cancelled: tuple[str, int] | None = None
        self._clock = _Clock()
        self._news = threading.Event()
        self._telling = threading.Lock()
        self._told_at = 0.0

    def serve(self, app_spec: str | None, imports: Sequence[str], hostname: str) -> None:
        """Load the application, say ``ready``, run what comes. Ends only with the process."""
        # Late: these import Celery, and the parent should see a process that has set its death signal first.
        from headway.engine.embedded.attach import attach
        from headway.engine.embedded.loader import load_app, send_worker_init
        from headway.engine.embedded.tracer import Tracer

        for body in (self._read, self._tell):
            threading.Thread(target=body, name=f"headway-child-{body.__name__}", daemon=True).start()
        try:
            app = load_app(app_spec, imports=imports)
            attach(app, self._door)  # type: ignore[arg-type] # begins and beats are the parent's
            send_worker_init(app, self)
        except HeadwayError as error:
            self._wire.send("broken", error.code, error.message, error.hint)
            sys.exit(3)
        tracer = Tracer(app, hostname)
        self._wire.send("ready", os.getpid())
        while True:
            run = RunningAttempt(self._todo.get(), self._door, self._clock)  # type: ignore[arg-type]
            # The parent watches the clock: a child that holds the GIL could not.
            run.started = True
            run.on_news(self._on_news)
            self._current = run
            # From here on whatever happens to this process happened to the attempt.
            self._wire.send("began", run.fence)
            if run.key == self._cancelled:
                run.ask_to_stop("cancel")
            finish = tracer.run(run)
            self._report()
            self._current = None
            _flush()
            data = asdict(finish)
            # The parent has these already.
            data["begun"] = None
            self._wire.send("finish", run.fence, data)

    def _on_news(self) -> None:
        """Carry progress up at once, or soon: at most ten times a second, and the last one always."""
        if self._clock.monotonic() - self._told_at >= _NEWS_SECONDS:
            # In the task's own thread: what comes next may hold the interpreter for minutes.
            self._report()
        else:
            self._news.set()

    def _tell(self) -> NoReturn:
        while True:
            self._news.wait()
            self._news.clear()
            self._report()
            time.sleep(_NEWS_SECONDS)

    def _report(self) -> None:
        # The lock keeps an older value from overtaking a newer one.
        with self._telling:
            run = self._current
            if run is None:
                return
            self._told_at = self._clock.monotonic()
            progress, run.unread_progress = run.unread_progress, None
            if progress is not None:
                self._wire.send("progress", run.fence, progress.done, progress.total, progress.message)
            custom, run.unread_custom = run.unread_custom, False
            if custom:
                self._wire.send("state", run.fence, run.custom_state, run.custom_meta_json)

    def _read(self) -> NoReturn:
        while True:
            frame = self._wire.receive()
            if frame is None:
                # The parent is gone or wants this process gone; nobody would take a result.
                os._exit(0)
            match frame:
                case ["run", data]:
                    self._todo.put(Begun(**data))
                case ["reply", number, good, value]:
                    self._door.answer(number, good, value)
                case ["cancel", job_id, fence]:
                    # It may come while the application is still being loaded, before the attempt runs.
                    self._cancelled = (job_id, fence)
                    run = self._current
                    if run is not None and run.key == self._cancelled:
                        run.ask_to_stop("cancel")


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with the thread that started it, and end at once if that is too late."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _flush() -> None:
    """Everything printed is in the pipe before the finish is: Python's buffers and the C library's."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def main() -> None:
    """Read the command line that ``children.py`` writes, and serve."""
    parser = argparse.ArgumentParser(prog="headway child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--app", default=None)
    parser.add_argument("--import", dest="imports", action="append", default=[])
    parser.add_argument("--hostname", default="headway")
    options = parser.parse_args()
    _die_with(options.parent)
    # Ctrl-C in the terminal is for the parent, which ends its children in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(options.fd, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    # `python -m` puts the folder of this module's package nowhere and '' first: what -A means is the working folder.
    Child(Wire(socket.socket(fileno=options.fd))).serve(options.app, options.imports, options.hostname)


if __name__ == "__main__":
    main()
