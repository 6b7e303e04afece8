"""The one module that writes ``jobs.state``.

Every write is *update … where id and state in (from…) and fence = ? returning*, with the event in the same
transaction. Zero rows is an answer (``TransitionRefused``), not an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from headway.model.commands import Begun
from headway.model.states import BY_VERB, JobState, Transition, Verb
from headway.ports.store import Moved, TransitionRefused
from headway.store.dialects import DialectFacts
from headway.store.prepared import Prepared, insert_into
from headway.store.tables import attempts, jobs


class Claimed(NamedTuple):
    """The columns that a claim returns, in this order."""

    id: str
    task: str
    next_task: str | None
    args: str
    next_args: str | None
    kwargs: str
    next_kwargs: str | None
    canvas: str | None
    fence: int
    attempts: int
    queue: str
    priority: int
    queued_at: int
    celery_retries: int
    max_retries: int
    retries_used: int
    rescues: int
    timeout_seconds: float | None
    isolation: str
    backoff: str | None
    root_id: str | None
    parent_id: str | None
    traceparent: str | None


# A change named like `rescues+` adds to the column instead of replacing it.
_ADD = "+"


def _stamped(row: Transition) -> list[str]:
    # A job's started_at is the begin of its first attempt; each attempt has its own begun_at.
    return [name for name in row.stamps if name != "started_at"]


class Transitions:
    """The statements that move jobs, prepared for one dialect."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        self._dialect = dialect
        self._insert = insert_into(jobs, dialect)
        self._insert_attempt = insert_into(attempts, dialect)
        self._facts = facts
        self._claims: dict[int, Prepared] = {}
        self._moves: dict[tuple[Verb, bool, bool, tuple[str, ...]], Prepared] = {}

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert complete job rows; their state must be one that a creating verb enters."""
        entered = {row.to_state for row in BY_VERB.values() if not row.from_states}
        for row in rows:
            if row["state"] not in entered:
                raise AssertionError(f"expected a job to be created in one of {sorted(entered)}, got: {row['state']}")
        self._insert.run_many(connection, rows)

    def move(
        self,
        connection: Connection,
        verb: Verb,
        job_id: str,
        now: int,
        *,
        fence: int | None,
        changes: Mapping[str, Any],
        unless_cancelling: bool,
    ) -> tuple[Moved, str] | TransitionRefused:
        """One guarded transition; returns what happened and the job's task."""
        row = BY_VERB[verb]
        if row.needs_fence and fence is None:
            raise AssertionError(f"expected a fence for {verb}, got none")
        key = (verb, fence is not None, unless_cancelling, tuple(sorted(changes)))
        statement = self._moves.get(key)
        if statement is None:
            statement = self._moves[key] = Prepared(_move_statement(*key), self._dialect)
        parameters = {f"set_{name.removesuffix(_ADD)}": value for name, value in changes.items()}
        parameters |= {"job_id": job_id, "now": now}
        if fence is not None:
            parameters["held_fence"] = fence
        found = statement.fetch(connection, parameters)
        if not found:
            return TransitionRefused(job_id, verb)
        fence_now, attempts_now, task = found[0]
        return Moved(job_id, row.to_state, fence_now, attempts_now), task

    def claim(self, connection: Connection, worker_id: str, limit: int, now: int) -> list[Begun]:
        """Begin queued jobs, each under a new fence, with a row for the attempt."""
        statement = self._claims.get(limit)
        if statement is None:
            # The limit is part of the text: a planner that cannot see it prepares for a tenth of the table.
            statement = self._claims[limit] = Prepared(_claim_statement(self._facts, limit), self._dialect)
        taken = statement.fetch(connection, {"worker": worker_id, "now": now})
        found = [Claimed._make(row) for row in taken]
        found.sort(key=lambda r: (-r.priority, r.queued_at, r.id))
        begun = [_begun(row, now) for row in found]
        self._insert_attempt.run_many(
            connection,
            [
                {
                    "job_id": row.id,
                    "fence": row.fence,
                    "number": row.attempts,
                    "task": row.next_task,
                    "args": row.next_args,
                    "kwargs": row.next_kwargs,
                    "worker_id": worker_id,
                    "begun_at": now,
                    "finished_at": None,
                    "outcome": None,
                    "error": None,
                }
                for row in found
            ],
        )
        return begun


def _begun(row: Claimed, now: int) -> Begun:
    return Begun(
        job_id=row.id,
        fence=row.fence,
        attempt=row.attempts,
        task=row.next_task or row.task,
        args_json=row.next_args or row.args,
        kwargs_json=row.next_kwargs or row.kwargs,
        canvas_json=row.canvas,
        queue=row.queue,
        priority=row.priority,
        celery_retries=row.celery_retries,
        max_retries=row.max_retries,
        retries_used=row.retries_used,
        rescues=row.rescues,
        timeout_seconds=row.timeout_seconds,
        isolation=row.isolation,
        backoff_json=row.backoff,
        root_id=row.root_id,
        parent_id=row.parent_id,
        traceparent=row.traceparent,
        begun_at=now,
    )


def _state_in(states: Sequence[JobState]) -> sa.ColumnElement[bool]:
    # Literals, not parameters, and `=` for one: a partial index is only used when the planner can see the state.
    if len(states) == 1:
        return jobs.c.state == sa.literal_column(f"'{states[0]}'")
    return jobs.c.state.in_([sa.literal_column(f"'{state}'") for state in states])


def _move_statement(verb: Verb, fenced: bool, unless_cancelling: bool, changed: tuple[str, ...]) -> sa.UpdateBase:
    row = BY_VERB[verb]
    values: dict[str, Any] = {"state": sa.literal_column(f"'{row.to_state}'")}
    values |= {name: sa.bindparam("now", type_=sa.BigInteger) for name in _stamped(row)}
    for name in changed:
        column = jobs.c[name.removesuffix(_ADD)]
        value = sa.bindparam(f"set_{column.name}", type_=column.type)
        values[column.name] = column + value if name.endswith(_ADD) else value
    statement = sa.update(jobs).values(values).where(jobs.c.id == sa.bindparam("job_id"), _state_in(row.from_states))
    if fenced:
        statement = statement.where(jobs.c.fence == sa.bindparam("held_fence", type_=sa.Integer))
    if unless_cancelling:
        statement = statement.where(jobs.c.cancel_requested_at.is_(None))
    return statement.returning(jobs.c.fence, jobs.c.attempts, jobs.c.task)


def _claim_statement(facts: DialectFacts, limit: int) -> sa.UpdateBase:
    row = BY_VERB[Verb.BEGIN]
    now = sa.bindparam("now", type_=sa.BigInteger)
    ready = (
        sa.select(jobs.c.id)
        .where(_state_in(row.from_states), jobs.c.held_by.is_(None))
        .where(sa.or_(jobs.c.expires_at.is_(None), jobs.c.expires_at > now))
        .order_by(jobs.c.priority.desc(), jobs.c.queued_at, jobs.c.id)
        .limit(sa.literal_column(str(int(limit))))
    )
    if facts.skip_locked:
        ready = ready.with_for_update(skip_locked=True)
    nothing = sa.null()
    cleared = ("cancel_requested_at", "progress_done", "progress_total", "progress_message")
    values: dict[str, Any] = dict.fromkeys((*cleared, "custom_state", "custom_meta"), nothing)
    values |= {
        "state": sa.literal_column(f"'{row.to_state}'"),
        "fence": jobs.c.fence + 1,
        "attempts": jobs.c.attempts + 1,
        "worker_id": sa.bindparam("worker", type_=sa.String),
        "started_at": sa.func.coalesce(jobs.c.started_at, now),
    }
    values |= dict.fromkeys(_stamped(row), now)
    chosen = jobs.c.id.in_(ready.scalar_subquery()) if not facts.skip_locked else jobs.c.id.in_(ready)
    return sa.update(jobs).values(values).where(chosen).returning(*(jobs.c[name] for name in Claimed._fields))
