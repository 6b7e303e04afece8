"""How many jobs ended in each state, at a cost that does not grow with their number."""

from __future__ import annotations

import threading
from typing import Final

from headway.model.states import TERMINAL_STATES, JobState
from headway.ports.clock import Clock
from headway.ports.store import Reader, Store

# A commit may become visible so much later than the time it is stamped with.
_SETTLED_MICROSECONDS: Final = 10_000_000
_RECOUNT_SECONDS: Final = 600.0


class JobTotals:
    """Counts what ended once, and afterwards only what has ended since; counted anew now and then, because of retention.

    Args:
        store: the jobs.
        clock: of the process.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._settled: dict[JobState, int] | None = None
        self._until = -1
        self._counted_at = 0.0
        self._counting = False

    def count(self) -> None:
        """Count now; returns when it is done, or when the database did not answer."""
        self._count(self._clock.now())

    def warm(self) -> None:
        """Count now, in a thread: whoever asks first finds the counts there."""
        with self._lock:
            if self._counting:
                return
            self._counting = True
        threading.Thread(target=self._count, args=(self._clock.now(),), name="headway-totals", daemon=True).start()

    def figures(self, reader: Reader) -> dict[JobState, int] | None:
        """The counts of this moment; None while they are counted for the first time."""
        now = reader.now()
        with self._lock:
            settled, until = self._settled, self._until
            stale = self._clock.monotonic() - self._counted_at > _RECOUNT_SECONDS
            if (settled is None or stale) and not self._counting:
                self._counting = True
                threading.Thread(target=self._count, args=(now,), name="headway-totals", daemon=True).start()
        if settled is None:
            return None
        edge = now - _SETTLED_MICROSECONDS
        if edge > until:
            since = reader.ended_counts(until, edge)
            settled = {state: settled.get(state, 0) + since.get(state, 0) for state in TERMINAL_STATES}
            with self._lock:
                if self._until == until and self._settled is not None:
                    self._settled, self._until = settled, edge
            until = edge
        young = reader.ended_counts(until, now + _SETTLED_MICROSECONDS)
        return {state: settled.get(state, 0) + young.get(state, 0) for state in TERMINAL_STATES}

    def _count(self, now: int) -> None:
        edge = now - _SETTLED_MICROSECONDS
        try:
            counts = self._store.read(lambda reader: reader.ended_counts(-1, edge))
            with self._lock:
                self._settled, self._until = counts, edge
                self._counted_at = self._clock.monotonic()
        except Exception:  # noqa: BLE001 - the database is away: whoever asks next tries again
            return
        finally:
            self._counting = False
