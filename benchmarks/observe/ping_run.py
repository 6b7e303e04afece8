"""Child process: a client that pings a Redis until its standard input ends."""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from typing import Any

from benchmarks.measure import percentile

_EVERY_SECONDS = 0.002


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Ping ``port`` every two milliseconds; ``count``, ``p50``, ``p99`` and ``max`` in ms."""
    took = []
    with socket.create_connection(("127.0.0.1", wanted["port"])) as connection, selectors.DefaultSelector() as selector:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while not selector.select(_EVERY_SECONDS):
            begun = time.perf_counter()
            connection.sendall(b"PING\r\n")
            if connection.recv(64) != b"+PONG\r\n":
                raise SystemExit("the server did not answer a PING")
            took.append((time.perf_counter() - begun) * 1e3)
    return {"count": len(took), "p50": percentile(took, 0.5), "p99": percentile(took, 0.99), "max": max(took)}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
