"""One process that is kept running: what it is started with, and the processes that are it at a moment."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import psutil

from headway.runtime.rotated import RotatedOutput
from headway.runtime.supervisor import FIRST_PAUSE, LONGEST_PAUSE, STEADY_AFTER, how

_PR_SET_PDEATHSIG: Final = 1
_READ: Final = 65_536
_MIB: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What one process of a fleet is.

    Attributes:
        name: of its own.
        command: its command line. The word ``{slot}`` in it becomes ``a`` or ``b``: a successor that runs beside its
            predecessor for a while has the other one.
        log: file of its output.
        environment: beside the supervisor's own.
        ready: found in the line that says that it is ready; None: as soon as it runs.
        ready_seconds: what a successor gets to become ready.
        stop_signal: asks it to end.
        stop_seconds: what it then gets before it is killed.
        pass_fds: descriptors that it inherits.
        group: the name that it shares with others like it.
        beside: whether a successor may run beside it; otherwise it is ended before.
        last: whether it is stopped, and restarted, after all others.
        facts: what a status shows of it besides.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: re.Pattern[str] | None = None
    ready_seconds: float = 60.0
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 20.0
    pass_fds: Sequence[int] = ()
    group: str = ""
    beside: bool = True
    last: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


class Instance:
    """One running process in a session of its own, which is ended whole.

    Args:
        spec: of it.
        slot: ``a`` or ``b``.
        output: where its lines go.
    """

    def __init__(self, spec: ProcessSpec, slot: str, output: RotatedOutput) -> None:
        self.slot = slot
        self.began = time.monotonic()
        self.ready = spec.ready is None
        self.ready_words = ""
        self.exit_code: int | None = None
        self.kill_at: float | None = None
        self.killed = False
        self._spec = spec
        self._output = output
        self._popen = subprocess.Popen(
            [part.replace("{slot}", slot) for part in spec.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **spec.environment},
            pass_fds=tuple(spec.pass_fds),
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs, and it does one system call
        )
        assert self._popen.stdout is not None
        self.pipe: IO[bytes] = self._popen.stdout
        os.set_blocking(self.pipe.fileno(), False)
        self.pid = self._popen.pid
        try:
            self.created = psutil.Process(self.pid).create_time()
        except psutil.Error:
            self.created = 0.0

    def read(self) -> bool:
        """Take what it said; False at the end of its output."""
        try:
            data = os.read(self.pipe.fileno(), _READ)
        except BlockingIOError:
            return True
        self._heed(self._output.feed(data) if data else self._output.flush())
        return bool(data)

    def _heed(self, lines: list[str]) -> None:
        pattern = self._spec.ready
        for line in lines:
            if not self.ready and pattern is not None and (found := pattern.search(line)):
                self.ready = True
                self.ready_words = found.group(found.lastindex or 0)

    def ask_to_end(self) -> None:
        """Send its stop signal; ``tick`` kills it when its time is over."""
        if self.kill_at is None:
            self.kill_at = time.monotonic() + self._spec.stop_seconds
            self._signal_main(self._spec.stop_signal)

    def tick(self) -> None:
        """Kill it where it did not end in its time."""
        if self.kill_at is not None and not self.killed and time.monotonic() >= self.kill_at:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to it and to all that stayed in its session."""
        self.killed = True
        self.kill_at = self.kill_at or time.monotonic()
        _signal_group(self.pid)

    def reap(self) -> bool:
        """Whether it has ended. Then nothing of its session is left, and what it said last is written."""
        if self.exit_code is not None:
            return True
        # Not waited for yet: while it is a zombie, its number is nobody else's, so that the group is still its own.
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        _signal_group(self.pid)
        self.exit_code = self._popen.wait()
        for _ in range(1024):  # a grandchild of another session may hold the pipe and write for ever
            try:
                data = os.read(self.pipe.fileno(), _READ)
            except BlockingIOError:
                break
            if not data:
                break
            self._heed(self._output.feed(data))
        self._heed(self._output.flush())
        self.pipe.close()
        return True

    def memory_mb(self) -> float | None:
        """Resident memory of it and its children, in MiB; pages that they share count more than once."""
        try:
            main = psutil.Process(self.pid)
            family = [main, *main.children(recursive=True)]
        except psutil.Error:
            return None
        total = 0
        for process in family:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return round(total / _MIB, 1)

    def _signal_main(self, number: int) -> None:
        if self.exit_code is None:
            self._popen.send_signal(number)


class Member:
    """A place in the fleet: the process that fills it now, its successor and its predecessor.

    Args:
        spec: of it.
        output: where its lines go.
    """

    def __init__(self, spec: ProcessSpec, output: RotatedOutput) -> None:
        self.spec = spec
        self.output = output
        self.wanted = True
        self.current: Instance | None = None
        self.successor: Instance | None = None
        self.predecessor: Instance | None = None
        self.restarts = 0
        self.last_exit: str | None = None
        self.unready_exits = 0
        self.next_start: float = 0.0
        self._pause = FIRST_PAUSE
        self._slot = "a"

    @property
    def instances(self) -> list[Instance]:
        """All its processes."""
        return [one for one in (self.current, self.successor, self.predecessor) if one is not None]

    @property
    def state(self) -> str:
        """``ready``, ``starting``, ``waiting`` (for its next start), ``replacing``, ``stopping`` or ``stopped``."""
        if self.current is None:
            return "waiting" if self.wanted else "stopped"
        if self.current.kill_at is not None:
            return "stopping"
        if self.successor is not None or self.predecessor is not None:
            return "replacing"
        return "ready" if self.current.ready else "starting"

    def start(self) -> Instance:
        """Start its process."""
        self.current = Instance(self.spec, self._slot, self.output)
        return self.current

    def start_successor(self) -> Instance:
        """Start the one that shall replace its process."""
        self.successor = Instance(self.spec, "b" if self._slot == "a" else "a", self.output)
        return self.successor

    def promote(self) -> None:
        """Make the successor the process of this place; the other one is asked to end."""
        assert self.successor is not None
        self.predecessor, self.current, self.successor = self.current, self.successor, None
        self._slot = self.current.slot
        if self.predecessor is not None:
            self.predecessor.ask_to_end()

    def ended(self, one: Instance) -> str | None:
        """Take note that a process has ended; how, where nobody had asked for it."""
        assert one.exit_code is not None
        said = how(one.exit_code)
        if one is self.successor:
            self.successor = None
            return said
        if one is self.predecessor:
            self.predecessor = None
            return None
        self.current = None
        if one.kill_at is not None or not self.wanted:
            return None
        self.last_exit = said
        self.unready_exits = 0 if one.ready else self.unready_exits + 1
        now = time.monotonic()
        if now - one.began > STEADY_AFTER:
            self._pause = FIRST_PAUSE
        self.next_start = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return said

    def status(self) -> dict[str, Any]:
        """What a status shows of it."""
        one = self.current
        return {
            "name": self.spec.name,
            "group": self.spec.group or self.spec.name,
            "state": self.state,
            "pid": one.pid if one else None,
            "uptime_seconds": round(time.monotonic() - one.began, 1) if one else None,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
            "memory_mb": one.memory_mb() if one else None,
            "log": str(self.spec.log),
            "ready_words": one.ready_words if one else "",
            "unready_exits": self.unready_exits,
            **self.spec.facts,
        }


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
