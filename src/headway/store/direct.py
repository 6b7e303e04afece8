"""Prepared statements on libpq itself, for the two steps that a worker's child makes for every job.

psycopg's cursor costs sixty to a hundred microseconds a statement, of which these two need nothing: their texts and the
types of their columns are fixed.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import pq
from sqlalchemy.engine import Dialect

_TUPLES: Final = pq.ExecStatus.TUPLES_OK
_READ: Final = select.POLLIN
_WRITE: Final = select.POLLIN | select.POLLOUT

Convert = Callable[[bytes], Any]


def _text(value: bytes) -> str:
    return value.decode()


def converters(columns: Sequence[sa.ColumnElement[Any]]) -> tuple[Convert, ...]:
    """How the text of each column becomes a value."""
    found: list[Convert] = []
    for column in columns:
        kind = column.type
        found.append(int if isinstance(kind, sa.Integer) else float if isinstance(kind, sa.Float) else _text)
    return tuple(found)


class DirectStatement:
    """One statement, prepared at its first use on each connection.

    Args:
        name: unique on a connection.
        statement: a select (with writing common table expressions).
        columns: of what it returns.
        dialect: of Postgres.
    """

    def __init__(
        self, name: str, statement: sa.Select[Any], columns: Sequence[sa.ColumnElement[Any]], dialect: Dialect
    ) -> None:
        kind: Any = type(dialect)
        compiled: Any = statement.compile(
            dialect=kind(paramstyle="numeric_dollar"), compile_kwargs={"render_postcompile": True}
        )
        self._name = name.encode()
        self._sql = str(compiled).encode()
        self._order: tuple[str, ...] = tuple(compiled.positiontup)
        self._fixed = {key: value for key, value in compiled.params.items() if value is not None}
        self._convert = converters(columns)

    def rows(self, connection: Any, parameters: Mapping[str, Any], silence: float) -> list[list[Any]]:
        """Execute on a connection that is in no transaction, and return what it returns.

        Args:
            connection: ours, of psycopg.
            parameters: by name; what is no text goes as its text.
            silence: seconds without a word after which the server is asked for another connection.

        Raises:
            psycopg.Error: what the server said, or that it is gone.
        """
        pgconn: Any = connection.pgconn
        prepared: set[bytes] = connection.direct
        if self._name not in prepared:
            self._check(pgconn.prepare(self._name, self._sql), pgconn, pq.ExecStatus.COMMAND_OK)
            prepared.add(self._name)
        given = [parameters[name] if name in parameters else self._fixed[name] for name in self._order]
        pgconn.send_query_prepared(self._name, [None if value is None else str(value).encode() for value in given])
        answers = _answers(connection, pgconn, silence)
        result = answers[0]
        self._check(result, pgconn, _TUPLES)
        columns = range(len(self._convert))
        return [[self._value(result, row, column) for column in columns] for row in range(result.ntuples)]

    def _value(self, result: Any, row: int, column: int) -> Any:
        value = result.get_value(row, column)
        return None if value is None else self._convert[column](value)

    @staticmethod
    def _check(result: Any, pgconn: Any, wanted: pq.ExecStatus) -> None:
        if result.status != wanted:
            raise psycopg.errors.error_from_result(result)


def _answers(connection: Any, pgconn: Any, silence: float) -> list[Any]:
    """The results of what was sent, once all have arrived."""
    poll = select.poll()
    poll.register(pgconn.socket, _WRITE)
    while pgconn.flush():
        poll.poll(silence * 1000)
    poll.modify(pgconn.socket, _READ)
    found: list[Any] = []
    ends = time.monotonic() + silence
    while True:
        while pgconn.is_busy():
            if poll.poll(250):
                ends = time.monotonic() + silence
            elif time.monotonic() > ends:
                connection.ask_another()
                ends = time.monotonic() + silence
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            return found
        found.append(result)
