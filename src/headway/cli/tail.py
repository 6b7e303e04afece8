"""The ends of files that grow and are rotated."""

from __future__ import annotations

import os
import time
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BLOCK: Final = 65_536
_EVERY: Final = 0.2


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a file; none where it is not there.

    Args:
        path: of the file.
        count: at most so many.
    """
    if not count:
        return []
    try:
        with path.open("rb") as file:
            at = file.seek(0, os.SEEK_END)
            data = b""
            while at and data.count(b"\n") <= count:
                step = min(_BLOCK, at)
                at -= step
                file.seek(at)
                data = file.read(step) + data
    except OSError:
        return []
    return data.decode(errors="replace").splitlines()[-count:]


def follow_files(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """What is written to files from now on, for ever: (mark, line), across rotations.

    Args:
        files: by the mark of their lines.
    """
    grows = {mark: _Growing(path) for mark, path in files.items()}
    while True:
        found = [(mark, line) for mark, one in grows.items() for line in one.lines()]
        yield from found
        if not found:
            time.sleep(_EVERY)


class _Growing:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._file: IO[bytes] | None = self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[str]:
        if self._file is None:
            self._file = self._open()
        if self._file is None:
            return []
        # Asked before it is read: what is written to the old file before the rotation is not missed.
        rotated = self._rotated()
        data = self._rest + self._file.read()
        if rotated:
            self._file.close()
            self._file = self._open()
        *whole, self._rest = data.split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def _open(self) -> IO[bytes] | None:
        try:
            return self._path.open("rb")
        except OSError:
            return None

    def _rotated(self) -> bool:
        assert self._file is not None
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except OSError:
            return False
