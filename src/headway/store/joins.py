"""Joins of canvas: the statements behind the ``JoinTx`` port."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect

from headway.model.canvas import AWAITS_SEND
from headway.model.commands import NewJoin
from headway.ports.joins import JoinPart, WaitCounts, Waiter
from headway.store.dialects import DialectFacts
from headway.store.join_tables import join_parts, joins, saved_groups
from headway.store.prepared import Cursor, Prepared
from headway.store.tables import jobs

_NOW = sa.bindparam("now", type_=sa.BigInteger)
_JOIN = sa.bindparam("of_join", type_=sa.String)
_JOB = sa.bindparam("of_job", type_=sa.String)
# Hidden from the index by state: a job is found by its id, or by what it waits for.
_SCHEDULED = jobs.c.state + sa.literal_column("''") == sa.literal_column("'scheduled'")
# Columns of a waiting job that a send, or the end of a join, may write while it goes on waiting.
WAITING_COLUMNS = ("next_task", "next_args", "next_kwargs", "args", "canvas", "celery_retries", "run_at", "expires_at",
                   "waits_for", "parent_id")  # fmt: skip


class JoinStatements:
    """Every statement about joins, as the text that a dialect compiles it to."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        def prepare(statement: sa.ClauseElement, columns: Sequence[str] | None = None) -> Prepared:
            return Prepared(statement, dialect, columns)

        insert: Callable[..., Any] = postgresql.insert if facts.round_trips else sqlite.insert
        open_join = sa.and_(joins.c.id == _JOIN, joins.c.ended_at.is_(None))
        self.insert = prepare(insert(joins).on_conflict_do_nothing(), [c.name for c in joins.columns])
        self.insert_part = prepare(insert(join_parts).on_conflict_do_nothing(), [c.name for c in join_parts.columns])
        self.grow = prepare(
            sa.update(joins).values(size=joins.c.size + sa.bindparam("more", type_=sa.Integer)).where(open_join)
        )
        # The row is locked from here to the commit: of two that end at once the second sees what the first counted.
        self.count = prepare(
            sa.update(joins)
            .values(done=joins.c.done + sa.literal_column("1"))
            .where(open_join)
            .returning(joins.c.done, joins.c.size)
        )
        self.standing = prepare(sa.select(joins.c.done, joins.c.size).where(open_join))
        self.end = prepare(sa.update(joins).values(ended_at=_NOW).where(open_join).returning(joins.c.shape))
        # A part whose job is gone, or was never sent, has what was counted for it.
        self.parts = prepare(
            sa.select(
                join_parts.c.job_id,
                join_parts.c.error,
                sa.func.coalesce(join_parts.c.result, jobs.c.result),
                jobs.c.result_blob,
                jobs.c.result_removed_at,
            )
            .select_from(join_parts.outerjoin(jobs, jobs.c.id == join_parts.c.job_id))
            .where(join_parts.c.join_id == _JOIN)
            .order_by(join_parts.c.place, join_parts.c.job_id)
        )
        self.waiters = prepare(
            sa.select(
                jobs.c.id,
                sa.func.coalesce(jobs.c.next_args, jobs.c.args),
                jobs.c.next_args.is_not(None),
                jobs.c.canvas,
                jobs.c.root_id,
            )
            .where(jobs.c.waits_for == _JOIN, _SCHEDULED)
            .order_by(jobs.c.submitted_at, jobs.c.id)
        )
        ids = sa.select(sa.text(facts.ids).columns(sa.column("id", sa.String)).subquery("i").c.id)
        for_send = jobs.c.waits_for == sa.literal_column(f"'{AWAITS_SEND}'") + jobs.c.id
        self.waiting_for_send = prepare(sa.select(jobs.c.id).where(jobs.c.id.in_(ids), for_send, _SCHEDULED))
        self.waited_for_send = prepare(sa.select(jobs.c.id).where(jobs.c.id == _JOB, for_send))
        self._change_waiting: dict[tuple[str, ...], Prepared] = {}
        self._prepare = prepare
        self._prepare_groups(prepare, insert)

    def _prepare_groups(self, prepare: Callable[..., Prepared], insert: Callable[..., Any]) -> None:
        saved = insert(saved_groups)
        fresh = {name: saved.excluded[name] for name in ("result", "saved_at")}
        self.save_group = prepare(
            saved.on_conflict_do_update(index_elements=[saved_groups.c.id], set_=fresh),
            [c.name for c in saved_groups.columns],
        )
        group = saved_groups.c.id == sa.bindparam("of_group", type_=sa.String)
        self.saved_group = prepare(sa.select(saved_groups.c.result).where(group))
        self.delete_group = prepare(sa.delete(saved_groups).where(group))
        before = sa.bindparam("before", type_=sa.BigInteger)
        old = sa.select(joins.c.id).where(joins.c.ended_at.is_not(None), joins.c.ended_at < before)
        self.purge = [
            prepare(sa.delete(join_parts).where(join_parts.c.join_id.in_(old))),
            prepare(sa.delete(joins).where(joins.c.ended_at.is_not(None), joins.c.ended_at < before)),
            prepare(sa.delete(saved_groups).where(saved_groups.c.saved_at < before)),
        ]

    def change_waiting(self, columns: Sequence[str]) -> Prepared:
        """The UPDATE of these columns of a job that waits."""
        key = tuple(columns)
        found = self._change_waiting.get(key)
        if found is None:
            values = {name: sa.bindparam(f"new_{name}", type_=jobs.c[name].type) for name in key}
            statement = (
                sa.update(jobs).values(values).where(jobs.c.id == _JOB, _SCHEDULED, jobs.c.waits_for.is_not(None))
            )
            found = self._change_waiting[key] = self._prepare(statement)
        return found


class SqlJoinTx:
    """The ``JoinTx`` port inside one transaction.

    Args:
        cursor: of a connection whose transaction has begun.
        statements: prepared.
        now: the store's time for the whole transaction, UTC microseconds.
        wrote: called when something is written.
    """

    def __init__(self, cursor: Cursor, statements: JoinStatements, now: int, wrote: Callable[[], None]) -> None:
        self._cursor = cursor
        self._statements = statements
        self._now = now
        self._wrote = wrote

    def insert(self, new: Sequence[NewJoin]) -> None:
        """See ``JoinTx.insert``."""
        for join in new:
            self._wrote()
            row = {
                "id": join.id,
                "size": join.size,
                "done": 0,
                "shape": None if join.shape is None else json.dumps(join.shape),
                "created_at": self._now,
                "ended_at": None,
            }
            self._statements.insert.change(self._cursor, row)

    def grow(self, join_id: str, parts: int) -> None:
        """See ``JoinTx.grow``."""
        self._wrote()
        self._statements.grow.change(self._cursor, {"of_join": join_id, "more": parts})

    def count(self, join_id: str, job_id: str, place: int, error_json: str | None, result: str | None) -> bool:
        """See ``JoinTx.count``."""
        self._wrote()
        row = {"join_id": join_id, "job_id": job_id, "place": place, "error": error_json, "result": result}
        if self._statements.insert_part.change(self._cursor, row) == 0:
            return False
        found = self._statements.count.rows(self._cursor, {"of_join": join_id})
        return bool(found) and found[0][0] >= found[0][1]

    def is_complete(self, join_id: str) -> bool:
        """See ``JoinTx.is_complete``."""
        found = self._statements.standing.rows(self._cursor, {"of_join": join_id})
        return bool(found) and found[0][0] >= found[0][1]

    def end(self, join_id: str) -> list[Any] | None:
        """See ``JoinTx.end``."""
        self._wrote()
        shape = self._statements.end.value(self._cursor, {"of_join": join_id, "now": self._now})
        return None if shape is None else list(json.loads(shape))

    def parts(self, join_id: str) -> list[JoinPart]:
        """See ``JoinTx.parts``."""
        return [
            JoinPart(job_id, error, inline, blob, removed is not None)
            for job_id, error, inline, blob, removed in self._statements.parts.rows(self._cursor, {"of_join": join_id})
        ]

    def waiters(self, join_id: str) -> list[Waiter]:
        """See ``JoinTx.waiters``."""
        found = self._statements.waiters.rows(self._cursor, {"of_join": join_id})
        return [Waiter(job_id, args, bool(resent), canvas, root) for job_id, args, resent, canvas, root in found]

    def waiting_for_send(self, job_ids: Sequence[str]) -> list[str]:
        """See ``JoinTx.waiting_for_send``."""
        found = self._statements.waiting_for_send.rows(self._cursor, {"ids": json.dumps(sorted(set(job_ids)))})
        return sorted(row[0] for row in found)

    def waited_for_send(self, job_id: str) -> bool:
        """See ``JoinTx.waited_for_send``."""
        return bool(self._statements.waited_for_send.rows(self._cursor, {"of_job": job_id}))

    def change_waiting(self, job_id: str, changes: Mapping[str, Any]) -> bool:
        """See ``JoinTx.change_waiting``."""
        self._wrote()
        assert set(changes) <= set(WAITING_COLUMNS)
        given = {f"new_{name}": value for name, value in changes.items()}
        return self._statements.change_waiting(list(changes)).change(self._cursor, {"of_job": job_id, **given}) == 1

    def save_group(self, group_id: str, result_json: str) -> None:
        """See ``JoinTx.save_group``."""
        self._wrote()
        row = {"id": group_id, "result": result_json, "saved_at": self._now}
        self._statements.save_group.change(self._cursor, row)

    def delete_group(self, group_id: str) -> None:
        """See ``JoinTx.delete_group``."""
        self._wrote()
        self._statements.delete_group.change(self._cursor, {"of_group": group_id})

    def purge(self, before: int) -> None:
        """See ``JoinTx.purge``."""
        self._wrote()
        for delete in self._statements.purge:
            delete.change(self._cursor, {"before": before})


def wait_counts(connection: Connection) -> WaitCounts:
    """See ``Reader.waits``."""
    counted = (
        sa.select(join_parts.c.join_id, sa.func.count().label("parts"))
        .group_by(join_parts.c.join_id)
        .subquery("counted")
    )

    def ids(statement: sa.Select[Any]) -> tuple[str, ...]:
        return tuple(connection.execute(statement.order_by(statement.selected_columns[0])).scalars())

    is_open = joins.c.ended_at.is_(None)
    miscounted = (
        sa.select(joins.c.id)
        .outerjoin(counted, counted.c.join_id == joins.c.id)
        .where(is_open, joins.c.done != sa.func.coalesce(counted.c.parts, 0))
    )
    waited_for = sa.exists().where(joins.c.id == jobs.c.waits_for, is_open)
    stranded = sa.select(jobs.c.id).where(
        jobs.c.state == "scheduled",
        jobs.c.waits_for.is_not(None),
        ~waited_for,
        ~jobs.c.waits_for.startswith(AWAITS_SEND),
    )
    return WaitCounts(
        connection.execute(sa.select(sa.func.count()).select_from(joins)).scalar_one(),
        ids(sa.select(joins.c.id).where(is_open, joins.c.done >= joins.c.size)),
        ids(miscounted),
        ids(stranded),
    )
