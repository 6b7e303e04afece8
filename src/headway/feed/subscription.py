"""One reader's place in the feed: what it has been given, what waits for it, and when it is too slow."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from headway.feed.frames import Frame, log_notice

MAX_WAITING_BYTES: Final = 1 << 20
LOG_SHARE: Final = 8
"""A frame of log lines fills at most this part of a queue: a reader in step is never dropped for one tick."""


class Subscription:
    """A bounded queue between the tailer and one reader. All methods belong to the event loop's thread.

    Attributes:
        job_id: the one job that is read, or None for all.
        start: every transition up to this position is read from the store, every later one arrives here.
        log_start: the job's log lines up to this one are in the store, every later one is told of here.
        latest_only: the reader wants to know that something came, not what: one frame is kept and nothing overflows.
        overflowed: the reader was too slow and lost its queue; it resumes by the last id it saw.
    """

    def __init__(
        self,
        job_id: str | None,
        *,
        start: int,
        log_start: int,
        max_bytes: int = MAX_WAITING_BYTES,
        latest_only: bool = False,
    ) -> None:
        self.job_id = job_id
        self.start = start
        self.log_start = log_start
        self.latest_only = latest_only
        self.overflowed = False
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_close: list[asyncio.Task[None]] = []

    @property
    def closed(self) -> bool:
        """Whether nothing more will arrive."""
        return self._closed

    def push(self, frame: Frame) -> None:
        """Queue a frame; over the limit the queue is dropped and the subscription closed."""
        if self._closed:
            return
        if self.latest_only and self._frames:
            if frame.job_id is None:
                return
            self._frames.clear()
            self._bytes = 0
        self._frames.append(frame)
        # Lines left out take no room, but a reader that takes nothing at all must not stay for ever.
        self._bytes += self._max_bytes // LOG_SHARE if frame.lines_left_out else len(frame.native)
        if self._bytes > self._max_bytes:
            self.overflowed = True
            self._frames.clear()
            self.close()
        else:
            self._wake()

    def reads_store(self) -> None:
        """The reader takes log lines from the store and gets on: those that wait here it will find there, too.

        So no reader is dropped for what it is replayed, and no line waits twice.
        """
        for place, frame in enumerate(self._frames):
            if frame.log_after is not None and frame.log_id is not None and frame.job_id is not None:
                self._frames[place] = log_notice(frame.job_id, after=frame.log_after, up_to=frame.log_id)
        self._bytes = sum(len(frame.native) for frame in self._frames)

    def close(self) -> None:
        """Nothing more arrives; what is queued can still be taken (nothing after an overflow)."""
        self._closed = True
        self._wake()
        # A reader that does not read holds its writer inside a send: only cancelling gets it out.
        if self.overflowed:
            for task in self._on_close:
                task.cancel()

    def cancel_on_overflow(self, task: asyncio.Task[None]) -> None:
        """Cancel this task, which writes to the reader, when the reader turns out to be too slow."""
        self._on_close.append(task)

    async def take(self) -> list[Frame]:
        """Everything that waits, at least one frame; empty when the subscription is closed and drained."""
        if not self._frames and not self._closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        frames = list(self._frames)
        self._frames.clear()
        self._bytes = 0
        return frames

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
