"""Large results by claim check: the row carries a reference, the bytes lie elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class BlobStore(Protocol):
    """Bytes by reference.

    A blob is written before the row that names it, so that a crash leaves at most an orphan, never a
    reference to nothing.
    """

    def put(self, data: bytes) -> str:
        """Store durably; returns the reference."""
        ...

    def get(self, ref: str) -> bytes | None:
        """The bytes, or None when they were removed."""
        ...

    def delete(self, ref: str) -> None:
        """Remove; removing what is not there is fine."""
        ...

    def refs(self) -> Iterator[tuple[str, int]]:
        """Every reference and when it was written (UTC microseconds), for the pruner's orphan sweep."""
        ...
