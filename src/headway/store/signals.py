"""Wake-ups within the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Topic:
    __slots__ = ("changed", "count", "followers", "waiters")

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.count = 0
        self.waiters = 0
        self.followers = 0


class LocalSignal:
    """The ``Signal`` port within one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}

    def notify(self, topic: str) -> None:
        """See ``Signal.notify``. A topic nobody ever waited for costs one look-up."""
        known = self._topics.get(topic)
        if known is None:
            return
        with known.changed:
            known.count += 1
            if known.waiters:
                known.changed.notify_all()

    def ticket(self, topic: str) -> int:
        """See ``Signal.ticket``."""
        return self._topic(topic).count

    def wait(self, topic: str, ticket: int, timeout: float) -> bool:
        """See ``Signal.wait``."""
        known = self._topic(topic)
        with known.changed:
            known.waiters += 1
            try:
                return known.changed.wait_for(lambda: known.count != ticket, timeout)
            finally:
                known.waiters -= 1

    @contextmanager
    def follow(self, topic: str) -> Iterator[None]:
        """See ``Signal.follow``."""
        with self._lock:
            known = self._topics.setdefault(topic, _Topic())
            known.followers += 1
        try:
            yield
        finally:
            with self._lock:
                known.followers -= 1
                if known.followers == 0:
                    self._topics.pop(topic, None)

    def close(self) -> None:
        """Nothing to let go of."""

    def _topic(self, topic: str) -> _Topic:
        known = self._topics.get(topic)
        if known is None:
            with self._lock:
                known = self._topics.setdefault(topic, _Topic())
        return known
