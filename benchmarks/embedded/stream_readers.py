"""Child process: many readers of the stream of all jobs, over plain sockets, that only note when each event came."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from typing import Any

from benchmarks.measure import percentile
from headway.model.times import from_rfc3339

_AT = re.compile(rb'"at":"([^"]+)"')
_CONNECTED = b": connected\n\n"
# So many connections are opened at once; a listener's queue is no part of what is measured.
_OPENING = 50


class Reader(asyncio.Protocol):
    """One connection. Delays are microseconds from an event's time to the arrival of its last byte."""

    def __init__(self, host: str, known: dict[bytes, int]) -> None:
        self.delays: list[int] = []
        self.connected = asyncio.get_running_loop().create_future()
        self.lost = False
        self._host = host
        self._known = known
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        head = f"GET /api/v1/events HTTP/1.1\r\nHost: {self._host}\r\nAccept: text/event-stream\r\n\r\n"
        transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        """Note the events that are complete."""
        now = time.time_ns() // 1_000
        self._rest += data
        if not self.connected.done():
            if _CONNECTED not in self._rest:
                return
            self.connected.set_result(None)
        *whole, self._rest = self._rest.split(b"\n\n")
        for piece in whole:
            found = _AT.search(piece)
            if found is not None:
                text = found.group(1)
                at = self._known.get(text)
                if at is None:
                    at = self._known[text] = from_rfc3339(text.decode())
                self.delays.append(now - at)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server ended the stream, which it should not."""
        self.lost = True
        if not self.connected.done():
            self.connected.set_exception(ConnectionError("the stream ended before it began"))


async def read(wanted: dict[str, Any]) -> dict[str, Any]:
    """Connect ``readers`` readers to ``host``:``port``, say so, and read until each has ``events`` or time is up.

    Args:
        wanted: those four, and ``seconds``: how long after everybody is connected.

    Returns:
        ``delivered`` of ``expected``, ``lost`` connections, ``p50``, ``p99``, ``max`` in ms, ``cpu`` seconds.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, wanted["readers"] + 200)), hard))
    loop, known = asyncio.get_running_loop(), dict[bytes, int]()
    host, port = wanted["host"], wanted["port"]
    readers: list[Reader] = []
    while len(readers) < wanted["readers"]:
        more = min(_OPENING, wanted["readers"] - len(readers))
        opened = await asyncio.gather(
            *(loop.create_connection(lambda: Reader(f"{host}:{port}", known), host, port) for _ in range(more))
        )
        await asyncio.gather(*(reader.connected for _, reader in opened))
        readers += [reader for _, reader in opened]
    print("connected", flush=True)
    cpu, ends = time.process_time(), time.monotonic() + wanted["seconds"]
    # Asked now and then: an event set for each arrival would cost the readers more than the arrivals.
    while time.monotonic() < ends and any(len(reader.delays) < wanted["events"] for reader in readers):  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    cpu = time.process_time() - cpu
    delays = [delay / 1e3 for reader in readers for delay in reader.delays]
    return {
        "delivered": len(delays),
        "expected": len(readers) * wanted["events"],
        "lost": sum(reader.lost for reader in readers),
        "p50": percentile(delays, 0.5),
        "p99": percentile(delays, 0.99),
        "max": max(delays),
        "cpu": cpu,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(read(json.loads(sys.argv[1])))))
