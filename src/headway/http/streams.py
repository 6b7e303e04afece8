"""Streams of events: first what the store has, then what the tailer brings, without a gap or an overlap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headway.feed import FeedTailer, Frame, Subscription
from headway.feed.frames import event_frame, log_frame, log_pieces, progress_frame, reset_frame
from headway.http.calls import Caller
from headway.http.schemas import JobOut
from headway.model.commands import ListJobs
from headway.model.job import Event, Job
from headway.model.states import TERMINAL_STATES, VIEW
from headway.service import count_jobs, feed_bounds, get_job, list_jobs, read_events, read_logs

PAGE: Final = 500
PIECE: Final = 1 << 16
"""Characters of log sent at once, so that a slow reader gets on while it is replayed a lot."""
SNAPSHOT_JOBS: Final = 50


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reader asks for.

    Attributes:
        last_id: position of the last event it saw; None for a new reader.
        logs_after: log lines above this id; None is all of them for a new reader, none of the past for a resumed one.
        document: whether it reads the documents' spelling.
    """

    last_id: int | None
    logs_after: int | None = None
    document: bool = False


def wish_of(header: str | None, logs_after: int | None = None, *, document: bool = False) -> Wish:
    """The wish behind a ``Last-Event-ID``; one that was never ours is as old as can be, and leads to a reset."""
    last_id = None
    if header is not None and header.strip():
        digits = header.strip()
        last_id = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else -1
    return Wish(last_id, logs_after, document)


class EventStream(Response):
    """An answer of ``text/event-stream`` that ends when its source does, its reader leaves or is too slow."""

    media_type = "text/event-stream"

    def __init__(self, tailer: FeedTailer, subscription: Subscription, source: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"})
        # Not of a length: it is known when it is over.
        del self.headers["content-length"]
        self._tailer = tailer
        self._subscription = subscription
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until one of the three ends it."""
        writer = asyncio.create_task(self._write(send))
        listener = asyncio.create_task(_until_disconnect(receive))
        self._subscription.cancel_on_overflow(writer)
        try:
            await asyncio.wait({writer, listener}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._tailer.unsubscribe(self._subscription)
            for task in (writer, listener):
                task.cancel()
            results = await asyncio.gather(writer, listener, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # The head goes out at once: a reader of a quiet stream knows that it is connected.
        await send({"type": "http.response.body", "body": b": connected\n\n", "more_body": True})
        async for piece in self._source:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def job_stream(call: Caller, tailer: FeedTailer, job_id: str, wish: Wish) -> EventStream:
    """The stream of one job; it ends after the terminal event.

    Raises:
        JobNotFound: before anything is sent.
    """
    await call(get_job, job_id)
    subscription = await tailer.subscribe(job_id)
    logs_after = wish.logs_after
    if logs_after is None:
        logs_after = 0 if wish.last_id is None else subscription.log_start
    try:
        # Read after subscribing: a reset shows the job as it is at the position where the stream goes on.
        job = await call(get_job, job_id)
        reset = wish.last_id is not None and await _out_of_bounds(call, wish.last_id)
    except BaseException:
        tailer.unsubscribe(subscription)
        raise
    source = _JobSource(call, job, subscription, wish, logs_after)
    return EventStream(tailer, subscription, source.reset() if reset else source.pieces())


async def all_stream(call: Caller, tailer: FeedTailer, wish: Wish) -> EventStream:
    """The stream of all jobs: from now on, or from the last event the reader saw."""
    subscription = await tailer.subscribe()
    try:
        reset = wish.last_id is not None and await _out_of_bounds(call, wish.last_id)
    except BaseException:
        tailer.unsubscribe(subscription)
        raise
    return EventStream(tailer, subscription, _all_pieces(call, subscription, wish, reset=reset))


async def _out_of_bounds(call: Caller, last_id: int) -> bool:
    oldest, newest = await call(feed_bounds)
    return last_id < oldest or last_id > newest


class _JobSource:
    """What one reader of one job gets, in order."""

    def __init__(self, call: Caller, job: Job, subscription: Subscription, wish: Wish, logs_after: int) -> None:
        self._call = call
        self._job = job
        self._subscription = subscription
        self._wish = wish
        self._log_seen = logs_after
        self._progress = b""
        self._seen = -1 if wish.last_id is None else wish.last_id

    async def pieces(self) -> AsyncIterator[bytes]:
        """All transitions the reader has not seen, then the live ones."""
        events = await self._past()
        ended = bool(events) and events[-1].state in TERMINAL_STATES
        for event in events[:-1] if ended else events:
            if event.pos > self._seen:
                yield self._bytes(event_frame(event))
        async for piece in self._log_up_to(None if ended else self._subscription.log_start):
            yield piece
        if ended:
            if events[-1].pos > self._seen:
                yield self._bytes(event_frame(events[-1]))
            return
        progress = progress_frame(self._job)
        if progress is not None and self._job.state not in TERMINAL_STATES:
            self._progress = progress.native
            yield self._bytes(progress)
        async for piece in self._live():
            yield piece

    async def reset(self) -> AsyncIterator[bytes]:
        """The job as it is, then the live transitions."""
        self._seen = self._subscription.start
        body = to_json(JobOut.of(self._job), fallback=str, inf_nan_mode="null").decode()
        if self._wish.document:
            body = document_reset(self._job, body)
        yield reset_frame(body, pos=self._subscription.start)
        if self._job.state in TERMINAL_STATES:
            return
        async for piece in self._log_up_to(self._subscription.log_start):
            yield piece
        async for piece in self._live():
            yield piece

    async def _past(self) -> list[Event]:
        events: list[Event] = []
        after = 0
        while page := await self._call(read_events, after, PAGE, self._job.id):
            events.extend(event for event in page if event.pos <= self._subscription.start)
            after = page[-1].pos
            if len(page) < PAGE or after > self._subscription.start:
                break
        return events

    async def _live(self) -> AsyncIterator[bytes]:
        while frames := await self._subscription.take():
            parts: list[bytes] = []
            for frame in frames:
                if self._lacks_lines(frame):
                    yield b"".join(parts)
                    parts = []
                    async for piece in self._log_up_to(frame.log_id):
                        yield piece
                parts.extend(self._told(frame))
                if frame.terminal:
                    yield b"".join(parts)
                    return
            yield b"".join(parts)

    def _lacks_lines(self, frame: Frame) -> bool:
        """Whether log lines that belong before this frame's end have to be taken from the store."""
        if frame.log_id is None:
            return frame.terminal
        in_step = frame.log_after == self._log_seen and not frame.lines_left_out
        return frame.log_id > self._log_seen and not in_step

    def _told(self, frame: Frame) -> list[bytes]:
        """The frame, unless the reader has it already: a transition, lines, or a progress told just now."""
        if frame.pos is not None:
            return [self._bytes(frame)] if frame.pos > self._seen else []
        if frame.log_id is not None:
            if frame.log_id <= self._log_seen:
                return []
            self._log_seen = frame.log_id
        elif frame.job_id is not None:
            if frame.native == self._progress:
                return []
            self._progress = frame.native
        return [self._bytes(frame)]

    async def _log_up_to(self, last: int | None) -> AsyncIterator[bytes]:
        """Lines of the store above what the reader has, up to ``last`` (None is all)."""
        while last is None or self._log_seen < last:
            lines = await self._call(read_logs, self._job.id, self._log_seen, PAGE)
            wanted = [line for line in lines if last is None or line.id <= last]
            for piece in log_pieces(wanted, size=PIECE):
                self._log_seen = piece[-1].id
                yield log_frame(piece).native
                self._subscription.reads_store()
            if len(wanted) < PAGE:
                # Those that are not there any more are not waited for.
                self._log_seen = max(self._log_seen, last or 0)
                return

    def _bytes(self, frame: Frame) -> bytes:
        return frame.document if self._wish.document else frame.native


async def _all_pieces(call: Caller, subscription: Subscription, wish: Wish, *, reset: bool) -> AsyncIterator[bytes]:
    if reset:
        yield await _snapshot(call, subscription.start)
    elif wish.last_id is not None:
        after = wish.last_id
        while after < subscription.start:
            page = await call(read_events, after, PAGE)
            wanted = [event for event in page if event.pos <= subscription.start]
            if not wanted:
                break
            after = wanted[-1].pos
            yield b"".join(event_frame(event).native for event in wanted)
    seen = subscription.start if wish.last_id is None or reset else max(wish.last_id, subscription.start)
    while frames := await subscription.take():
        yield b"".join(frame.native for frame in frames if frame.pos is None or frame.pos > seen)


async def _snapshot(call: Caller, pos: int) -> bytes:
    counts = await call(count_jobs)
    page = await call(list_jobs, ListJobs(limit=SNAPSHOT_JOBS))
    body = {
        "counts": {state.value: count for state, count in counts.items()},
        "items": [JobOut.of(job) for job in page.items],
        "next_cursor": page.next_cursor,
    }
    return reset_frame(to_json(body, fallback=str, inf_nan_mode="null").decode(), pos=pos)


def document_reset(job: Job, native: str) -> str:
    """The job as answered, with the members that the documents' readers know in front."""
    known = to_json({"jobId": job.id, "status": document_status(job)}).decode()
    return f"{known[:-1]},{native[1:]}"


def document_status(job: Job) -> str:
    """The job's state in the documents' spelling."""
    return VIEW[job.state].document
