"""One attempt in one child, from the parent's side: a loop over the pipe, the outputs and the clock."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from headway.engine.embedded.spool import read_finish, read_joins, read_submit
from headway.engine.embedded.wire import error_to_wire, to_wire
from headway.model.commands import Finish, NewLogLine
from headway.model.errors import HeadwayError
from headway.model.job import ErrorInfo

if TYPE_CHECKING:
    from headway.engine.embedded.attempt import RunningAttempt
    from headway.engine.embedded.processes import ChildProcess
    from headway.engine.embedded.settings import EngineSettings
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor

_MEMORY_LOOK_SECONDS = 0.1
_EXIT_SECONDS = 2.0
_CHUNK = 1 << 16
# A selector counts milliseconds in 32 bits: an attempt's 30 days are more than it can wait at once.
_LONGEST_WAIT_SECONDS = 3600.0


class ChildFailed(Exception):
    """A child ended an attempt by ending itself, or was ended.

    Attributes:
        error: how.
        began: whether it had begun the attempt.
    """

    def __init__(self, error: ErrorInfo, *, began: bool = True) -> None:
        super().__init__(error.message)
        self.error = error
        self.began = began


class Conversation:
    """One attempt in one child, seen from the parent: a loop over its pipe, its outputs and the clock."""

    def __init__(
        self,
        process: ChildProcess,
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
        self._began = False
        self._finish: Finish | None = None
        self._broken: ErrorInfo | None = None

    def hold(self) -> Finish:
        """Until the attempt's end. Raises ``ChildFailed`` when the child ended without reporting it."""
        try:
            self._process.wire.send("run", asdict(self._run.begun))
        except OSError:
            self._fail()
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
        return max(0.0, min(*waits, _LONGEST_WAIT_SECONDS)) if waits else None

    def _kill(self) -> None:
        self._drain()
        raise ChildFailed(ErrorInfo(code="child_killed", message=f"The child was ended: {self._run.stop_reason}."))

    def _take(self, frame: list[Any]) -> None:
        run = self._run
        match frame:
            case ["ready", _]:
                self._process.ready = True
            case ["began", fence] if fence == run.fence:
                self._began = True
            case ["broken", code, message, hint]:
                self._broken = ErrorInfo(code=code, message=message, hint=hint or None)
            case ["progress", fence, done, total, message] if fence == run.fence:
                run.progress(done, total, message)
            case ["state", fence, state, meta_json] if fence == run.fence:
                run.set_custom_state(state, meta_json)
            case ["log", lines]:
                with contextlib.suppress(HeadwayError):
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
            case "submit_many", [data, joins]:
                return door.submit_many([read_submit(one) for one in data], read_joins(joins))
            case "save_group", [group_id, result_json]:
                return door.save_group(group_id, result_json)
            case "wait", [job_id, timeout]:
                return door.wait(job_id, timeout)
            case (("get" | "result_json" | "forget" | "cancel" | "saved_group" | "delete_group"), [job_id]):
                return getattr(door, verb)(job_id)
        raise HeadwayError(f"A child asked for {verb!r}, which no task may do.")

    def _fail(self) -> NoReturn:
        """The pipe ended without a finish: the process is ending or gone."""
        try:
            code = self._process.popen.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.popen.wait()
        if self._began or not self._process.ready:
            # What a warm child said while it waited is not this job's.
            self._drain()
        if self._broken is not None:
            raise ChildFailed(self._broken)
        raise ChildFailed(_exit_error(code, ready=self._process.ready), began=self._began)

    def _drain(self) -> None:
        for stream, lines in self._process.outputs.items():
            self._write(stream, lines.drain())

    def _write(self, stream: str, lines: list[str]) -> None:
        if lines:
            now, run = self._clock.now(), self._run
            # The log rides along with other commits; a store that is away loses lines, never a finish.
            with contextlib.suppress(HeadwayError):
                self._door.log([NewLogLine(run.id, run.fence, now, stream, line) for line in lines])


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
