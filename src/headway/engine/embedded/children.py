"""Warm child processes: each slot has at most one, and one that dies takes one attempt with it and nothing else."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from headway.engine.embedded.orphans import TOKEN_VARIABLE, new_token, record_child
from headway.engine.embedded.spool import read_finish, read_submit
from headway.engine.embedded.tracer import stopped
from headway.engine.embedded.wire import Wire, error_to_wire, to_wire
from headway.model.commands import Finish, NewLogLine
from headway.model.errors import HeadwayError
from headway.model.job import ErrorInfo, Progress
from headway.model.redact import mask_secrets
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from headway.engine.embedded.attempt import RunningAttempt
    from headway.engine.embedded.settings import EngineSettings
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor

_MEMORY_LOOK_SECONDS = 0.1
_EXIT_SECONDS = 2.0
_MAX_LINE = 8_000
_CHUNK = 1 << 16


class ChildFailed(Exception):
    """A child ended an attempt by ending itself, or was ended; ``error`` says how."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error.message)
        self.error = error


class ChildSlot:
    """The child of one slot: started at its first process job, kept warm, replaced when it dies.

    Only the slot's own thread calls it. That thread also started the child, which the kernel ends with that thread.

    Args:
        door: answers what tasks in the child ask.
        clock: for deadlines and log times.
        settings: the engine's.
        memory_limit: the limit of a task in MB, by its name; None where it sets none.
        on_late_errbacks: gives a finish that the child did not live to report what its errbacks send.
        log: a structlog logger.
    """

    def __init__(
        self,
        door: JobDoor,
        clock: Clock,
        settings: EngineSettings,
        memory_limit: Callable[[str], int | None],
        lost: Callable[[RunningAttempt, Finish], Finish],
        log: Any,
    ) -> None:
        self._door = door
        self._clock = clock
        self._settings = settings
        self._memory_limit = memory_limit
        self._lost = lost
        self._log = log
        self._process: _Process | None = None

    @property
    def alive(self) -> bool:
        """Whether a child is up."""
        return self._process is not None

    def run(self, run: RunningAttempt) -> Finish:
        """Run an attempt in the child, to its end or the child's."""
        run.in_child = True
        try:
            process = self._process
            if process is None:
                process = self._process = _Process(self._settings)
            run.kill = process.wake
            finish = _Conversation(process, run, self._door, self._clock, self._settings, self._limit(run)).hold()
        except ChildFailed as failed:
            self._end(kill=True)
            return self._lost(run, _ended(run, failed.error))
        except OSError as error:
            # No process could be started, or its pipe broke between two jobs.
            self._end(kill=True)
            info = ErrorInfo(code="child_not_started", message=f"No child process could be used: {error}.")
            return self._lost(run, _ended(run, info))
        finally:
            run.kill = None
        process.done += 1
        if self._settings.child_max_tasks and process.done >= self._settings.child_max_tasks:
            self._end(kill=False)
        return finish

    def close(self) -> None:
        """End the child, kindly first."""
        self._end(kill=False)

    def _limit(self, run: RunningAttempt) -> int | None:
        own = self._memory_limit(run.begun.task)
        return own if own is not None else self._settings.memory_limit_mb

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end(kill=kill)


class _Process:
    """A child process with its pipe and its outputs."""

    def __init__(self, settings: EngineSettings) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        token = new_token()
        command = [sys.executable, "-m", "headway.engine.embedded.child"]
        command += ["--fd", str(theirs.fileno()), "--parent", str(os.getpid()), "--hostname", settings.hostname]
        if settings.app_spec is not None:
            command += ["--app", settings.app_spec]
        command += [part for name in settings.imports for part in ("--import", name)]
        try:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                cwd=settings.workdir,
                env={**os.environ, **settings.environment, TOKEN_VARIABLE: token},
                # A group of its own: what its tasks start can be ended with it, and Ctrl-C goes to the parent alone.
                start_new_session=True,
            )
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
        self.wire = Wire(mine)
        self.pid = self.popen.pid
        self.record = record_child(settings.children_dir, self.pid, token)
        self.outputs = {"stdout": _Lines(self.popen.stdout), "stderr": _Lines(self.popen.stderr)}
        self.wake_end, self._waker = os.pipe()
        os.set_blocking(self.wake_end, False)
        os.set_blocking(self._waker, False)
        self.ready = False
        self.done = 0
        self._closing = threading.Lock()
        self._closed = False

    def wake(self) -> None:
        """Make the slot's thread look at its attempt's stop reason; called from other threads."""
        with self._closing:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._waker, b"!")

    def kill(self) -> None:
        """End the process and everything in its group, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self, *, kill: bool) -> None:
        """End the process: by closing its pipe first, unless it must be killed; then collect it."""
        self.wire.close()
        if not kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(_EXIT_SECONDS)
        # Also after a kind end: what its tasks started must not compute on.
        self.kill()
        self.popen.wait()
        for lines in self.outputs.values():
            lines.close()
        with self._closing:
            self._closed = True
            os.close(self.wake_end)
            os.close(self._waker)
        self.record.path.unlink(missing_ok=True)

    def resident_mb(self) -> float:
        """Resident memory in MB; 0 when the process is gone."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 1_048_576
        except psutil.Error:
            return 0.0


class _Readable(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class _Lines:
    """One output of a child, cut into lines."""

    def __init__(self, pipe: _Readable | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._rest = b""
        self.ended = False
        os.set_blocking(pipe.fileno(), False)

    def fileno(self) -> int:
        return self._pipe.fileno()

    def close(self) -> None:
        self._pipe.close()

    def read(self) -> list[str]:
        """The lines that are complete, from one read."""
        try:
            data = os.read(self.fileno(), _CHUNK)
        except BlockingIOError:
            return []
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _MAX_LINE:
            lines.append(self._rest[:_MAX_LINE])
            self._rest = self._rest[_MAX_LINE:]
        return [_text(line) for line in lines]

    def drain(self) -> list[str]:
        """Everything that is in the pipe now, an unfinished last line included."""
        found: list[str] = []
        while not self.ended:
            before = len(found), self._rest
            found += self.read()
            if (len(found), self._rest) == before:
                break
        if self._rest:
            found.append(_text(self._rest))
            self._rest = b""
        return found


class _Conversation:
    """One attempt in one child, seen from the parent: a loop over its pipe, its outputs and the clock."""

    def __init__(
        self,
        process: _Process,
        run: RunningAttempt,
        door: JobDoor,
        clock: Clock,
        settings: EngineSettings,
        limit_mb: int | None,
    ) -> None:
        self._process = process
        self._run = run
        self._door = door
        self._clock = clock
        self._settings = settings
        self._limit_mb = limit_mb
        self._told = False
        self._finish: Finish | None = None
        self._broken: ErrorInfo | None = None

    def hold(self) -> Finish:
        """Until the attempt's end. Raises ``ChildFailed`` when the child ended without reporting it."""
        self._process.wire.send("run", asdict(self._run.begun))
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.wire, selectors.EVENT_READ, "wire")
            selector.register(self._process.wake_end, selectors.EVENT_READ, "wake")
            for stream, lines in self._process.outputs.items():
                if not lines.ended:
                    selector.register(lines, selectors.EVENT_READ, stream)
            while self._finish is None:
                events = selector.select(self._stage())
                for key, _ in events:
                    self._serve(selector, key)
        self._drain()
        return self._finish

    def _serve(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        if key.data == "wake":
            with contextlib.suppress(BlockingIOError):
                os.read(self._process.wake_end, _CHUNK)
        elif key.data == "wire":
            frames, ended = self._process.wire.receive_ready()
            for frame in frames:
                self._take(frame)
            if ended and self._finish is None:
                self._fail()
        else:
            lines = self._process.outputs[key.data]
            self._write(key.data, lines.read())
            if lines.ended:
                selector.unregister(key.fileobj)

    def _stage(self) -> float | None:
        """Do what the clock and the stop reason ask for; returns the seconds until the next look."""
        run, now = self._run, self._clock.monotonic()
        if run.stop_reason is None and run.deadline is not None and now >= run.deadline:
            run.ask_to_stop("timeout")
        waits: list[float] = []
        if run.stop_reason is None:
            if run.deadline is not None:
                waits.append(run.deadline - now)
        elif run.stop_reason == "cancel" and run.stop_at is not None:
            if not self._told:
                self._told = True
                with contextlib.suppress(OSError):
                    self._process.wire.send("cancel", run.id, run.fence)
            left = run.stop_at + self._settings.cancel_grace_seconds - now
            if left <= 0:
                self._kill()
            waits.append(left)
        else:
            # Its time is over, another attempt took its place, or the engine goes down: nothing to wait for.
            self._kill()
        if self._limit_mb is not None:
            if self._process.resident_mb() > self._limit_mb:
                self._drain()
                raise ChildFailed(_memory_error(self._limit_mb))
            waits.append(_MEMORY_LOOK_SECONDS)
        return max(0.0, min(waits)) if waits else None

    def _kill(self) -> None:
        self._drain()
        raise ChildFailed(ErrorInfo(code="child_killed", message=f"The child was ended: {self._run.stop_reason}."))

    def _take(self, frame: list[Any]) -> None:
        run = self._run
        match frame:
            case ["ready", _]:
                self._process.ready = True
            case ["broken", code, message, hint]:
                self._broken = ErrorInfo(code=code, message=message, hint=hint or None)
            case ["progress", fence, done, total, message] if fence == run.fence:
                run.unread_progress = Progress(done, total, message)
                run.tell_news()
            case ["state", fence, state, meta_json] if fence == run.fence:
                run.set_custom_state(state, meta_json)
            case ["log", lines]:
                self._door.log([NewLogLine(**line) for line in lines])
            case ["request", number, verb, arguments]:
                self._request(number, verb, arguments)
            case ["finish", fence, data] if fence == run.fence:
                data["begun"] = asdict(run.begun)
                self._finish = read_finish(data)

    def _request(self, number: int, verb: str, arguments: list[Any]) -> None:
        if verb == "wait":
            # A wait must not keep this thread from the child's output, its end and the clock.
            threading.Thread(
                target=self._answer, args=(number, verb, arguments), name="headway-child-wait", daemon=True
            ).start()
        else:
            self._answer(number, verb, arguments)

    def _answer(self, number: int, verb: str, arguments: list[Any]) -> None:
        try:
            good, value = True, to_wire(self._ask_door(verb, arguments))
        except Exception as error:  # noqa: BLE001 - whatever the door says is the task's to handle
            good, value = False, error_to_wire(error)
        with contextlib.suppress(OSError):
            self._process.wire.send("reply", number, good, value)

    def _ask_door(self, verb: str, arguments: list[Any]) -> Any:
        door = self._door
        match verb, arguments:
            case "submit", [data]:
                return door.submit(read_submit(data))
            case "submit_many", [data]:
                return door.submit_many([read_submit(one) for one in data])
            case "wait", [job_id, timeout]:
                return door.wait(job_id, timeout)
            case (("get" | "result_json" | "forget" | "cancel"), [job_id]):
                return getattr(door, verb)(job_id)
        raise HeadwayError(f"A child asked for {verb!r}, which no task may do.")

    def _fail(self) -> None:
        """The pipe ended without a finish: the process is ending or gone."""
        try:
            code = self._process.popen.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.popen.wait()
        self._drain()
        if self._broken is not None:
            raise ChildFailed(self._broken)
        raise ChildFailed(_exit_error(code, ready=self._process.ready))

    def _drain(self) -> None:
        for stream, lines in self._process.outputs.items():
            self._write(stream, lines.drain())

    def _write(self, stream: str, lines: list[str]) -> None:
        if lines:
            now, run = self._clock.now(), self._run
            # The log rides along with other commits; a store that is away loses lines, never a finish.
            with contextlib.suppress(HeadwayError):
                self._door.log([NewLogLine(run.id, run.fence, now, stream, line) for line in lines])


def _ended(run: RunningAttempt, error: ErrorInfo) -> Finish:
    if run.stop_reason in {"cancel", "timeout", "drain"}:
        return stopped(run)
    begun = run.begun
    return Finish(begun.job_id, begun.fence, AttemptOutcome.FAILED, error=error, begun=begun)


def _exit_error(code: int, *, ready: bool) -> ErrorInfo:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = "The kernel kills with SIGKILL when memory runs out." if name == "SIGKILL" else None
        return ErrorInfo(code="child_crashed", message=f"The child process was ended by {name}.", hint=hint)
    if not ready:
        text = f"The child process ended with code {code} before it had loaded the application."
        return ErrorInfo(code="child_exited", message=text, hint="Its output is in the job's log.")
    hint = "Return from the task instead of leaving Python."
    return ErrorInfo(code="child_exited", message=f"The child process ended itself with code {code}.", hint=hint)


def _memory_error(limit_mb: int) -> ErrorInfo:
    return ErrorInfo(
        code="memory_limit",
        message=f"The child process used more than its limit of {limit_mb} MB.",
        hint="Raise the task's memory_limit_mb, or make the work smaller.",
    )


def _text(line: bytes) -> str:
    return mask_secrets(line.rstrip(b"\r").decode("utf-8", "backslashreplace"))[:_MAX_LINE]


def children_folder(path: Path) -> Path:
    """The folder of the children's records, made if it is not there."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
