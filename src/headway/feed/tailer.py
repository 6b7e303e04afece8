"""The one reader of the feed for all streams: a thread that reads each event once and hands it to every reader."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from headway.feed.frames import KEEP_ALIVE, Frame, event_frame, log_frame, log_notice, progress_frame
from headway.feed.subscription import LOG_SHARE, MAX_WAITING_BYTES, Subscription
from headway.model.commands import ListJobs
from headway.model.errors import StoreUnavailable
from headway.model.job import Event, Job, Progress
from headway.model.redact import mask_secrets
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

_log = structlog.stdlib.get_logger("headway.feed")


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


def _say_so(error: Exception) -> None:
    _log.warning("feed_not_read", error=mask_secrets(repr(error)))


class FeedTailer:
    """Reads numbered events above a position, encodes each once and fans it out to bounded queues.

    One per process and event loop. It reads nothing while there are no readers.

    Args:
        store: where the events are.
        signal: wakes it on the topic ``feed``.
        on_error: told when something could not be read (the default logs it); the tailer tries again by itself.
        max_waiting_bytes: of one reader's queue, beyond which its stream is closed (and can be resumed).
    """

    def __init__(
        self,
        store: Store,
        signal: Signal,
        *,
        on_error: Callable[[Exception], None] = _say_so,
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

    async def subscribe(self, job_id: str | None = None, *, latest_only: bool = False) -> Subscription:
        """A reader's queue: every transition above ``subscription.start`` will arrive in it, in order.

        What came before is in the store: read after this call, it leaves no gap and no overlap. So it is with the
        log: frames of lines say after which line they begin, and what a reader lacks before it is in the store.

        Args:
            job_id: one job, with its progress and log; None is all jobs, with progress.
            latest_only: see ``Subscription``.

        Returns:
            The queue; closed at once when the tailer is closed. Give it back with ``unsubscribe``.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        self._loop = asyncio.get_running_loop()
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            line = 0
            if self._session is None or (job_id is not None and job_id not in self._watches):
                newest, line = await asyncio.to_thread(self._store.read, lambda reader: _newest(reader, job_id))
                # Nobody else opens one meanwhile, but the last reader of an open one may have left.
                if self._session is None:
                    self._session = _Session(newest, newest, next_keep_alive=time.monotonic() + KEEP_ALIVE_SECONDS)
            return self._admit(self._session, job_id, line, latest_only=latest_only)

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

    def _admit(self, session: _Session, job_id: str | None, line: int, *, latest_only: bool) -> Subscription:
        log_start = line
        if job_id is not None:
            watch = self._watches.setdefault(job_id, _Watch(cursor=line, delivered=line))
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
            except Exception as error:  # noqa: BLE001 - without this thread no stream would tell anything any more
                if self._loop is None or self._loop.is_closed():
                    # Nobody is left to read.
                    return
                self._on_error(error)
                self._stopping.wait(POLL_SECONDS)
                continue
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
        try:
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
        finally:
            # What was read before something failed is not read again.
            if batch and self._loop is not None:
                self._loop.call_soon_threadsafe(self._fan_out, session, batch)
        return len(events) == PAGE

    def _transition(self, event: Event, watch: _Watch | None) -> _Batch:
        """The event's frame; before a terminal one, what the job said last and nobody has been told yet."""
        if watch is None or event.state not in TERMINAL_STATES:
            return [(event_frame(event), watch)]
        batch: _Batch = []
        jobs = self._store.read(lambda reader: reader.live([event.job_id]))
        batch.extend(_progress_of(watch, jobs[0] if jobs else None))
        logs = self._logs({event.job_id: watch})
        batch.extend(_log_of(watch, logs.get(event.job_id)))
        # Without a line named, each reader looks for itself whether it has the whole log.
        batch.append((event_frame(event, log_id=watch.cursor if event.job_id in logs else None), watch))
        return batch

    def _tick(self, session: _Session, watches: dict[str, _Watch]) -> _Batch:
        """Progress of running jobs, and the log of those that have readers of their own."""
        batch: _Batch = []
        for_all = len(self._subscriptions) > sum(len(watch.readers) for watch in watches.values())

        def read(reader: Reader) -> tuple[list[Job], dict[str, Job]]:
            running: list[Job] = []
            if for_all:
                query = ListJobs(states=(JobState.RUNNING,), limit=WATCHED_JOBS)
                running = reader.list_jobs(query).items
            watched = {job.id: job for job in reader.live(list(watches)) if job.state is JobState.RUNNING}
            return running, watched

        running, watched = self._store.read(read)
        chosen = _in_turn(list(watched), session.next_tick)
        logs = self._logs({job_id: watches[job_id] for job_id in chosen}) if chosen else {}
        for job_id, job in watched.items():
            batch.extend(_progress_of(watches[job_id], job))
            batch.extend(_log_of(watches[job_id], logs.get(job_id)))
        for job in running:
            if job.progress is not None and session.progress.get(job.id) != job.progress:
                session.progress[job.id] = job.progress
                frame = progress_frame(job)
                if frame is not None:
                    batch.append((frame, None))
        session.anything_running = bool(running or watched)
        return batch

    def _logs(self, watches: dict[str, _Watch]) -> dict[str, Frame | None]:
        """What is new in the logs of these jobs, each None for nothing; a job whose log cannot be read is missing."""
        share = self._max_waiting_bytes // LOG_SHARE

        def read(reader: Reader) -> dict[str, Frame | None]:
            return {job_id: _new_lines(reader, job_id, watch.cursor, share) for job_id, watch in watches.items()}

        try:
            return self._store.read(read)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a line, it is that job's log alone
            if len(watches) == 1:
                self._on_error(error)
                return {}
        # One log that cannot be read does not silence the others.
        alone = [self._logs({job_id: watch}) for job_id, watch in watches.items()]
        return {job_id: frame for logs in alone for job_id, frame in logs.items()}


def _new_lines(reader: Reader, job_id: str, cursor: int, share: int) -> Frame | None:
    lines = reader.logs(job_id, cursor, PAGE)
    if not lines:
        return None
    if len(lines) == PAGE or sum(len(line.text) for line in lines) > share:
        # More than a tick carries: the readers are told how far the log goes, and take it from the store.
        return log_notice(job_id, after=cursor, up_to=reader.newest_log_line(job_id))
    return log_frame(lines, after=cursor)


def _log_of(watch: _Watch, frame: Frame | None) -> _Batch:
    if frame is None or frame.log_id is None:
        return []
    watch.cursor = frame.log_id
    return [(frame, watch)]


def _progress_of(watch: _Watch, job: Job | None) -> _Batch:
    if job is None or job.progress is None or job.progress == watch.progress:
        return []
    watch.progress = job.progress
    frame = progress_frame(job, to_all=False)
    return [] if frame is None else [(frame, watch)]


def _in_turn(job_ids: list[str], turn: float) -> list[str]:
    """At most so many jobs per tick, others at the next: the cost of a tick stays bounded."""
    if len(job_ids) <= WATCHED_JOBS:
        return job_ids
    first = int(turn / TICK_SECONDS) * WATCHED_JOBS % len(job_ids)
    return (job_ids + job_ids)[first : first + WATCHED_JOBS]


def _newest(reader: Reader, job_id: str | None) -> tuple[int, int]:
    """Position of the last event, and the job's last log line."""
    return reader.feed_bounds()[1], 0 if job_id is None else reader.newest_log_line(job_id)
