"""Connections for reading: the driver's own for a look-up, SQLAlchemy's for what is put together from filters."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection

from headway.model.errors import HeadwayError, StoreUnavailable
from headway.store.prepared import Prepared

_WAIT_SECONDS = 10.0


class LookUps:
    """Driver connections for prepared reads: by way of the pool, its events cost as much as a look-up itself.

    Args:
        engine: opens them.
        bound: how many there may be at once; whoever comes then waits.
    """

    def __init__(self, engine: Engine, bound: int) -> None:
        self._engine = engine
        self._idle: deque[PoolProxiedConnection] = deque()
        self._closed = False
        self._places = threading.BoundedSemaphore(bound)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Room for one connection. Raises ``StoreUnavailable`` when all are in use for too long."""
        if not self._places.acquire(timeout=_WAIT_SECONDS):
            raise StoreUnavailable(f"no connection to the database became free within {_WAIT_SECONDS:g} seconds")
        try:
            yield
        finally:
            self._places.release()

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
        if self._closed:
            self.drop(connection)
        else:
            self._idle.append(connection)

    def drop(self, connection: PoolProxiedConnection) -> None:
        """Throw it away, and never raise."""
        # The driver's own close: the pool would first roll back, on a connection that may be gone.
        with suppress(Exception):
            driver: Any = connection.dbapi_connection
            driver.close()
        with suppress(Exception):
            connection.invalidate()

    def close(self) -> None:
        """Close all: those in use when they come back."""
        self._closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Throw away those that nobody uses: where one was lost, the others were too."""
        while self._idle:
            with suppress(IndexError):
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
        self._stack = ExitStack()

    @property
    def connection(self) -> Connection:
        """SQLAlchemy's."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def rows(self, statement: Prepared, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """What a prepared statement returns; asked once more where its connection may have been lost while it was idle."""
        was_idle = False
        if self._plain is None:
            self._stack.enter_context(self._look_ups.place())
            self._plain, was_idle = self._look_ups.take()
        try:
            return self._ask(self._plain, statement, parameters)
        except Exception:
            self._drop_plain()
            if not was_idle:
                raise
        self._look_ups.drop_idle()
        self._plain, _ = self._look_ups.take()
        return self._ask(self._plain, statement, parameters)

    @staticmethod
    def _ask(
        connection: PoolProxiedConnection, statement: Prepared, parameters: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        cursor: Any = connection.cursor()
        return statement.rows(cursor, parameters)

    def _drop_plain(self) -> None:
        if self._plain is not None:
            self._look_ups.drop(self._plain)
            self._plain = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whatever the others raise, the place is given back.
        with self._stack:
            self._let_go(error)

    def _let_go(self, error: BaseException | None) -> None:
        if self._plain is not None:
            if error is None or isinstance(error, HeadwayError):
                self._look_ups.give_back(self._plain)
            else:
                self._drop_plain()
        if self._connection is not None:
            self._connection.close()
