"""A TCP proxy on loopback that can cut connections, and can go silent as a dead cable does."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

_START_SECONDS = 10.0
_CHUNK = 1 << 16


class Proxy:
    """Passes bytes on between clients and one port; `with` starts and ends it.

    Args:
        target: the port of loopback that is behind it.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.accepted = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._passing: asyncio.Event | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._forgetting = False
        self._forgotten: list[asyncio.StreamWriter] = []
        self._ready = threading.Event()
        self._ended: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_START_SECONDS), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(_START_SECONDS)

    @property
    def open(self) -> int:
        """How many connections it passes on now."""
        return len(self._pumps)

    def cut(self) -> None:
        """End all connections at once, as a firewall does with a reset; new ones are taken.

        They have ended when this returns: what is sent afterwards does not arrive.
        """
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(_START_SECONDS)

    def forget(self) -> None:
        """End all connections on the client's side; the server is not told, as with a firewall that lost its table."""
        self._forgetting = True
        self.cut()

    def refuse(self) -> None:
        """End all connections, and every new one."""
        self._refusing = True
        self.cut()

    def take(self) -> None:
        """Undo `refuse` and `forget`: what is forgotten stays so."""
        self._refusing = self._forgetting = False

    def fall_silent(self) -> None:
        """Keep all connections and pass nothing on; new ones are taken, and nothing answers."""
        assert self._passing is not None
        self._do(self._passing.clear)

    def speak(self) -> None:
        """Undo `fall_silent`: what was sent meanwhile arrives now."""
        assert self._passing is not None
        self._do(self._passing.set)

    def _do(self, work: Any) -> None:
        done = threading.Event()

        def now() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(now)
        assert done.wait(_START_SECONDS)

    async def _cut(self) -> None:
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._passing, self._ended = asyncio.Event(), asyncio.Event()
        self._passing.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        self._forgetting = False
        for writer in self._forgotten:
            writer.transport.abort()
        while self._pumps:
            await self._cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        others: list[asyncio.StreamWriter] = [writer]
        try:
            if self._refusing:
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            others.append(far_writer)
            ways = [asyncio.ensure_future(self._pump(reader, far_writer))]
            ways.append(asyncio.ensure_future(self._pump(far_reader, writer)))
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            # Cut, or nobody is behind it: the client is told in the same way. A task that asyncio made for a connection
            # must not end as cancelled, or it says so in the log.
            pass
        finally:
            if self._forgetting:
                self._forgotten += others[1:]
                del others[1:]
            # All of them first: it may be cut once more while it waits.
            for one in others:
                one.transport.abort()
            for one in others:
                with suppress(Exception, asyncio.CancelledError):
                    await one.wait_closed()
            self._pumps.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._passing is not None
        while data := await reader.read(_CHUNK):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
