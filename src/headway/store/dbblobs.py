"""Blobs in the database, where several machines share it and no directory is everybody's."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from headway.ports.clock import Clock, Ids
from headway.store.postgres import translate
from headway.store.tables import blobs


class DatabaseBlobs:
    """The ``BlobStore`` port over the table ``blobs``; the engine commits by itself."""

    def __init__(self, engine: Engine, clock: Clock, ids: Ids) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def put(self, data: bytes) -> str:
        """See ``BlobStore.put``."""
        ref = self._ids.new_id()
        row = {"ref": ref, "data": zlib.compress(data, 1), "written_at": self._clock.now()}
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.insert(blobs).values(row))
        except sa.exc.SQLAlchemyError as error:
            raise translate(error) from error
        return ref

    def get(self, ref: str) -> bytes | None:
        """See ``BlobStore.get``."""
        try:
            with self._engine.connect() as connection:
                found = connection.execute(sa.select(blobs.c.data).where(blobs.c.ref == ref)).scalar()
        except sa.exc.SQLAlchemyError as error:
            raise translate(error) from error
        return zlib.decompress(found) if found is not None else None

    def delete(self, ref: str) -> None:
        """See ``BlobStore.delete``."""
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.delete(blobs).where(blobs.c.ref == ref))
        except sa.exc.SQLAlchemyError as error:
            raise translate(error) from error

    def refs(self) -> Iterator[tuple[str, int]]:
        """See ``BlobStore.refs``."""
        with self._engine.connect() as connection:
            yield from ((row[0], row[1]) for row in connection.execute(sa.select(blobs.c.ref, blobs.c.written_at)))
