"""What runs a part again and again, and never lets one failure end it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from headway.model.errors import HeadwayError, StoreUnavailable
from headway.ports.signal import Signal

log = structlog.get_logger("headway.runtime")


class Part(Protocol):
    """One long-running part.

    Attributes:
        name: for the log and the status.
        topic: what wakes it; None is nothing.
        rest_seconds: after a run nothing wakes it for so long (a thread that wakes for every job takes its turn of
            the interpreter away from the job).
    """

    name: str
    topic: str | None
    rest_seconds: float

    def run_once(self) -> float:
        """Do what is to do now; returns the seconds until it should be called again if no signal comes first."""
        ...


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """How a part is doing: runs so far and the last error, None when the last run was good."""

    name: str
    runs: int
    error: str | None


class Loop:
    """A thread around one part.

    Args:
        part: what to run.
        signal: wakes it on the part's topic.
        retry_seconds: pause after a run that failed.
    """

    def __init__(self, part: Part, signal: Signal, *, retry_seconds: float = 1.0) -> None:
        self._part = part
        self._signal = signal
        self._retry_seconds = retry_seconds
        self._stop = threading.Event()
        self._runs = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._loop, name=f"headway-{part.name}", daemon=True)

    def start(self) -> None:
        """Begin to run it."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End after the current run."""
        self._stop.set()
        if self._part.topic is not None:
            self._signal.notify(self._part.topic)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def status(self) -> LoopStatus:
        """How it is doing."""
        return LoopStatus(self._part.name, self._runs, self._error)

    def _loop(self) -> None:
        topic = self._part.topic
        while not self._stop.is_set():
            ticket = self._signal.ticket(topic) if topic is not None else 0
            pause = self._run()
            rest = pause if topic is None else min(pause, self._part.rest_seconds)
            if not (rest and self._stop.wait(rest)) and topic is not None:
                self._signal.wait(topic, ticket, pause - rest)

    def _run(self) -> float:
        try:
            pause = self._part.run_once()
        except HeadwayError as error:
            if self._error is None:
                log.warning("part.failed", part=self._part.name, code=error.code, error=error.message)
            self._error = error.message
            return self._retry_seconds
        except Exception as error:
            log.exception("part.failed", part=self._part.name)
            self._error = f"{type(error).__name__}: {error}"
            return self._retry_seconds
        if self._error is not None:
            log.info("part.recovered", part=self._part.name)
        self._error = None
        self._runs += 1
        return pause


Ping = Callable[[], float]


class UnbrokenConnection:
    """For how long the store has answered without a break, on the monotonic clock.

    Args:
        ping: a round trip to the store.
        monotonic: the clock.
    """

    def __init__(self, ping: Ping, monotonic: Callable[[], float]) -> None:
        self._ping = ping
        self._monotonic = monotonic
        self._since: float | None = None

    def seconds(self) -> float:
        """Ask the store now; 0.0 at the first answer after a break. Raises ``StoreUnavailable``."""
        try:
            self._ping()
        except StoreUnavailable:
            self._since = None
            raise
        now = self._monotonic()
        if self._since is None:
            self._since = now
        return now - self._since

    def broke(self) -> None:
        """Something else found the connection broken."""
        self._since = None
