"""Time and ids that a test decides."""

from __future__ import annotations

import threading
from collections.abc import Sequence

_START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


class FakeClock:
    """The ``Clock`` port under the test's hand. Both clocks stand still until they are moved.

    Args:
        now: the first wall-clock time, UTC microseconds.
    """

    def __init__(self, now: int = _START) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._monotonic = 0.0

    def now(self) -> int:
        """See ``Clock.now``."""
        return self._now

    def monotonic(self) -> float:
        """See ``Clock.monotonic``."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """See ``Clock.sleep``: returns at once, and the time has gone by."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time go by on both clocks."""
        if seconds < 0:
            raise ValueError(f"expected seconds to be 0 or more, got: {seconds}; a wall clock is set back with jump()")
        with self._lock:
            self._now += round(seconds * 1_000_000)
            self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, either way, as an administrator or NTP would; the monotonic clock goes on."""
        with self._lock:
            self._now += round(seconds * 1_000_000)


class SeqIds:
    """The ``Ids`` port in a row: UUIDv7 that count from 1, and draws that the test chose.

    Args:
        draws: what ``random_unit`` answers, again and again in this order.
    """

    def __init__(self, draws: Sequence[float] = (0.0,)) -> None:
        self._lock = threading.Lock()
        self._made = 0
        self._drawn = 0
        self._draws = tuple(draws)

    def new_id(self) -> str:
        """See ``Ids.new_id``."""
        with self._lock:
            self._made += 1
            return f"00000000-0000-7000-8000-{self._made:012x}"

    def random_unit(self) -> float:
        """See ``Ids.random_unit``."""
        with self._lock:
            self._drawn += 1
            return self._draws[(self._drawn - 1) % len(self._draws)]
