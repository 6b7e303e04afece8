"""Wake-ups between processes that share a Postgres: LISTEN and NOTIFY."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import structlog

from headway.store.signals import LocalSignal

log = structlog.get_logger("headway.signal")

# Only these travel between processes; a job's own topic would cost a round trip per job.
_SHARED_TOPICS = frozenset({"work", "due", "feed", "unnumbered"})
_CHANNEL = "headway"
_RECONNECT_SECONDS = 1.0


class PostgresNotice(LocalSignal):
    """For a process that says something and goes: what was notified is sent once, at the end. It hears nothing."""

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._pending: set[str] = set()

    def notify(self, topic: str) -> None:
        """See ``Signal.notify``."""
        if topic in _SHARED_TOPICS:
            self._pending.add(topic)

    def close(self) -> None:
        """Send; a notice that is lost costs a poll."""
        if not self._pending:
            return
        try:
            with psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5) as connection:
                connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, ",".join(sorted(self._pending))))
        except psycopg.Error as error:
            log.warning("signal.notice_lost", error=str(error).strip())


class PostgresSignal(LocalSignal):
    """Adds LISTEN/NOTIFY: a listening connection and a sending one, each in a thread of its own.

    A lost connection is made again; meanwhile the pollers' nets catch what was missed.
    """

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._pending: set[str] = set()
        self._sender = 0
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
        lost = False
        while not self._closed.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5) as connection:
                    lost = False
                    body(connection)
            except psycopg.Error as error:
                # Once for each outage: what the parts say of it is enough.
                if not lost:
                    log.warning("signal.connection_lost", error=str(error).strip())
                lost = True
                self._closed.wait(_RECONNECT_SECONDS)

    def _listen(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        connection.execute(f"LISTEN {_CHANNEL}")
        while not self._closed.is_set():
            for note in connection.notifies(timeout=1.0):
                if note.pid == self._sender:
                    # Its own words, heard here when they were said: they would be one more look at the queue.
                    continue
                for topic in note.payload.split(","):
                    super().notify(topic)

    def _sending(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self._sender = connection.info.backend_pid
        while not self._closed.is_set():
            self._send.wait()
            self._send.clear()
            topics, self._pending = self._pending, set()
            if topics:
                connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, ",".join(sorted(topics))))
                # One notice serves everything that happens within a few milliseconds.
                time.sleep(0.002)
