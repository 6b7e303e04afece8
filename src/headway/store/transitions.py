"""The one module that writes ``jobs.state``.

Every write is *update … where id and state in (from…) and fence = ? returning*, with the event in the same
transaction. Zero rows is an answer (``TransitionRefused``), not an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from headway.model.commands import Begun
from headway.model.states import BY_VERB, TERMINAL_STATES, JobState, Transition, Verb
from headway.ports.store import Move, Moved, TransitionRefused
from headway.store.delivery_statements import not_paused
from headway.store.dialects import DialectFacts
from headway.store.prepared import Cursor, NewRows, Prepared, insert_many, records, size_class
from headway.store.tables import jobs


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
    join_id: str | None


class _Shape(NamedTuple):
    """What makes two moves the same statement."""

    verb: Verb
    fenced: bool
    unless_cancelling: bool
    changed: tuple[str, ...]
    blind: bool


# A change named like `rescues+` adds to the column instead of replacing it.
_ADD = "+"
_PLACES = tuple(f"c{place}" for place in range(16))
_CREATED = frozenset(str(row.to_state) for row in BY_VERB.values() if not row.from_states)


def _stamped(row: Transition) -> list[str]:
    # A job's started_at is the begin of its first attempt; each attempt has its own begun_at.
    return [name for name in row.stamps if name != "started_at"]


class Transitions:
    """The statements that move jobs, prepared for one dialect."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        self._dialect = dialect
        self._insert = insert_many(jobs, dialect, facts)
        self._insert_new = NewRows(jobs, ("id", "idempotency_scope", "idempotency_key"), dialect, facts)
        self._facts = facts
        self._any_ready = Prepared(_ready(1), dialect)
        self._claims: dict[int, Prepared] = {}
        self._begin_one = Prepared(begin_one(_NOW).returning(*(jobs.c[name] for name in Claimed._fields)), dialect)
        self._moves: dict[_Shape, Prepared] = {}
        self._many: dict[tuple[_Shape, int], Prepared] = {}

    def insert(self, cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert complete job rows; their state must be one that a creating verb enters."""
        _check_created(rows)
        pick = self._insert.pick
        self._insert.run(cursor, [pick(row) for row in rows])

    def insert_new(self, cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """The same for those whose id and key are free; which they are."""
        _check_created(rows)
        return self._insert_new.run(cursor, rows)

    def move(self, cursor: Cursor, move: Move, now: int) -> tuple[Moved, str] | TransitionRefused:
        """One guarded transition; returns what happened and the job's task."""
        # Where there is no round trip, what RETURNING brings is dear: a third of an UPDATE in SQLite.
        shape = _shape(move, blind=move.known is not None and not self._facts.round_trips)
        statement = self._moves.get(shape)
        if statement is None:
            statement = self._moves[shape] = Prepared(_move_statement(*shape), self._dialect)
        parameters: dict[str, Any] = dict(zip(_PLACES, move.changes.values(), strict=False))
        parameters["job_id"] = move.job_id
        parameters["now"] = now
        if move.fence is not None:
            parameters["held_fence"] = move.fence
        if shape.blind:
            assert move.known is not None
            assert move.fence is not None
            if statement.change(cursor, parameters) == 0:
                return TransitionRefused(move.job_id, move.verb)
            fence, (attempts, task, join_id, canvas) = move.fence, move.known
        else:
            found = statement.rows(cursor, parameters)
            if not found:
                return TransitionRefused(move.job_id, move.verb)
            _, fence, attempts, task, join_id, canvas = found[0]
        return Moved(move.job_id, BY_VERB[move.verb].to_state, fence, attempts, join_id, canvas), task

    def move_many(self, cursor: Cursor, moves: Sequence[Move], now: int) -> list[tuple[Moved, str] | TransitionRefused]:
        """Guarded transitions, in order; a job that is named twice moves once. Alike ones share a round trip."""
        if not self._facts.round_trips or len(moves) == 1:
            return [self.move(cursor, move, now) for move in moves]
        answers: list[tuple[Moved, str] | TransitionRefused] = [TransitionRefused(m.job_id, m.verb) for m in moves]
        alike: dict[_Shape, dict[str, int]] = {}
        again: list[int] = []
        for place, move in enumerate(moves):
            if alike.setdefault(_shape(move), {}).setdefault(move.job_id, place) != place:
                again.append(place)
        for shape, places in alike.items():
            for found in self._moved(cursor, shape, [moves[place] for place in places.values()], now):
                place = places[found[0]]
                job_id, fence, attempts, task, join_id, canvas = found
                moved = Moved(job_id, BY_VERB[shape.verb].to_state, fence, attempts, join_id, canvas)
                answers[place] = (moved, task)
        for place in again:
            answers[place] = self.move(cursor, moves[place], now)
        return answers

    def _moved(self, cursor: Cursor, shape: _Shape, moves: Sequence[Move], now: int) -> list[tuple[Any, ...]]:
        size = size_class(len(moves))
        statement = self._many.get((shape, size))
        if statement is None:
            statement = self._many[shape, size] = Prepared(_move_statement(*shape, size=size), self._dialect)
        rows = [[move.job_id, move.fence, *(move.changes[name] for name in shape.changed)] for move in moves]
        return statement.rows(cursor, {"rows": json.dumps(rows), "now": now})

    def begin(self, cursor: Cursor, worker_id: str, job_id: str, now: int) -> Claimed | None:
        """Begin this job under a new fence, if it may begin."""
        found = self._begin_one.rows(cursor, {"worker": worker_id, "job_id": job_id, "now": now})
        return Claimed._make(found[0]) if found else None

    def any_ready(self, cursor: Cursor, now: int) -> bool:
        """Whether a job waits that may begin."""
        return bool(self._any_ready.rows(cursor, {"now": now}))

    def claim(self, cursor: Cursor, worker_id: str, limit: int, now: int) -> list[Claimed]:
        """Begin queued jobs, each under a new fence: by priority, then first in first out."""
        statement = self._claims.get(limit)
        if statement is None:
            # The limit is part of the text: a planner that cannot see it prepares for a tenth of the table.
            statement = self._claims[limit] = Prepared(_claim_statement(self._facts, limit), self._dialect)
        taken = statement.rows(cursor, {"worker": worker_id, "now": now})
        if len(taken) == 1:
            return [Claimed._make(taken[0])]
        found = [Claimed._make(row) for row in taken]
        found.sort(key=lambda row: (-row.priority, row.queued_at, row.id))
        return found


def _check_created(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        if row["state"] not in _CREATED:
            raise AssertionError(f"expected a job to be created in one of {sorted(_CREATED)}, got: {row['state']}")


def _shape(move: Move, *, blind: bool = False) -> _Shape:
    if BY_VERB[move.verb].needs_fence and move.fence is None:
        raise AssertionError(f"expected a fence for {move.verb}, got none")
    return _Shape(move.verb, move.fence is not None, move.unless_cancelling, tuple(move.changes), blind)


def to_begun(row: Claimed, now: int) -> Begun:
    """What a worker is given of a claimed job."""
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
        join_id=row.join_id,
    )


def _state_in(states: Sequence[JobState], column: sa.ColumnElement[str] = jobs.c.state) -> sa.ColumnElement[bool]:
    # Literals, not parameters, and `=` for one: a partial index is only used when the planner can see the state.
    if len(states) == 1:
        return column == sa.literal_column(f"'{states[0]}'")
    return column.in_([sa.literal_column(f"'{state}'") for state in states])


def _move_statement(
    verb: Verb, fenced: bool, unless_cancelling: bool, changed: tuple[str, ...], blind: bool, size: int = 0
) -> sa.UpdateBase:
    """The guarded UPDATE of one job, or of up to ``size`` jobs given as records."""
    row = BY_VERB[verb]
    columns = {name: jobs.c[name.removesuffix(_ADD)] for name in changed}
    given: Mapping[str, sa.ColumnElement[Any]] = {
        "job_id": sa.bindparam("job_id", type_=sa.String),
        "held_fence": sa.bindparam("held_fence", type_=sa.Integer),
        **{place: sa.bindparam(place, type_=c.type) for place, c in zip(_PLACES, columns.values(), strict=False)},
    }
    if size:
        given = dict(records({name: value.type for name, value in given.items()}, size).subquery("r").c)
    # The state is hidden from the indexes by state: the job is found by its id, however few jobs are in that state.
    values: dict[str, Any] = {"state": sa.literal_column(f"'{row.to_state}'")}
    values |= {name: sa.bindparam("now", type_=sa.BigInteger) for name in _stamped(row)}
    for place, (name, column) in zip(_PLACES, columns.items(), strict=False):
        value = given[place]
        values[column.name] = column + value if name.endswith(_ADD) else value
    statement = (
        sa.update(jobs)
        .values(values)
        .where(jobs.c.id == given["job_id"], _state_in(row.from_states, jobs.c.state + sa.literal_column("''")))
    )
    if fenced:
        statement = statement.where(jobs.c.fence == given["held_fence"])
    if unless_cancelling:
        statement = statement.where(jobs.c.cancel_requested_at.is_(None))
    if blind:
        return statement
    task = sa.func.coalesce(jobs.c.next_task, jobs.c.task)
    return statement.returning(jobs.c.id, jobs.c.fence, jobs.c.attempts, task, *_what_it_ends(row))


def _what_it_ends(row: Transition) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """The join that an end counts for, and the canvas that others may wait for: of a success only where it is a part."""
    if row.to_state not in TERMINAL_STATES:
        return sa.null().label("join_id"), sa.null().label("canvas")
    if row.to_state is JobState.SUCCEEDED:
        return jobs.c.join_id, sa.case((jobs.c.join_id.is_not(None), jobs.c.canvas), else_=sa.null()).label("canvas")
    return jobs.c.join_id, jobs.c.canvas


_NOW = sa.bindparam("now", type_=sa.BigInteger)


def _ready(limit: int) -> sa.Select[Any]:
    """Ids of the first jobs that may begin."""
    return (
        sa.select(jobs.c.id)
        .where(*_may_begin(_NOW))
        .order_by(jobs.c.priority.desc(), jobs.c.queued_at, jobs.c.id)
        .limit(sa.literal_column(str(int(limit))))
    )


def _may_begin(now: sa.ColumnElement[int], *, hidden: bool = False) -> tuple[sa.ColumnElement[bool], ...]:
    """What must hold of a job that begins; ``hidden`` keeps the state from the indexes, where the id finds the job."""
    column = jobs.c.state + sa.literal_column("''") if hidden else jobs.c.state
    return (
        _state_in(BY_VERB[Verb.BEGIN].from_states, column),
        jobs.c.held_by.is_(None),
        sa.or_(jobs.c.expires_at.is_(None), jobs.c.expires_at > now),
        not_paused(jobs.c.queue),
    )


def _claim_statement(facts: DialectFacts, limit: int) -> sa.UpdateBase:
    ready = _ready(limit)
    if facts.skip_locked:
        ready = ready.with_for_update(skip_locked=True)
    chosen = jobs.c.id.in_(ready.scalar_subquery()) if not facts.skip_locked else jobs.c.id.in_(ready)
    return _begin(_NOW).where(chosen).returning(*(jobs.c[name] for name in Claimed._fields))


def begin_one(now: sa.ColumnElement[int]) -> sa.Update:
    """The UPDATE that begins the job ``job_id`` if it may begin."""
    return _begin(now).where(jobs.c.id == sa.bindparam("job_id", type_=sa.String), *_may_begin(now, hidden=True))


def succeed_one(now: sa.ColumnElement[int]) -> sa.Update:
    """The UPDATE that ends the job ``job_id`` with the result ``new_result``, by the holder of ``held_fence``."""
    row = BY_VERB[Verb.SUCCEED]
    values: dict[str, Any] = {"state": sa.literal_column(f"'{row.to_state}'"), "error": sa.null()}
    values |= {"result": sa.bindparam("new_result", type_=sa.Text)} | dict.fromkeys(_stamped(row), now)
    return (
        sa.update(jobs)
        .values(values)
        .where(jobs.c.id == sa.bindparam("job_id", type_=sa.String))
        .where(_state_in(row.from_states, jobs.c.state + sa.literal_column("''")))
        .where(jobs.c.fence == sa.bindparam("held_fence", type_=sa.Integer))
    )


def _begin(now: sa.ColumnElement[int]) -> sa.Update:
    row = BY_VERB[Verb.BEGIN]
    nothing = sa.null()
    cleared = ("cancel_requested_at", "progress_done", "progress_total", "progress_message")
    values: dict[str, Any] = dict.fromkeys((*cleared, "custom_state", "custom_meta"), nothing)
    values |= {
        "state": sa.literal_column(f"'{row.to_state}'"),
        "fence": jobs.c.fence + sa.literal_column("1"),
        "attempts": jobs.c.attempts + sa.literal_column("1"),
        "worker_id": sa.bindparam("worker", type_=sa.String),
        "started_at": sa.func.coalesce(jobs.c.started_at, now),
    }
    values |= dict.fromkeys(_stamped(row), now)
    return sa.update(jobs).values(values)
