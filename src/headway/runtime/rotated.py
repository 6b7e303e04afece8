"""The output of a process, in a file that is rotated by its size."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_LINE: Final = 65_536
_KEPT: Final = 40


class RotatedOutput:
    """Takes bytes as a pipe gives them and writes whole lines.

    Args:
        path: the file; older parts get ``.1``, ``.2`` and so on.
        max_bytes: a file that would grow beyond it is rotated first.
        backups: older parts that are kept.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._handler = _QuietHandler(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", delay=True)
        self._rest = b""
        self.last: deque[str] = deque(maxlen=_KEPT)

    def feed(self, data: bytes) -> list[str]:
        """Write what came; the lines that are complete now."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            # A program that never ends its line must not fill our memory.
            whole.append(self._rest)
            self._rest = b""
        return [self.write(line.decode(errors="replace").rstrip("\r")) for line in whole]

    def flush(self) -> list[str]:
        """Write an unended last line, when nothing more comes."""
        rest, self._rest = self._rest, b""
        return [self.write(rest.decode(errors="replace"))] if rest else []

    def write(self, line: str) -> str:
        """Write one line, and return it."""
        self.last.append(line)
        self._handler.emit(logging.LogRecord("output", logging.INFO, "", 0, line, None, None))
        return line

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        self._handler.close()


class _QuietHandler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        # A full disk loses lines of a log; it must not end what watches the processes, nor fill its own log.
        if self.stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self.stream.close()
            self.stream = None
