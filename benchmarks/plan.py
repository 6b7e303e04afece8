"""What a benchmark is told, and where it works."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import work_root


@dataclass(frozen=True)
class Plan:
    """The options of a run that all benchmarks have.

    Attributes:
        runs: how often each figure is measured.
        quick: small numbers, to see that everything works; its figures mean nothing.
    """

    runs: int = 5
    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """A count: ``full``, or ``quick`` in a quick run."""
        return quick if self.quick else full


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder on the disk that is measured, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="headway-bench-", dir=work_root(), ignore_cleanup_errors=True) as path:
        yield Path(path)


def say(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", flush=True)
