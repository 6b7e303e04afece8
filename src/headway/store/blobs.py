"""Blobs as files of the data directory, compressed."""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from headway.model.errors import StorageFull, StoreUnavailable
from headway.ports.clock import Ids

_STALE_MICROSECONDS = 3_600_000_000
_REF = re.compile(r"^[0-9a-f-]{36}$")


class FileBlobs:
    """The ``BlobStore`` port over a directory: two characters of the reference are the folder.

    A file is written beside its place, synced and renamed, so that a reference never names half a blob.
    """

    def __init__(self, root: Path, ids: Ids) -> None:
        self._root = root
        self._ids = ids

    def put(self, data: bytes) -> str:
        """See ``BlobStore.put``."""
        ref = self._ids.new_id()
        path = self._path(ref)
        half = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                file.write(zlib.compress(data, 1))
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with suppress(OSError):
                half.unlink(missing_ok=True)
            full = error.errno in (28, 122)  # ENOSPC, EDQUOT
            raise (StorageFull if full else StoreUnavailable)(f"a result could not be written: {error}") from error
        return ref

    def get(self, ref: str) -> bytes | None:
        """See ``BlobStore.get``."""
        try:
            return zlib.decompress(self._path(ref).read_bytes())
        except FileNotFoundError:
            return None

    def delete(self, ref: str) -> None:
        """See ``BlobStore.delete``."""
        self._path(ref).unlink(missing_ok=True)

    def refs(self) -> Iterator[tuple[str, int]]:
        """See ``BlobStore.refs``."""
        for path in self._root.glob("??/*"):
            try:
                written_at = int(path.stat().st_mtime * 1_000_000)
            except FileNotFoundError:
                # Deleted since it was listed.
                continue
            if _REF.match(path.name):
                yield path.name, written_at
            elif path.suffix == ".part" and written_at < time.time_ns() // 1_000 - _STALE_MICROSECONDS:
                # Half a blob of a process that died while it wrote.
                path.unlink(missing_ok=True)

    def _path(self, ref: str) -> Path:
        if not _REF.match(ref):
            raise AssertionError(f"expected a blob reference, got: {ref!r}")
        return self._root / ref[-2:] / ref
