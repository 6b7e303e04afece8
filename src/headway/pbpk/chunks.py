"""Chunks of a population on disk.

A chunk is two files: ``chunk-START-STOP.series.npy`` (raw, so that a slice of time points can be read
without the rest) and ``chunk-START-STOP.table.npz``. Both are written aside and renamed, the table last: a
crash leaves either a whole chunk or none, and a run that is recovered simulates only what is missing.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.pbpk import errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headway.pbpk.population import ChunkResult


def series_path(directory: Path, start: int, stop: int) -> Path:
    """The file of a chunk's series."""
    return directory / f"chunk-{start:09d}-{stop:09d}.series.npy"


def table_path(directory: Path, start: int, stop: int) -> Path:
    """The file of a chunk's covariates, PK parameters and failures."""
    return directory / f"chunk-{start:09d}-{stop:09d}.table.npz"


def save_chunk(directory: Path, chunk: ChunkResult) -> int:
    """Write a chunk into ``directory``, which must exist.

    Returns:
        Bytes written.
    """
    import numpy as np

    series = series_path(directory, chunk.start, chunk.stop)
    table = table_path(directory, chunk.start, chunk.stop)
    # The process id keeps two attempts of one chunk from writing into one file.
    aside = directory / f".{series.stem}.{os.getpid()}.tmp"
    with aside.open("wb") as file:
        np.save(file, chunk.series, allow_pickle=False)
    aside.replace(series)
    with aside.open("wb") as file:
        np.savez(
            file,
            fingerprint=np.array(chunk.fingerprint),
            covariates=chunk.covariates,
            pk=chunk.pk,
            reasons=chunk.reasons,
            failures=np.array(json.dumps(chunk.failures)),
        )
    aside.replace(table)
    return series.stat().st_size + table.stat().st_size


class ChunkReader:
    """Reads a chunk in parts; nothing of its size stays in memory.

    Args:
        directory: where it was written.
        start: first individual.
        stop: one after the last.

    Raises:
        InvalidSimulation: the chunk is missing or damaged.
    """

    def __init__(self, directory: Path, start: int, stop: int) -> None:
        import numpy as np

        self._series = series_path(directory, start, stop)
        self._table = table_path(directory, start, stop)
        self.start = start
        self.stop = stop
        try:
            with self._table.open("rb") as file, np.load(file, allow_pickle=False) as table:
                self.fingerprint = str(table["fingerprint"])
                self.failures: list[tuple[int, str]] = [(int(i), str(m)) for i, m in json.loads(str(table["failures"]))]
            with self._series.open("rb") as file:
                version = np.lib.format.read_magic(file)
                shape, fortran, kind = np.lib.format.read_array_header_1_0(file)
                self._offset = file.tell()
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise errors.InvalidSimulation(f"Chunk {start} to {stop} is missing or damaged.") from error
        expected = self._offset + 4 * shape[0] * shape[1] * shape[2] if len(shape) == 3 else -1
        whole = self._series.stat().st_size == expected
        if version != (1, 0) or fortran or kind != np.float32 or not whole or shape[2] != stop - start:
            raise errors.InvalidSimulation(f"Chunk {start} to {stop} is damaged.")
        self._times = shape[1]

    def __len__(self) -> int:
        return self.stop - self.start

    def array(self, name: str) -> NDArray[Any]:
        """One of ``covariates``, ``pk`` and ``reasons``, as in ``ChunkResult``."""
        import numpy as np

        with self._table.open("rb") as file, np.load(file, allow_pickle=False) as table:
            values: NDArray[Any] = table[name]
        return values

    def times(self, output: int, first: int, last: int) -> NDArray[np.float32]:
        """Concentrations at time points ``first`` to ``last`` (exclusive), shape (last - first, n)."""
        import numpy as np

        count = len(self)
        offset = self._offset + 4 * (output * self._times + first) * count
        values = np.fromfile(self._series, dtype=np.float32, count=(last - first) * count, offset=offset)
        return values.reshape(last - first, count)


def is_complete(directory: Path, start: int, stop: int, fingerprint: str) -> bool:
    """Whether this chunk of this very population is on disk, whole."""
    try:
        return ChunkReader(directory, start, stop).fingerprint == fingerprint
    except errors.InvalidSimulation:
        return False


def remove_chunks(directory: Path) -> None:
    """Remove every chunk of ``directory``, and what a crash left half-written."""
    for pattern in ("chunk-*.series.npy", "chunk-*.table.npz", ".chunk-*.tmp"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)
