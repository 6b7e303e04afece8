"""A million finished jobs: copies of jobs that really ran, moved into the past, with their attempts and events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from headway.store import tables

_TIMES = frozenset(
    {"submitted_at", "queued_at", "run_at", "expires_at", "started_at", "finished_at", "heartbeat_at"}
    | {"cancel_requested_at", "result_removed_at", "begun_at", "at"}
)
# So many copies of everything per commit.
_STEP = 25
_PAUSE_MICROSECONDS = 1_000


def multiply(engine: Engine, copies: int) -> Iterator[int]:
    """Add ``copies`` copies of every finished job, each older than the one before, as if they had run there.

    Ids keep the form of a UUIDv7 of their new time, and the feed stays numbered without a gap, oldest first. Both
    are made with the database's own expressions, because a million rows through Python take minutes.

    Args:
        engine: of a registry whose jobs have all ended.
        copies: how many.

    Yields:
        How many copies there are so far.
    """
    with engine.begin() as connection:
        span, width = _make_templates(connection)
        # What is there already is the newest: it moves to the end of the feed.
        moved = {"offset": copies * width}
        connection.execute(sa.text("UPDATE events SET id = id + :offset, pos = pos + :offset"), moved)
    for first in range(copies, 0, -_STEP):
        last = max(1, first - _STEP + 1)
        with engine.begin() as connection:
            bounds = {"first": last, "last": first, "span": span, "width": width, "copies": copies}
            for table in (tables.jobs, tables.attempts, tables.events):
                connection.execute(sa.text(_insert(table, connection.dialect.name)), bounds)
        yield copies - last + 1
    with engine.begin() as connection:
        for name in ("jobs", "attempts", "events"):
            connection.execute(sa.text(f"DROP TABLE template_{name}"))


def _make_templates(connection: Connection) -> tuple[int, int]:
    """Copy what is there aside; returns the microseconds it took and the number of its events."""
    for table in ("jobs", "attempts", "events"):
        owner = "id" if table == "jobs" else "job_id"
        connection.execute(
            sa.text(
                f"CREATE TABLE template_{table} AS SELECT t.*, j.submitted_at AS job_submitted_at "
                f"FROM {table} t JOIN jobs j ON j.id = t.{owner}"
            )
        )
    first, last = connection.execute(sa.text("SELECT min(submitted_at), max(finished_at) FROM jobs")).one()
    low, high, count = connection.execute(sa.text("SELECT min(pos), max(pos), count(*) FROM events")).one()
    if high - low + 1 != count:
        raise RuntimeError("the feed that is to be copied has gaps")
    return int(last - first) + _PAUSE_MICROSECONDS, int(count)


def _insert(table: sa.Table, dialect: str) -> str:
    """The statement that adds the copies number ``:first`` to ``:last`` of a table, oldest first."""
    series = {
        "sqlite": "WITH RECURSIVE k(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM k WHERE n < :last) ",
        "postgresql": "WITH k(n) AS (SELECT generate_series(CAST(:first AS bigint), :last)) ",
    }[dialect]
    expressions = _expressions(table, dialect)
    names = ", ".join(f'"{name}"' for name in expressions)
    order = "k.n DESC, t.job_submitted_at" + ("" if table.name == "jobs" else ", t.job_id")
    return (
        f"{series}INSERT INTO {table.name} ({names}) SELECT {', '.join(expressions.values())} "
        f"FROM k CROSS JOIN template_{table.name} t ORDER BY {order}"
    )


def _expressions(table: sa.Table, dialect: str) -> Mapping[str, str]:
    milliseconds = "(t.job_submitted_at - k.n * :span) / 1000"
    digits = {"sqlite": f"printf('%012x', {milliseconds})", "postgresql": f"lpad(to_hex({milliseconds}), 12, '0')"}[
        dialect
    ]
    found = {}
    for column in table.columns:
        name = column.name
        expression = f't."{name}"'
        if name in _TIMES:
            expression += " - k.n * :span"
        elif name in {"job_id", "root_id"} or (name == "id" and table.name == "jobs"):
            expression = f"substr({digits}, 1, 8) || '-' || substr({digits}, 9, 4) || substr({expression}, 14)"
        elif table.name == "events" and name in {"id", "pos"}:
            expression += " + (:copies - k.n) * :width"
        found[name] = expression
    return found
