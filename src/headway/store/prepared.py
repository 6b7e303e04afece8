"""Core statements compiled once to the text of a dialect.

Executing a Core statement costs 40 to 60 µs of Python, most of it spent on finding the compiled form; a job
needs six statements. So every statement of the way of a job is written in Core, compiled when the store opens, and
executed on the driver's own cursor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, CursorResult, Dialect

from headway.store.dialects import DialectFacts

_CHUNK = 1_000
_BLOCK = 16
_KINDS: tuple[tuple[type[sa.types.TypeEngine[Any]], str], ...] = (
    (sa.Integer, "bigint"),
    (sa.Float, "float8"),
    # Not varchar(n): a cast to that cuts silently, where storing too long a text is an error.
    (sa.String, "text"),
)


class Cursor(Protocol):
    """What sqlite3 and psycopg have in common."""

    rowcount: int

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run one statement."""
        ...

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """Run one statement for every row."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """What the statement returned."""
        ...


class Prepared:
    """One compiled statement; parameters are given by name.

    Args:
        statement: what to compile. NULL in it must be ``sa.null()``: a None would be taken for a parameter to come.
        dialect: for which database.
        columns: for an INSERT without values: columns that take a parameter of their own name.
    """

    __slots__ = ("_fixed", "sql")

    def __init__(self, statement: sa.ClauseElement, dialect: Dialect, columns: Sequence[str] | None = None) -> None:
        compiled = statement.compile(
            dialect=dialect, column_keys=list(columns) if columns else None, compile_kwargs={"render_postcompile": True}
        )
        self.sql = str(compiled)
        given = getattr(compiled, "params", None) or {}
        self._fixed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    def read(self, connection: Connection, parameters: Mapping[str, Any]) -> CursorResult[Any]:
        """Execute on a reader's connection."""
        return connection.exec_driver_sql(self.sql, {**self._fixed, **parameters})

    def rows(self, cursor: Cursor, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute and return what it returns, as plain tuples."""
        cursor.execute(self.sql, {**self._fixed, **parameters} if self._fixed else parameters)
        return cursor.fetchall()

    def value(self, cursor: Cursor, parameters: Mapping[str, Any]) -> Any:
        """Execute and return the first column of the first row; None when there is none."""
        found = self.rows(cursor, parameters)
        return found[0][0] if found else None

    def change(self, cursor: Cursor, parameters: Mapping[str, Any]) -> int:
        """Execute a statement that returns nothing; how many rows it changed."""
        cursor.execute(self.sql, {**self._fixed, **parameters} if self._fixed else parameters)
        return cursor.rowcount


class ManyRows:
    """A statement over many rows at once: one round trip where there is one, the driver's fastest way elsewhere.

    Args:
        one: the statement for one row, for a database without round trips.
        many: the statement over the records of ``records``, for one with.
        columns: the order of a row's values.
        more: what another row adds to the statement ``one``; None where a statement takes one row only.
    """

    __slots__ = ("_blocks", "_many", "_sql", "columns", "pick")

    def __init__(
        self, one: str, many: Mapping[int, str] | None, columns: Sequence[str], more: str | None = None
    ) -> None:
        self._sql = one
        self._many = many
        # Opening the table and its indexes once for several rows saves a fifth.
        self._blocks = [] if more is None else [one + more * rows for rows in range(_BLOCK)]
        self.columns = tuple(columns)
        self.pick = itemgetter(*self.columns)

    def run(self, cursor: Cursor, rows: Sequence[Sequence[Any]]) -> None:
        """Execute for all rows, in order."""
        if self._many is None:
            if len(rows) == 1:
                cursor.execute(self._sql, rows[0])
            elif not self._blocks:
                cursor.executemany(self._sql, rows)
            else:
                for start in range(0, len(rows), _BLOCK):
                    block = rows[start : start + _BLOCK]
                    cursor.execute(self._blocks[len(block) - 1], [*chain.from_iterable(block)])
            return
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            cursor.execute(self._many[size_class(len(chunk))], {"rows": json.dumps(chunk)})


SIZES = (1, 8, 64, _CHUNK)


def size_class(count: int) -> int:
    """The bound that is written into a statement over ``count`` records.

    A planner that cannot see how few they are takes a hundred, and reads the whole table for them.
    """
    return next(size for size in SIZES if count <= size)


def records(columns: Mapping[str, sa.types.TypeEngine[Any]], size: int) -> sa.TextualSelect:
    """The JSON parameter ``rows``, an array of arrays, as a select with these columns (Postgres)."""
    picked = ", ".join(
        f"CAST(value ->> {place} AS {next(name for kind, name in _KINDS if isinstance(wanted, kind))}) AS {column}"
        for place, (column, wanted) in enumerate(columns.items())
    )
    source = f"SELECT {picked} FROM jsonb_array_elements(CAST(:rows AS jsonb)) LIMIT {size}"
    return sa.text(source).columns(*(sa.column(name, kind) for name, kind in columns.items()))


def positional(statement: sa.ClauseElement, dialect: Dialect, names: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The statement with its parameters by place, which sqlite3 binds fastest, and the order of their names."""
    kind: Any = type(dialect)
    by_place: Dialect = kind(paramstyle="qmark")
    compiled = statement.compile(dialect=by_place, column_keys=list(names) or None)
    order = getattr(compiled, "positiontup", None)
    assert order is not None
    return str(compiled), list(order)


class NewRows:
    """INSERT of those rows whose unique values are free, saying which.

    Args:
        table: rows have a value for every column.
        unique: its columns whose values must be free.
        dialect: for which database.
        facts: how it is spoken.
    """

    def __init__(self, table: sa.Table, unique: Sequence[str], dialect: Dialect, facts: DialectFacts) -> None:
        self._many: dict[int, str] = {}
        self._one = ""
        names = [column.name for column in table.columns]
        if facts.round_trips:
            kinds = {column.name: column.type for column in table.columns}
            for size in SIZES:
                insert = postgresql.insert(table).from_select(names, records(kinds, size))
                insert = insert.on_conflict_do_nothing()
                self._many[size] = Prepared(insert.returning(*(table.c[name] for name in unique)), dialect).sql
        else:
            self._one, _ = positional(sqlite.insert(table).on_conflict_do_nothing(), dialect, names)
        self._pick = itemgetter(*names)
        self._names = itemgetter(*(names.index(name) for name in unique))

    def run(self, cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Execute for all rows; for each whether it was inserted."""
        values = [self._pick(row) for row in rows]
        if self._one:
            return [self._inserted(cursor, row) for row in values]
        free: set[tuple[Any, ...]] = set()
        for start in range(0, len(values), _CHUNK):
            chunk = values[start : start + _CHUNK]
            cursor.execute(self._many[size_class(len(chunk))], {"rows": json.dumps(chunk)})
            free.update(cursor.fetchall())
        answers = []
        for row in values:
            answers.append(self._names(row) in free)
            # Of rows that are alike in all of them the first is the one.
            free.discard(self._names(row))
        return answers

    def _inserted(self, cursor: Cursor, row: Sequence[Any]) -> bool:
        cursor.execute(self._one, row)
        return cursor.rowcount == 1


def insert_many(table: sa.Table, dialect: Dialect, facts: DialectFacts, *, without: Sequence[str] = ()) -> ManyRows:
    """INSERT of rows that have a value for every column but ``without``."""
    columns = [column for column in table.columns if column.name not in without]
    names = [column.name for column in columns]
    if not facts.round_trips:
        one, order = positional(sa.insert(table), dialect, names)
        assert order == names
        row = "(" + ", ".join("?" * len(names)) + ")"
        assert one.endswith(f"VALUES {row}")
        return ManyRows(one, None, order, more=f", {row}")
    kinds = {column.name: column.type for column in columns}
    many = {}
    for size in SIZES:
        many[size] = Prepared(sa.insert(table).from_select(names, records(kinds, size)), dialect).sql
    return ManyRows("", many, names)
