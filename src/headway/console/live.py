"""The page's own stream: says at most four times a second that something changed, and not what.

The page then asks for its fragment anew, with the filter it has at that moment. A reader that was away is told at
once that something changed, so a lost connection heals without any position to remember.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headway.feed import FeedTailer, Subscription
from headway.feed.frames import KEEP_ALIVE

GATHER_SECONDS: Final = 0.25
CHANGED: Final = b"event: changed\ndata: {}\n\n"


class ChangeStream(Response):
    """Writes ``changed`` after changes, gathered, until the reader leaves or the feed closes."""

    media_type = "text/event-stream"

    def __init__(self, tailer: FeedTailer, subscription: Subscription) -> None:
        super().__init__(headers={"Cache-Control": "no-cache, no-transform"})
        del self.headers["content-length"]
        self._tailer = tailer
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the reader leaves or the feed closes."""
        writer = asyncio.create_task(self._write(send))
        listener = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait({writer, listener}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._tailer.unsubscribe(self._subscription)
            for task in (writer, listener):
                task.cancel()
            await asyncio.gather(writer, listener, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in _changes(self._subscription):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def change_stream(tailer: FeedTailer, job_id: str | None) -> ChangeStream:
    """The stream of one job's page, or of the list's.

    Args:
        tailer: the one reader of the feed.
        job_id: the page's job; None for the list.
    """
    return ChangeStream(tailer, await tailer.subscribe(job_id, latest_only=True))


async def _changes(subscription: Subscription) -> AsyncIterator[bytes]:
    yield CHANGED
    while frames := await subscription.take():
        if all(frame.job_id is None for frame in frames):
            yield KEEP_ALIVE
            continue
        yield CHANGED
        await asyncio.sleep(GATHER_SECONDS)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
