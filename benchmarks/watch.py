"""Looking at a queue that runs empty."""

from __future__ import annotations

import time
from collections.abc import Callable

_STUCK_SECONDS = 60.0


class Stuck(RuntimeError):
    """Nothing moved for a minute."""


def watch(done: Callable[[], int], total: int, every: float) -> list[tuple[float, int]]:
    """Samples until everything is done.

    Args:
        done: how many jobs have ended so far.
        total: how many there are.
        every: seconds between two looks.

    Returns:
        (seconds, jobs done), oldest first, as ``benchmarks.measure.slope`` wants them.

    Raises:
        Stuck: nothing ended for a minute.
    """
    begun = moved = time.monotonic()
    samples: list[tuple[float, int]] = []
    while True:
        now, count = time.monotonic(), done()
        if samples and count != samples[-1][1]:
            moved = now
        samples.append((now - begun, count))
        if count >= total:
            return samples
        if now - moved > _STUCK_SECONDS:
            raise Stuck(f"{count:,} of {total:,} jobs ended, and none in the last minute")
        time.sleep(every)
