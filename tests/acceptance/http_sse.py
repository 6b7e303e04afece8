"""A reader of server-sent events as a program would write it, for tests."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import httpx

from tests.waiting import wait_until


@dataclass(frozen=True)
class Told:
    """One event as it came."""

    event: str
    id: str | None
    data: Any


def parse(lines: Iterator[str]) -> Iterator[Told]:
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield Told(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


class Reading:
    """Reads a stream in a thread until it ends or is left."""

    def __init__(self, client: httpx.Client, path: str, *, last_id: str | None = None) -> None:
        self.told: list[Told] = []
        self.status = 0
        self.ended = False
        self._client = client
        self._path = path
        self._headers = {} if last_id is None else {"Last-Event-ID": last_id}
        self._response: httpx.Response | None = None
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.status, what="the head of the stream")
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended and self._response is not None:
            # Closing from here would wait for the thread that reads; a shut socket ends its read.
            with contextlib.suppress(OSError):
                self._response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        try:
            with self._client.stream("GET", self._path, headers=self._headers) as response:
                self._response = response
                self.status = response.status_code
                for told in parse(response.iter_lines()):
                    self.told.append(told)
                self.ended = True
        except (httpx.HTTPError, OSError, RuntimeError):
            self.status = self.status or -1

    @property
    def transitions(self) -> list[Told]:
        return [told for told in self.told if told.id is not None]

    def until_ended(self) -> list[Told]:
        wait_until(lambda: self.ended, what="the end of the stream")
        return self.told

    def until(self, event: str, times: int = 1) -> list[Told]:
        wait_until(lambda: sum(told.event == event for told in self.told) >= times, what=f"{times} times {event}")
        return [told for told in self.told if told.event == event]


def read_all(client: httpx.Client, path: str, *, last_id: str | None = None) -> list[Told]:
    """The whole of a stream that ends by itself."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(parse(response.iter_lines()))
