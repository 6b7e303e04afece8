"""The machine's own clock and randomness, behind the ports."""

from __future__ import annotations

import os
import secrets
import threading
import time


class SystemClock:
    """Wall clock and CLOCK_MONOTONIC, which on Linux stands still while the machine sleeps."""

    def now(self) -> int:
        """See ``Clock.now``."""
        return time.time_ns() // 1_000

    # The functions themselves: they are asked several times for every job.
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


class SystemIds:
    """UUIDv7 (RFC 9562, method 1: a counter in the 12 bits after the milliseconds keeps ids of one process in order)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new_id(self) -> str:
        """See ``Ids.new_id``."""
        stamp = (time.time_ns() // 1_000_000) << 12
        with self._lock:
            # Ids made in one millisecond count on; a clock that steps back does not bring ids back.
            self._last = stamp = max(stamp, self._last + 1)
        tail = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
        value = ((stamp >> 12) << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | (0x2 << 62) | tail
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def random_unit(self) -> float:
        """See ``Ids.random_unit``."""
        return secrets.randbits(53) / (1 << 53)
