"""Connections for reading: the driver's own for a look-up, SQLAlchemy's for what is put together from filters."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection

from headway.model.errors import HeadwayError
from headway.store.prepared import Prepared

_KEPT = 4


class LookUps:
    """Idle driver connections. Taking one costs a hundredth of what a pool with all its events costs.

    Args:
        engine: opens them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[PoolProxiedConnection] = deque()

    def take(self) -> tuple[PoolProxiedConnection, bool]:
        """One, and whether it was idle before. Raises what the driver raises."""
        try:
            return self._idle.pop(), True
        except IndexError:
            connection = self._engine.raw_connection()
            # It lives as long as the store and must not use up the pool's places.
            connection.detach()
            return connection, False

    def give_back(self, connection: PoolProxiedConnection) -> None:
        """For the next look-up."""
        if len(self._idle) < _KEPT:
            self._idle.append(connection)
        else:
            self.drop(connection)

    def drop(self, connection: PoolProxiedConnection) -> None:
        """Throw it away; never raises."""
        with suppress(Exception):
            connection.close()

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self.drop(self._idle.pop())


class Access:
    """What one read may use; each kind of connection is taken when it is first needed.

    Args:
        engine: for statements of SQLAlchemy.
        look_ups: for prepared ones.
    """

    def __init__(self, engine: Engine, look_ups: LookUps) -> None:
        self._engine = engine
        self._look_ups = look_ups
        self._connection: Connection | None = None
        self._plain: PoolProxiedConnection | None = None

    @property
    def connection(self) -> Connection:
        """SQLAlchemy's."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def rows(self, statement: Prepared, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """What a prepared statement returns; asked anew where its connection may have been lost while it was idle."""
        was_idle = False
        while True:
            if self._plain is None:
                self._plain, was_idle = self._look_ups.take()
            try:
                cursor: Any = self._plain.cursor()
                return statement.rows(cursor, parameters)
            except Exception:
                self._look_ups.drop(self._plain)
                self._plain = None
                if not was_idle:
                    raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._plain is not None:
            if error is None or isinstance(error, HeadwayError):
                self._look_ups.give_back(self._plain)
            else:
                self._look_ups.drop(self._plain)
