"""The one reader of the feed for all streams: a thread that reads each event once and hands it to every reader."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from headway.feed.frames import KEEP_ALIVE, Frame, event_frame, log_frame, progress_frame
from headway.feed.subscription import MAX_WAITING_BYTES, Subscription
from headway.model.commands import ListJobs
from headway.model.errors import HeadwayError
from headway.model.job import Event, Job, LogLine, Progress
from headway.model.states import TERMINAL_STATES, JobState
from headway.ports.signal import Signal
from headway.ports.store import Reader, Store

FEED: Final = "feed"
PAGE: Final = 500
# Readers get progress at most this often (4/s).
TICK_SECONDS: Final = 0.25
# What a lost wake-up costs; never an event.
POLL_SECONDS: Final = 1.0
# Events of a burst are read together; too short for a person or a program to notice.
GATHER_SECONDS: Final = 0.01
KEEP_ALIVE_SECONDS: Final = 15.0
# Running jobs whose progress is looked up per tick for readers of all jobs, and whose logs for their own readers.
WATCHED_JOBS: Final = 100
LAST_LOG_LINES: Final = 5_000


@dataclass(slots=True, eq=False)
class _Watch:
    """The readers of one job. ``cursor`` and ``progress`` belong to the thread, the rest to the event loop."""

    cursor: int
    delivered: int
    progress: Progress | None = None
    readers: set[Subscription] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Session:
    """The time from the first reader's coming to the last one's leaving.

    What the thread of an earlier session still hands over is known by the identity of this object, and dropped.
    """

    pos: int
    delivered: int
    progress: dict[str, Progress] = field(default_factory=dict)
    last_read: float = 0.0
    next_tick: float = 0.0
    next_keep_alive: float = 0.0
    anything_running: bool = True


_Batch = list[tuple[Frame, _Watch | None]]


class FeedTailer:
    """Reads numbered events above a position, encodes each once and fans it out to bounded queues.

    One per process and event loop. It reads nothing while there are no readers.

    Args:
        store: where the events are.
        signal: wakes it on the topic ``feed``.
        on_error: told when the store did not answer; the tailer tries again by itself.
        max_waiting_bytes: of one reader's queue, beyond which its stream is closed (and can be resumed).
    """

    def __init__(
        self,
        store: Store,
        signal: Signal,
        *,
        on_error: Callable[[HeadwayError], None] = lambda _: None,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._store = store
        self._signal = signal
        self._on_error = on_error
        self._max_waiting_bytes = max_waiting_bytes
        self._subscriptions: set[Subscription] = set()
        self._watches: dict[str, _Watch] = {}
        self._session: _Session | None = None
        self._opening: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._has_readers = threading.Event()
        self._stopping = threading.Event()

    # ------------------------------------------------------------------------------------------- event loop's side

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return len(self._subscriptions)

    async def subscribe(
        self, job_id: str | None = None, *, log_after: int = 0, latest_only: bool = False
    ) -> Subscription:
        """A reader's queue: every transition above ``subscription.start`` will arrive in it, in order.

        What came before is in the store: read after this call, it leaves no gap and no overlap.

        Args:
            job_id: one job, with its progress and log; None is all jobs, with progress.
            log_after: the job's log lines above this id are wanted; those above ``subscription.log_start``
                arrive, those between the two are in the store.
            latest_only: see ``Subscription``.

        Returns:
            The queue; closed at once when the tailer is closed. Give it back with ``unsubscribe``.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        self._loop = asyncio.get_running_loop()
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._session is None:
                newest = await asyncio.to_thread(self._store.read, _newest)
                self._session = _Session(newest, newest, next_keep_alive=time.monotonic() + KEEP_ALIVE_SECONDS)
            return self._admit(self._session, job_id, log_after, latest_only=latest_only)

    def unsubscribe(self, subscription: Subscription) -> None:
        """The reader is gone."""
        self._subscriptions.discard(subscription)
        watch = self._watches.get(subscription.job_id or "")
        if watch is not None:
            watch.readers.discard(subscription)
            if not watch.readers:
                self._watches.pop(subscription.job_id or "")
        if not self._subscriptions:
            self._session = None
            self._has_readers.clear()

    def close(self) -> None:
        """End all streams (each can be resumed) and the thread. May be called from any thread, more than once."""
        self._stopping.set()
        self._has_readers.set()
        self._signal.notify(FEED)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close_streams)

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended; whether it did."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _admit(self, session: _Session, job_id: str | None, log_after: int, *, latest_only: bool) -> Subscription:
        log_start = log_after
        if job_id is not None:
            watch = self._watches.setdefault(job_id, _Watch(cursor=log_after, delivered=log_after))
            log_start = watch.delivered
        subscription = Subscription(
            job_id,
            start=session.delivered,
            log_start=log_start,
            max_bytes=self._max_waiting_bytes,
            latest_only=latest_only,
        )
        if job_id is not None:
            watch.readers.add(subscription)
        self._subscriptions.add(subscription)
        session.anything_running = True
        if self._stopping.is_set():
            subscription.close()
            return subscription
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headway-feed", daemon=True)
            self._thread.start()
        self._has_readers.set()
        # A quiet thread learns of its new reader now, not at its next poll.
        self._signal.notify(FEED)
        return subscription

    def _close_streams(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()

    def _fan_out(self, session: _Session, batch: _Batch) -> None:
        if session is not self._session:
            return
        everybody = [reader for reader in self._subscriptions if reader.job_id is None]
        for frame, watch in batch:
            if frame.job_id is None:
                for reader in self._subscriptions:
                    reader.push(frame)
                continue
            if frame.pos is not None:
                session.delivered = frame.pos
                watch = self._watches.get(frame.job_id)  # noqa: PLW2901 - transitions go to whoever reads the job by now
            if frame.log_id is not None and watch is not None:
                watch.delivered = max(watch.delivered, frame.log_id)
            for reader in watch.readers if watch is not None else ():
                reader.push(frame)
            for reader in everybody if frame.to_all else ():
                reader.push(frame)

    # ----------------------------------------------------------------------------------------------- thread's side

    def _run(self) -> None:
        while not self._stopping.is_set():
            session = self._session
            if session is None:
                self._has_readers.wait()
                continue
            ticket = self._signal.ticket(FEED)
            try:
                more = self._step(session)
            except HeadwayError as error:
                self._on_error(error)
                self._stopping.wait(POLL_SECONDS)
                continue
            except RuntimeError:
                # The event loop was closed under us: nobody is left to read.
                return
            if not more:
                pause = TICK_SECONDS if session.anything_running else POLL_SECONDS
                self._signal.wait(FEED, ticket, pause)
                # The first event of a burst is not held up, only what follows close on it.
                early = session.last_read + GATHER_SECONDS - time.monotonic()
                if early > 0:
                    self._stopping.wait(early)

    def _step(self, session: _Session) -> bool:
        """Read what is new and hand it over; whether there may be more at once."""
        session.last_read = now = time.monotonic()
        watches = dict(self._watches)
        batch: _Batch = []
        events = self._store.read(lambda reader: reader.events(session.pos, PAGE))
        for event in events:
            batch.extend(self._transition(event, watches.get(event.job_id)))
            session.pos = event.pos
            if event.state in TERMINAL_STATES:
                session.progress.pop(event.job_id, None)
        if events:
            session.anything_running = True
        if session.anything_running and now >= session.next_tick:
            session.next_tick = now + TICK_SECONDS
            batch.extend(self._tick(session, watches))
        if now >= session.next_keep_alive:
            session.next_keep_alive = now + KEEP_ALIVE_SECONDS
            batch.append((Frame(KEEP_ALIVE, KEEP_ALIVE), None))
        if batch and self._loop is not None:
            self._loop.call_soon_threadsafe(self._fan_out, session, batch)
        return len(events) == PAGE

    def _transition(self, event: Event, watch: _Watch | None) -> _Batch:
        """The event's frame; before a terminal one, what the job said last and nobody has been told yet."""
        if watch is None or event.state not in TERMINAL_STATES:
            return [(event_frame(event), watch)]
        batch: _Batch = []
        lines = self._store.read(lambda reader: reader.logs(event.job_id, watch.cursor, LAST_LOG_LINES))
        jobs = self._store.read(lambda reader: reader.live([event.job_id]))
        batch.extend(_news_of(watch, jobs[0] if jobs else None, lines))
        batch.append((event_frame(event, log_id=watch.cursor), watch))
        return batch

    def _tick(self, session: _Session, watches: dict[str, _Watch]) -> _Batch:
        """Progress of running jobs, and the log of those that have readers of their own."""
        batch: _Batch = []
        for_all = len(self._subscriptions) > sum(len(watch.readers) for watch in watches.values())

        def read(reader: Reader) -> tuple[list[Job], dict[str, Job], dict[str, list[LogLine]]]:
            running: list[Job] = []
            if for_all:
                query = ListJobs(states=(JobState.RUNNING,), limit=WATCHED_JOBS)
                running = reader.list_jobs(query).items
            watched = {job.id: job for job in reader.live(list(watches)) if job.state is JobState.RUNNING}
            chosen = _in_turn(list(watched), session.next_tick)
            logs = {job_id: reader.logs(job_id, watches[job_id].cursor, PAGE) for job_id in chosen}
            return running, watched, logs

        running, watched, logs = self._store.read(read)
        for job_id, job in watched.items():
            batch.extend(_news_of(watches[job_id], job, logs.get(job_id, []), to_all=False))
        for job in running:
            if job.progress is not None and session.progress.get(job.id) != job.progress:
                session.progress[job.id] = job.progress
                frame = progress_frame(job)
                if frame is not None:
                    batch.append((frame, None))
        session.anything_running = bool(running or watched)
        return batch


def _news_of(watch: _Watch, job: Job | None, lines: list[LogLine], *, to_all: bool = False) -> _Batch:
    batch: _Batch = []
    if job is not None and job.progress is not None and job.progress != watch.progress:
        watch.progress = job.progress
        frame = progress_frame(job, to_all=to_all)
        if frame is not None:
            batch.append((frame, watch))
    if lines:
        watch.cursor = lines[-1].id
        batch.append((log_frame(lines), watch))
    return batch


def _in_turn(job_ids: list[str], turn: float) -> list[str]:
    """At most so many jobs per tick, others at the next: the cost of a tick stays bounded."""
    if len(job_ids) <= WATCHED_JOBS:
        return job_ids
    first = int(turn / TICK_SECONDS) * WATCHED_JOBS % len(job_ids)
    return (job_ids + job_ids)[first : first + WATCHED_JOBS]


def _newest(reader: Reader) -> int:
    return reader.feed_bounds()[1]
