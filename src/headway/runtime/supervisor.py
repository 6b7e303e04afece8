"""The supervisor: keeps the service process alive, and ends with it."""

from __future__ import annotations

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
            that the supervisor is gone.
        pass_fds: descriptors the child inherits (the listening socket).
    """

    def __init__(self, command: Sequence[str], message: Callable[[int], bytes], pass_fds: Sequence[int]) -> None:
        self._command = list(command)
        self._message = message
        self._pass_fds = tuple(pass_fds)
        self._child: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._starts = 0
        self._interrupted_at: float | None = None

    def run(self) -> int:
        """Supervise until the child ends in good order or a signal asks to end; returns the exit code."""
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
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
                    log.error("service.died", how=how(code), restart_in_seconds=pause)
                    self._sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                if self._asked_to_end():
                    return 0
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run_child(self) -> int:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, pass_fds=self._pass_fds, env=environment, start_new_session=False
        )
        self._child = child
        if self._ending:
            child.terminate()
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
