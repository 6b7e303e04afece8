"""One step of one job as one statement, where every statement costs a round trip.

A worker's child begins and ends one job at a time: a transaction of several statements would be three or four waits, and
a child that waits runs nothing. What the statement writes is what a transaction of ``Tx`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from headway.model.commands import Begun
from headway.model.states import BY_VERB, AttemptOutcome, Verb
from headway.store.delivery_tables import deliveries
from headway.store.dialects import DialectFacts
from headway.store.tables import attempts, events, jobs
from headway.store.transitions import Claimed, begin_one, succeed_one, to_begun

SILENCE_SECONDS = 5.0
"""After so long without a word a frozen server is asked for another connection: see ``postgres.SILENCE_SECONDS``."""


class Steps:
    """The statements, for a dialect that has writing common table expressions and a time of its own."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        # Its driver is of the `postgres` extra: whoever has SQLite only never makes this object.
        from headway.store.direct import DirectStatement

        assert facts.database_time is not None
        now: sa.ColumnElement[int] = sa.literal_column(facts.database_time.removeprefix("SELECT "), sa.BigInteger)
        returned = [*(jobs.c[name] for name in Claimed._fields), jobs.c.heartbeat_at]
        self._begin = DirectStatement("headway_begin", _begin_step(now), returned, dialect)
        self._succeed = DirectStatement("headway_succeed", _succeed_step(now), [jobs.c.id], dialect)

    def begin(self, connection: Any, worker_id: str, job_id: str, actor: str) -> Begun | None:
        """See ``Store.begin_job``."""
        given = {"worker": worker_id, "job_id": job_id, "new_actor": actor}
        found = self._begin.rows(connection, given, SILENCE_SECONDS)
        if not found:
            return None
        *claimed, now = found[0]
        return to_begun(Claimed._make(claimed), now)

    def succeed(self, connection: Any, job_id: str, fence: int, result: str | None, actor: str) -> bool:
        """See ``Store.succeed_job``."""
        given = {"job_id": job_id, "held_fence": fence, "new_result": result, "new_actor": actor}
        return bool(self._succeed.rows(connection, given, SILENCE_SECONDS))


def _begin_step(now: sa.ColumnElement[int]) -> sa.Select[Any]:
    returned = [jobs.c[name] for name in Claimed._fields]
    moved = begin_one(now).returning(*returned, jobs.c.heartbeat_at).cte("moved").c
    begun = {
        "job_id": moved.id,
        "fence": moved.fence,
        "number": moved.attempts,
        "task": moved.next_task,
        "args": moved.next_args,
        "kwargs": moved.next_kwargs,
        "worker_id": sa.bindparam("worker", type_=sa.String),
        "begun_at": moved.heartbeat_at,
    }
    attempt = sa.insert(attempts).from_select(list(begun), sa.select(*begun.values())).cte("attempt")
    told = _event(
        Verb.BEGIN, moved.id, sa.func.coalesce(moved.next_task, moved.task), moved.attempts, moved.fence,
        moved.heartbeat_at,
    )  # fmt: skip
    gone = sa.delete(deliveries).where(deliveries.c.job_id == moved.id).cte("gone")
    return sa.select(*(moved[name] for name in Claimed._fields), moved.heartbeat_at).add_cte(attempt, told, gone)


def _succeed_step(now: sa.ColumnElement[int]) -> sa.Select[Any]:
    task = sa.func.coalesce(jobs.c.next_task, jobs.c.task).label("task")
    moved = succeed_one(now).returning(jobs.c.id, task, jobs.c.fence, jobs.c.attempts, jobs.c.finished_at)
    done = moved.cte("moved").c
    ended = (
        sa.update(attempts)
        .values(finished_at=done.finished_at, outcome=sa.literal_column(f"'{AttemptOutcome.SUCCEEDED}'"))
        # By what was given, not by what came back: that has the collation of another table, and no index for it.
        .where(attempts.c.job_id == sa.bindparam("job_id", type_=sa.String), attempts.c.outcome.is_(None))
        .where(attempts.c.fence == done.fence)
        .cte("ended")
    )
    told = _event(Verb.SUCCEED, done.id, done.task, done.attempts, done.fence, done.finished_at)
    return sa.select(done.id).add_cte(ended, told)


def _event(verb: Verb, job_id: Any, task: Any, attempt: Any, fence: Any, at: Any) -> sa.CTE:
    row: Mapping[str, Any] = {
        "job_id": job_id,
        "task": task,
        "state": sa.literal_column(f"'{BY_VERB[verb].event}'"),
        "verb": sa.literal_column(f"'{verb}'"),
        "attempt": attempt,
        "fence": fence,
        "actor": sa.bindparam("new_actor", type_=sa.String),
        "at": at,
    }
    return sa.insert(events).from_select(list(row), sa.select(*row.values())).cte("told")
