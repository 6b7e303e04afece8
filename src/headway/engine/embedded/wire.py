"""What parent and child say to each other: frames of JSON with a length before each, never pickles.

A frame is a list whose first item names it. From the parent: ``run``, ``reply``, ``cancel``. From the child:
``ready``, ``broken``, ``began``, ``finish``, ``progress``, ``state``, ``log`` and ``request``.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
import threading
from typing import Any

import headway.model.errors as tree
from headway.model.errors import ErrorKind, HeadwayError, InvalidRequest
from headway.model.job import Backoff, ErrorInfo, Job, Progress
from headway.model.states import JobState

_LENGTH = struct.Struct("!I")
MAX_FRAME = 2**31
_CHUNK = 1 << 16


class Wire:
    """One end of the pipe; sending is thread-safe, receiving belongs to one thread.

    Args:
        end: a connected stream socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = threading.Lock()
        self._buffer = bytearray()

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self._end.fileno()

    def send(self, *frame: Any) -> None:
        """Send a frame. Raises ``OSError`` when the other end is gone, ``ValueError`` when it is too large."""
        data = json.dumps(frame, separators=(",", ":")).encode()
        if len(data) > MAX_FRAME:
            raise ValueError(f"a frame of {len(data):,} bytes is larger than {MAX_FRAME:,}")
        with self._sending:
            self._end.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> list[Any] | None:
        """Wait for one frame; None at the end of the stream."""
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            try:
                data = self._end.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                return None
            self._buffer += data

    def receive_ready(self) -> tuple[list[list[Any]], bool]:
        """All frames that are complete without waiting, and whether the stream has ended."""
        ended = False
        try:
            while data := self._end.recv(_CHUNK, socket.MSG_DONTWAIT):
                self._buffer += data
            ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames, ended

    def close(self) -> None:
        """Let go of the socket."""
        self._end.close()

    def _take(self) -> list[Any] | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        data = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        frame: list[Any] = json.loads(data)
        return frame


def job_from_wire(data: dict[str, Any] | None) -> Job | None:
    """A job from ``dataclasses.asdict`` of it after JSON."""
    if data is None:
        return None
    data = dict(data)
    data["state"] = JobState(data["state"])
    data["backoff"] = Backoff(**data["backoff"])
    for name, kind in (("error", ErrorInfo), ("progress", Progress)):
        if data[name] is not None:
            data[name] = kind(**data[name])
    return Job(**data)


def to_wire(value: Any) -> Any:
    """Dataclasses (also inside lists) as JSON values."""
    if isinstance(value, list | tuple):
        return [to_wire(item) for item in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def error_to_wire(error: Exception) -> dict[str, Any]:
    """An error as JSON values, for the task in the child that asked."""
    if not isinstance(error, HeadwayError):
        return {"code": "internal_error", "message": f"{type(error).__name__}: {error}", "hint": "", "details": {}}
    details = json.loads(json.dumps(error.details, default=str))
    return {"code": error.code, "message": error.message, "hint": error.hint, "details": details}


def error_from_wire(data: dict[str, Any]) -> HeadwayError:
    """The same error again, by its code; one of a code that is not in the tree keeps its text."""
    kinds = {
        kind.code: kind for kind in vars(tree).values() if isinstance(kind, type) and issubclass(kind, HeadwayError)
    }
    kind = kinds.get(data["code"], InvalidRequest if data["code"] == ErrorKind.INVALID else HeadwayError)
    return kind(data["message"], hint=data["hint"], **data["details"])
