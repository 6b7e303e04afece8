"""Requests to a supervisor, over a socket that only its user can open: a line of JSON in, lines of JSON out."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_LONGEST: Final = 65_536
_MOST_UNREAD: Final = 1_048_576
_PATH_BYTES: Final = 100
"""A socket's path has room for 107 bytes on Linux, 103 elsewhere."""


class Request:
    """One request of one connection.

    Attributes:
        body: what was asked, a JSON object.
    """

    def __init__(self, body: dict[str, Any], connection: _Connection) -> None:
        self.body = body
        self._connection = connection

    def say(self, text: str) -> None:
        """Send a line for people."""
        self._connection.send({"say": text})

    def answer(self, value: Any) -> None:
        """Send the answer, which ends the request."""
        self._connection.send({"answer": value})

    def done(self, ok: bool) -> None:
        """End the request: whether it was carried out."""
        self._connection.send({"done": ok})


class _Connection:
    def __init__(self, socket_: socket.socket) -> None:
        self.socket = socket_
        self.unread = b""
        self.unsent = b""
        self.lost = False
        socket_.setblocking(False)

    def send(self, value: dict[str, Any]) -> None:
        self.unsent += json.dumps(value).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            # Who does not read what it asked for is not waited for.
            self.lost = self.lost or len(self.unsent) > _MOST_UNREAD
        except OSError:
            self.lost, self.unsent = True, b""


class ControlServer:
    """Listens on a Unix socket.

    Args:
        path: of the socket, in a folder of the user's own; an old one there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections: list[_Connection] = []
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with _short(path) as address:
                self._listener.bind(address)
        finally:
            os.umask(before)
        self._listener.listen(8)
        self._listener.setblocking(False)
        self._selector: selectors.BaseSelector | None = None
        self._on_request: Callable[[Request], None] = lambda _: None

    def join(self, selector: selectors.BaseSelector, on_request: Callable[[Request], None]) -> None:
        """Become part of a loop, which calls the registered data of what is readable."""
        self._selector, self._on_request = selector, on_request
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def flush(self) -> None:
        """Send what could not be sent before, and forget who has gone."""
        for connection in list(self._connections):
            connection.flush()
            if connection.lost:
                self._drop(connection)

    def close(self) -> None:
        """Close everything and remove the socket."""
        for connection in list(self._connections):
            connection.socket.setblocking(True)
            connection.socket.settimeout(1.0)
            connection.flush()
            connection.socket.close()
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        connection = _Connection(accepted)
        self._connections.append(connection)
        assert self._selector is not None
        self._selector.register(accepted, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(connection.unread) > _LONGEST:
            self._drop(connection)
            return
        *lines, connection.unread = (connection.unread + data).split(b"\n")
        for line in lines:
            self._heed(line, connection)

    def _heed(self, line: bytes, connection: _Connection) -> None:
        try:
            body = json.loads(line)
        except ValueError:
            body = None
        if isinstance(body, dict):
            self._on_request(Request(body, connection))
        else:
            connection.send({"say": "expected a JSON object on one line"})
            connection.send({"done": False})

    def _drop(self, connection: _Connection) -> None:
        connection.lost = True
        if connection in self._connections:
            self._connections.remove(connection)
            assert self._selector is not None
            self._selector.unregister(connection.socket)
            connection.socket.close()


def ask(path: Path, body: dict[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
    """Send a request; what comes back, ended by ``answer`` or ``done``.

    Args:
        path: of the socket.
        body: the request.
        timeout: seconds of silence after which it is given up.

    Raises:
        ConnectionError: nobody listens there, or it went away in the middle.
        TimeoutError: it was silent for too long.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            with _short(path) as address:
                client.connect(address)
        except FileNotFoundError as error:
            raise ConnectionRefusedError(str(path)) from error
        client.sendall(json.dumps(body).encode() + b"\n")
        with client.makefile("rb") as lines:
            for line in lines:
                said: dict[str, Any] = json.loads(line)
                yield said
                if "answer" in said or "done" in said:
                    return
    raise ConnectionResetError("the supervisor went away")


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path that fits into a socket's address."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
