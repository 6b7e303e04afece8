"""Wake-ups: within the process, and between processes that share a Postgres."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import structlog

log = structlog.get_logger("headway.signal")

# Only these travel between processes; a job's own topic would cost a round trip per job.
_SHARED_TOPICS = frozenset({"work", "due", "feed", "unnumbered"})
_CHANNEL = "headway"
_RECONNECT_SECONDS = 1.0


class _Topic:
    __slots__ = ("changed", "count", "waiters")

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.count = 0
        self.waiters = 0


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

    def forget(self, topic: str) -> None:
        """Drop a topic that was made for one waiter (a job's own)."""
        with self._lock:
            known = self._topics.get(topic)
            if known is not None and known.waiters == 0:
                del self._topics[topic]

    def close(self) -> None:
        """Nothing to let go of."""

    def _topic(self, topic: str) -> _Topic:
        known = self._topics.get(topic)
        if known is None:
            with self._lock:
                known = self._topics.setdefault(topic, _Topic())
        return known


class PostgresSignal(LocalSignal):
    """Adds LISTEN/NOTIFY: a listening connection and a sending one, each in a thread of its own.

    A lost connection is made again; meanwhile the pollers' nets catch what was missed.
    """

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._pending: set[str] = set()
        self._send = threading.Event()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(body,), name=f"headway-signal-{name}", daemon=True)
            for name, body in (("listen", self._listen), ("send", self._sending))
        ]
        for thread in self._threads:
            thread.start()

    def notify(self, topic: str) -> None:
        """See ``Signal.notify``."""
        super().notify(topic)
        if topic in _SHARED_TOPICS:
            self._pending.add(topic)
            self._send.set()

    def close(self) -> None:
        """Stop both threads."""
        self._closed.set()
        self._send.set()
        for thread in self._threads:
            thread.join(timeout=3)

    def _keep(self, body: Callable[[psycopg.Connection[tuple[object, ...]]], None]) -> None:
        while not self._closed.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5) as connection:
                    body(connection)
            except psycopg.Error as error:
                log.warning("signal.connection_lost", error=str(error).strip())
                self._closed.wait(_RECONNECT_SECONDS)

    def _listen(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        connection.execute(f"LISTEN {_CHANNEL}")
        while not self._closed.is_set():
            for note in connection.notifies(timeout=1.0):
                for topic in note.payload.split(","):
                    super().notify(topic)

    def _sending(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        while not self._closed.is_set():
            self._send.wait()
            self._send.clear()
            topics, self._pending = self._pending, set()
            if topics:
                connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, ",".join(sorted(topics))))
                # One notice serves everything that happens within a few milliseconds.
                time.sleep(0.002)
