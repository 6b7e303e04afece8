"""The sequencer's loop, for a store that several processes share."""

from __future__ import annotations

from typing import Final

from headway.ports.store import Store

_NET_SECONDS: Final = 0.5
# Under load one pass serves many commits: each is a transaction, and what it writes it writes again.
_REST_SECONDS: Final = 0.02


class NumberingPart:
    """See ``Part``. Woken by every commit with events; one pass numbers all that were committed meanwhile."""

    name = "sequencer"
    topic: str | None = "unnumbered"
    rest_seconds = _REST_SECONDS

    def __init__(self, store: Store) -> None:
        self._store = store

    def run_once(self) -> float:
        """Number committed events; seconds until the next look."""
        return _REST_SECONDS if self._store.number_events() else _NET_SECONDS
