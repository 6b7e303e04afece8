"""Time, randomness and ids as ports, so that clocks and faults can be simulated."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> int:
        """Wall-clock time: UTC microseconds since the epoch. May jump either way."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back and do not count a suspended machine; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for this long."""
        ...


class Ids(Protocol):
    """Where ids and random draws come from."""

    def new_id(self) -> str:
        """A UUIDv7: unique, and ordered by the time it was made."""
        ...

    def random_unit(self) -> float:
        """A random number in [0, 1)."""
        ...
