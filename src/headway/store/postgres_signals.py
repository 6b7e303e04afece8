"""Wake-ups between processes that share a Postgres: LISTEN and NOTIFY."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import structlog

from headway.store.signals import LocalSignal

log = structlog.get_logger("headway.signal")

# What travels between processes, and by which channel: who waits for one thing is not woken by all the others.
_CHANNELS: Final = {
    "work": "headway",
    "due": "headway",
    "feed": "headway",
    "unnumbered": "headway",
    "cancel": "headway_cancel",
}
_JOBS: Final = "headway_jobs"
# Said by the sequencer of jobs that have ended, in whatever process; who waits for `job:ID` hears it.
_ENDED, _JOB = "ended:", "job:"
_RECONNECT_SECONDS = 1.0
# Postgres takes less than 8,000 bytes.
_MAX_PAYLOAD: Final = 7_000


def channel_of(topic: str) -> str | None:
    """The channel by which a topic travels; None for those of one process."""
    return _JOBS if topic.startswith(_ENDED) else _CHANNELS.get(topic)


def _payloads(topics: set[str]) -> Iterator[tuple[str, str]]:
    """(channel, payload) for all topics, each payload short enough. No topic holds a newline."""
    by_channel: dict[str, list[str]] = {}
    for topic in sorted(topics):
        by_channel.setdefault(channel_of(topic) or "headway", []).append(topic)
    for channel, named in by_channel.items():
        kept: list[str] = []
        size = 0
        for topic in named:
            length = len(topic.encode()) + 1
            if kept and size + length > _MAX_PAYLOAD:
                yield channel, "\n".join(kept)
                kept, size = [], 0
            kept.append(topic)
            size += length
        yield channel, "\n".join(kept)


class PostgresNotice(LocalSignal):
    """For a process that says something and goes: what was notified is sent once, at the end. It hears nothing."""

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._pending: set[str] = set()

    def notify(self, topic: str) -> None:
        """See ``Signal.notify``."""
        if channel_of(topic) is not None:
            self._pending.add(topic)

    def close(self) -> None:
        """Send; a notice that is lost costs a poll."""
        if not self._pending:
            return
        try:
            with psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5) as connection:
                for channel, payload in _payloads(self._pending):
                    connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))
        except psycopg.Error as error:
            log.warning("signal.notice_lost", error=str(error).strip())


class PostgresSignal(LocalSignal):
    """Adds LISTEN/NOTIFY: a sending connection, and a listening one for each channel that somebody waits for.

    Each has a thread of its own, which starts when it is first needed. A lost connection is made again; meanwhile the
    pollers' nets catch what was missed.
    """

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._pending: deque[str] = deque()
        self._sender = 0
        self._send = threading.Event()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}

    def notify(self, topic: str) -> None:
        """See ``Signal.notify``."""
        super().notify(topic)
        if channel_of(topic) is not None:
            self._need("send", self._sending)
            self._pending.append(topic)
            self._send.set()

    def wake_here(self, topic: str) -> None:
        """Notify within this process alone."""
        super().notify(topic)

    def ticket(self, topic: str) -> int:
        """See ``Signal.ticket``."""
        self._listen_to(topic)
        return super().ticket(topic)

    @contextmanager
    def follow(self, topic: str) -> Iterator[None]:
        """See ``Signal.follow``."""
        self._listen_to(topic)
        with super().follow(topic):
            yield

    def close(self) -> None:
        """Stop all threads."""
        self._closed.set()
        self._send.set()
        for thread in list(self._threads.values()):
            thread.join(timeout=3)

    def _listen_to(self, topic: str) -> None:
        channel = _JOBS if topic.startswith(_JOB) else channel_of(topic)
        if channel is not None and channel not in self._threads:
            self._need(channel, lambda connection: self._listen(connection, channel))

    def _need(self, name: str, body: Callable[[psycopg.Connection[tuple[object, ...]]], None]) -> None:
        if name in self._threads:
            return
        with self._starting:
            if name in self._threads or self._closed.is_set():
                return
            thread = threading.Thread(target=self._keep, args=(body,), name=f"headway-signal-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()

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

    def _listen(self, connection: psycopg.Connection[tuple[object, ...]], channel: str) -> None:
        connection.execute(f"LISTEN {channel}")
        while not self._closed.is_set():
            for note in connection.notifies(timeout=1.0):
                topics = note.payload.split("\n")
                if channel == _JOBS:
                    topics = [_JOB + topic.removeprefix(_ENDED) for topic in topics]
                elif note.pid == self._sender:
                    # Its own words, heard here when they were said: they would be one more look at the queue.
                    continue
                for topic in topics:
                    self.wake_here(topic)

    def _sending(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self._sender = connection.info.backend_pid
        while not self._closed.is_set():
            self._send.wait()
            self._send.clear()
            topics: set[str] = set()
            while self._pending:
                topics.add(self._pending.popleft())
            if topics:
                for channel, payload in _payloads(topics):
                    connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))
                # One notice serves everything that happens within a few milliseconds.
                time.sleep(0.002)
