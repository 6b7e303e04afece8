"""Signals that come while the server's own thread is busy with what they ask for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from types import FrameType
from typing import Any

from headway.http.app import _streams_end_on_signal


class Tailer:
    """Counts; a signal finds it in the middle of itself."""

    def __init__(self) -> None:
        self.inside = False
        self.closed = 0
        self.twice = asyncio.Event()

    def close(self) -> None:
        assert not self.inside, "a handler ran into the middle of it"
        self.inside = True
        if self.closed == 0:
            # Python runs the handler of a signal to its own process before the next line.
            os.kill(os.getpid(), signal.SIGTERM)
        self.closed += 1
        if self.closed == 2:
            self.twice.set()
        self.inside = False


def test_a_second_signal_does_not_run_into_the_first() -> None:
    """Two of them are usual: Ctrl-C comes by the terminal and by whoever started the server."""
    heard: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    async def serving() -> None:
        with _streams_end_on_signal(tailer):
            os.kill(os.getpid(), signal.SIGINT)
            await tailer.twice.wait()

    tailer: Any = Tailer()
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(asyncio.wait_for(serving(), 10))
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    assert heard == [signal.SIGINT, signal.SIGTERM]
    assert tailer.closed == 2
