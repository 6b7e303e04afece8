"""The writer's connection, on the driver's level: SQLAlchemy makes it, and stays out of the way afterwards."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from typing import Any

from sqlalchemy.engine import Engine

from headway.store.dialects import DialectFacts
from headway.store.prepared import Cursor


class Link:
    """One open connection that begins and ends its transactions by itself.

    Args:
        engine: makes a connection that commits every statement unless told otherwise.
        facts: how the dialect is spoken.

    Attributes:
        driver: the driver's connection.
        head: the feed's last position while this connection alone gives them, None when it must be read.
    """

    def __init__(self, engine: Engine, facts: DialectFacts) -> None:
        self._pooled = engine.raw_connection()
        driver: Any = self._pooled.driver_connection
        self.driver = driver
        self._facts = facts
        self.cursor: Cursor = driver.cursor()
        self.head: int | None = None

    def begin(self) -> int | None:
        """Begin a transaction; the database's own time, UTC microseconds, where it has one."""
        cursor: Any = self.cursor
        facts = self._facts
        if facts.database_time is None:
            cursor.execute(facts.begin)
            return None
        cursor.execute(f"{facts.begin}; {facts.database_time}")
        cursor.nextset()
        return int(cursor.fetchone()[0])

    def together(self) -> AbstractContextManager[object]:
        """Inside it, statements are sent without waiting for their answers; errors are raised at its end.

        Only where statements cost a round trip.
        """
        pipeline: AbstractContextManager[object] = self.driver.pipeline()
        return pipeline

    def rollback(self) -> None:
        """Give the transaction up. Raises what the driver raises when the connection is broken."""
        self.head = None
        self.driver.rollback()

    def drop(self) -> None:
        """Throw the connection away; never raises."""
        with suppress(Exception):
            self._pooled.invalidate()
        with suppress(Exception):
            self._pooled.close()
