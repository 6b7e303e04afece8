"""The supervisor: keeps the service process alive, and ends with it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

import structlog

log = structlog.get_logger("headway.supervisor")

EXIT_REFUSED: Final = 78
"""The service cannot start like this (settings, data directory, schema): starting it again changes nothing."""
EXIT_RESTART: Final = 75
"""The service drained itself to get its lost threads back: start it again at once."""

_PR_SET_PDEATHSIG: Final = 1
FIRST_PAUSE: Final = 0.2
"""Seconds before the first start again; each further pause is twice as long."""
LONGEST_PAUSE: Final = 5.0
"""Seconds: no pause is longer."""
STEADY_AFTER: Final = 30.0
"""A process that ran for so many seconds begins with the first pause again."""
_IMPATIENT_AFTER: Final = 0.5


class Supervisor:
    """Runs one child process and starts it again when it dies.

    Args:
        command: the child's command line.
        message: what the child reads, given how often one was started before from its standard input, which then stays open: its end tells the child
            that the supervisor is gone. None: it reads nothing, and is told of the supervisor's end by a signal.
        pass_fds: descriptors the child inherits (the listening socket).
        name: for the log.
    """

    def __init__(
        self,
        command: Sequence[str],
        message: Callable[[int], bytes] | None,
        pass_fds: Sequence[int] = (),
        name: str = "service",
    ) -> None:
        self._command = list(command)
        self._message = message
        self._pass_fds = tuple(pass_fds)
        self._name = name
        self._child: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._starts = 0
        self._interrupted_at: float | None = None

    def run(self, *, signals: bool = True) -> int:
        """Supervise until the child ends in good order or somebody asks to end; returns the exit code.

        Args:
            signals: listen to signals; False in a thread, where ``end`` is called.
        """
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signals else ()
        previous = {s: signal.signal(s, self._on_signal) for s in wanted}
        pause = FIRST_PAUSE
        try:
            while True:
                began = time.monotonic()
                code = self._run_child()
                if self._asked_to_end() or code == 0:
                    return 0 if code in (0, -signal.SIGTERM, -signal.SIGINT, EXIT_RESTART) else 1
                if code == EXIT_REFUSED:
                    return 1
                if time.monotonic() - began > STEADY_AFTER:
                    pause = FIRST_PAUSE
                if code != EXIT_RESTART:
                    log.error("process.died", name=self._name, how=how(code), restart_in_seconds=pause)
                    self._sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                if self._asked_to_end():
                    return 0
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def end(self) -> None:
        """Ask the child to end, and start no other."""
        self._ending = True
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End a child that does not."""
        child = self._child
        if child is not None and child.poll() is None:
            child.kill()

    def _run_child(self) -> int:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        reads = self._message is not None
        child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
            pass_fds=self._pass_fds,
            env=environment,
            # A terminal's Ctrl-C goes to its whole group: who reads nothing is told by us alone.
            start_new_session=not reads,
            preexec_fn=None if reads else _end_with_parent,  # noqa: PLW1509 - one system call
        )
        self._child = child
        if self._ending:
            child.terminate()
        if self._message is None:
            try:
                return child.wait()
            finally:
                self._starts += 1
        assert child.stdin is not None
        try:
            child.stdin.write(self._message(self._starts) + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass
        try:
            return child.wait()
        finally:
            self._starts += 1
            child.stdin.close()

    def _asked_to_end(self) -> bool:
        # A method, because a signal handler changes it between two lines.
        return self._ending

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        child = self._child
        now = time.monotonic()
        if number == signal.SIGINT:
            first = self._interrupted_at
            if first is None:
                self._interrupted_at = now
            if first is not None and now - first > _IMPATIENT_AFTER and child is not None and child.poll() is None:
                # A second Ctrl-C: the person does not want to wait for the drain. One key press may arrive
                # twice (by the terminal and by a script around us), so it only counts after a moment.
                child.kill()
                return
        self._ending = True
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)

    def _sleep(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self._ending and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def how(code: int) -> str:
    """How a process ended, for people: its exit code, or the signal that killed it."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"


def service_command(module: str) -> list[str]:
    """The command line that runs a module with this interpreter."""
    return [sys.executable, "-m", module]
