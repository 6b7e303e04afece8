"""Observations of a cluster: the statements behind ``ObservedTx`` and ``ObservedReader``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from headway.model.evidence import OUR_STATE, CeleryState, Mark, ObservedTask
from headway.model.observed import Gap, ListTasks, ObservedQueue, ObservedWorker, Observer, Tally
from headway.model.states import JobState
from headway.store.access import Access
from headway.store.dialects import DialectFacts
from headway.store.observed_tables import (
    observed_counts,
    observed_gaps,
    observed_queues,
    observed_tallies,
    observed_tasks,
    observed_workers,
    observers,
)
from headway.store.prepared import SIZES, Cursor, ManyRows, Prepared, insert_many, positional, records
from headway.store.tables import jobs

_LOCK = "SELECT pg_advisory_xact_lock(5207063)"
_COLUMNS = tuple(column.name for column in observed_tasks.columns)
# Writing a column that did not change would still move its entries in indexes: what changes together, and how often.
_MOVED = ("state", "rank", "worker", "retries", "sent_at", "received_at", "started_at", "seen_at", "trail")
_ENDED = ("result", "error", "traceback", "runtime", "finished_at", "gap")
_DESCRIBED = ("name", "args", "kwargs", "queue", "root_id", "parent_id", "eta", "expires")
_TRAIL = _COLUMNS.index("trail")
_ENDING = itemgetter(*(_COLUMNS.index(name) for name in _ENDED))
_DESCRIBING = itemgetter(*(_COLUMNS.index(name) for name in _DESCRIBED))
assert [one.name for one in fields(ObservedTask)] == [*_COLUMNS, "found"]


def to_task(row: Sequence[Any]) -> ObservedTask:
    """A task from a row of all columns."""
    task = ObservedTask(*row)
    task.trail = [Mark(*mark) for mark in json.loads(row[_TRAIL])]
    task.found = tuple(row)
    return task


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _values(task: ObservedTask) -> list[Any]:
    values = list(task.values())
    values[_TRAIL] = _encode(task.trail)
    return values


def _kind(values: Sequence[Any], found: Sequence[Any] | None) -> int:
    """Which of the updates writes all that changed: 0 moved, 1 ended too, 2 everything."""
    if found is None or _DESCRIBING(values) != _DESCRIBING(found):
        return 2
    return int(_ENDING(values) != _ENDING(found))


def _places(statement: ManyRows) -> itemgetter[Any]:
    """Picks the values of an update from those of all columns."""
    return itemgetter(*(_COLUMNS.index("id" if name == "of_id" else name) for name in statement.columns))


class ObservedStatements:
    """The statements of observations, compiled once for a dialect."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        self.facts = facts
        ids = sa.select(sa.text(facts.ids).columns(sa.column("id", sa.String)).subquery("i").c.id)
        self.tasks = Prepared(sa.select(observed_tasks).where(observed_tasks.c.id.in_(ids)), dialect)
        self.jobs = Prepared(sa.select(jobs.c.id).where(jobs.c.id.in_(ids)), dialect)
        self.any_job = Prepared(sa.select(jobs.c.id).limit(1), dialect)
        self.insert = insert_many(observed_tasks, dialect, facts)
        self.updates = [
            _update(names, dialect, facts) for names in (_MOVED, (*_MOVED, *_ENDED), (*_MOVED, *_ENDED, *_DESCRIBED))
        ]
        self.counts = _add(observed_counts, dialect, facts)
        self.tallies = _add(observed_tallies, dialect, facts)
        self.workers = _put(observed_workers, dialect, facts)
        self.queues = _put(observed_queues, dialect, facts)
        self.gaps = _put(observed_gaps, dialect, facts)
        self.observers = _put(observers, dialect, facts)
        self.all_workers = Prepared(sa.select(observed_workers), dialect)
        self.all_observers = Prepared(sa.select(observers).order_by(observers.c.started_at.desc()), dialect)
        before = sa.bindparam("before", type_=sa.BigInteger())
        self.forget_workers = Prepared(sa.delete(observed_workers).where(observed_workers.c.seen_at < before), dialect)
        mark = (
            sa.update(observed_tasks)
            .values(gap=sa.bindparam("gap_id", type_=sa.String()))
            .where(observed_tasks.c.finished_at.is_(None), observed_tasks.c.gap.is_(None))
            .where(observed_tasks.c.seen_at < before)
        )
        self.mark_gap = Prepared(mark, dialect)
        self.mark_some = Prepared(mark.where(observed_tasks.c.id.in_(ids)), dialect)
        still_open = sa.select(observed_gaps).where(observed_gaps.c.ended_at.is_(None))
        self.gaps_open = Prepared(still_open.order_by(observed_gaps.c.began_at.desc()), dialect)
        closed = observed_gaps.c.ended_at.is_not(None)
        self.gaps_unread = Prepared(
            sa.select(observed_gaps).where(closed, observed_gaps.c.reconciled_at.is_(None)), dialect
        )
        self.forget_queues = Prepared(sa.delete(observed_queues).where(observed_queues.c.seen_at < before), dialect)
        self.forget_observers = Prepared(sa.delete(observers).where(observers.c.watermark_at < before), dialect)
        self.forget_gaps = Prepared(sa.delete(observed_gaps).where(closed, observed_gaps.c.ended_at < before), dialect)
        self.forget_tallies = Prepared(sa.delete(observed_tallies).where(observed_tallies.c.worker.in_(ids)), dialect)
        batch = sa.bindparam("batch", type_=sa.Integer())
        # Those that ended by their end, those that never did by their last sign: both have an index.
        old = sa.select(observed_tasks.c.id, observed_tasks.c.state)
        self.old = [
            Prepared(old.where(observed_tasks.c.finished_at.is_not(None), observed_tasks.c.finished_at < before)
                     .where(observed_tasks.c.seen_at < before).order_by(observed_tasks.c.finished_at).limit(batch), dialect),
            Prepared(old.where(observed_tasks.c.finished_at.is_(None), observed_tasks.c.seen_first_at < before)
                     .where(observed_tasks.c.seen_at < before).order_by(observed_tasks.c.seen_first_at).limit(batch), dialect),
        ]  # fmt: skip
        self.delete = Prepared(sa.delete(observed_tasks).where(observed_tasks.c.id.in_(ids)), dialect)


def _update(names: Sequence[str], dialect: Dialect, facts: DialectFacts) -> ManyRows:
    kinds = {name: observed_tasks.c[name].type for name in names} | {"of_id": sa.String()}

    def statement(given: Mapping[str, sa.ColumnElement[Any]]) -> sa.Update:
        return (
            sa.update(observed_tasks)
            .values({name: given[name] for name in names})
            .where(observed_tasks.c.id == given["of_id"])
        )

    if not facts.round_trips:
        # A parameter may not be called as the column it sets.
        given = {name: sa.bindparam(f"new_{name}", type_=kind) for name, kind in kinds.items()}
        one, order = positional(statement(given), dialect)
        return ManyRows(one, None, [name.removeprefix("new_") for name in order])
    many = {size: Prepared(statement(dict(records(kinds, size).subquery("r").c)), dialect).sql for size in SIZES}
    return ManyRows("", many, list(kinds))


def _put(table: sa.Table, dialect: Dialect, facts: DialectFacts, *, add: bool = False) -> ManyRows:
    """INSERT of whole rows that replaces those with the same key, or adds to their ``value``."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key.columns]

    def finished(insert: Any) -> Any:
        if add:
            changes = {"value": table.c.value + insert.excluded.value}
        else:
            changes = {name: insert.excluded[name] for name in names if name not in keys}
        return insert.on_conflict_do_update(index_elements=keys, set_=changes)

    if not facts.round_trips:
        one, order = positional(finished(sqlite.insert(table)), dialect, names)
        assert order == names
        return ManyRows(one, None, order)
    kinds = {column.name: column.type for column in table.columns}
    many = {}
    for size in SIZES:
        insert = postgresql.insert(table).from_select(names, records(kinds, size))
        many[size] = Prepared(finished(insert), dialect).sql
    return ManyRows("", many, names)


def _add(table: sa.Table, dialect: Dialect, facts: DialectFacts) -> ManyRows:
    return _put(table, dialect, facts, add=True)


class SqlObservedTx:
    """The ``ObservedTx`` port over a transaction's cursor."""

    def __init__(self, cursor: Cursor, statements: ObservedStatements, wrote: Any) -> None:
        self._cursor = cursor
        self._statements = statements
        self._wrote = wrote

    def lock(self) -> None:
        """See ``ObservedTx.lock``."""
        if self._statements.facts.sequencer_lock is not None:
            self._cursor.execute(_LOCK)
            self._cursor.fetchall()

    def tasks(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """See ``ObservedTx.tasks``."""
        found = self._statements.tasks.rows(self._cursor, {"ids": json.dumps(list(ids))})
        return {row[0]: to_task(row) for row in found}

    def jobs_among(self, ids: Sequence[str]) -> set[str]:
        """See ``ObservedTx.jobs_among``."""
        if not self._statements.any_job.rows(self._cursor, {}):
            return set()
        return {row[0] for row in self._statements.jobs.rows(self._cursor, {"ids": json.dumps(list(ids))})}

    def put_tasks(self, new: Sequence[ObservedTask], changed: Sequence[ObservedTask]) -> None:
        """See ``ObservedTx.put_tasks``."""
        self._wrote()
        statements = self._statements
        if new:
            inserted = [_values(task) for task in new]
            statements.insert.run(self._cursor, inserted)
            for task, values in zip(new, inserted, strict=True):
                task.found = tuple(values)
        rows: list[list[Any]] = [[], [], []]
        for task in changed:
            values = _values(task)
            rows[_kind(values, task.found)].append(values)
            task.found = tuple(values)
        for statement, of_kind in zip(statements.updates, rows, strict=True):
            if of_kind:
                pick = _places(statement)
                statement.run(self._cursor, [pick(values) for values in of_kind])

    def add_counts(self, changes: Mapping[str, int]) -> None:
        """See ``ObservedTx.add_counts``."""
        rows = [(state, change) for state, change in sorted(changes.items()) if change]
        if rows:
            self._wrote()
            self._statements.counts.run(self._cursor, rows)

    def add_tallies(self, tallies: Sequence[Tally]) -> None:
        """See ``ObservedTx.add_tallies``."""
        if tallies:
            self._wrote()
            rows = [(one.kind, one.name, one.worker, one.queue, one.label, one.value) for one in tallies]
            self._statements.tallies.run(self._cursor, rows)

    def workers(self) -> dict[str, ObservedWorker]:
        """See ``ObservedTx.workers``."""
        return {row[0]: _worker(row) for row in self._statements.all_workers.rows(self._cursor, {})}

    def put_workers(self, workers: Sequence[ObservedWorker]) -> None:
        """See ``ObservedTx.put_workers``."""
        if workers:
            self._wrote()
            self._statements.workers.run(
                self._cursor,
                [
                    (one.hostname, one.first_seen_at, one.seen_at, one.heartbeat_at, one.offline_at, _json(one.facts))
                    for one in workers
                ],
            )

    def forget(self, seen_before: int) -> None:
        """See ``ObservedTx.forget``."""
        self._wrote()
        statements, cursor = self._statements, self._cursor
        gone = {name.rpartition("@")[2] for name, one in self.workers().items() if one.seen_at < seen_before}
        for statement in (statements.forget_workers, statements.forget_queues, statements.forget_observers):
            statement.change(cursor, {"before": seen_before})
        statements.forget_gaps.change(cursor, {"before": seen_before})
        # A cluster that makes a new host for every worker would else use up all series there may be.
        gone -= {name.rpartition("@")[2] for name in self.workers()}
        if gone:
            statements.forget_tallies.change(cursor, {"ids": json.dumps(sorted(gone))})

    def put_queues(self, queues: Sequence[ObservedQueue]) -> None:
        """See ``ObservedTx.put_queues``."""
        if queues:
            self._wrote()
            self._statements.queues.run(self._cursor, [(one.name, one.seen_at, _json(one.facts)) for one in queues])

    def put_observer(self, observer: Observer) -> None:
        """See ``ObservedTx.put_observer``."""
        self._wrote()
        row = (observer.id, observer.started_at, observer.watermark_at, observer.stopped_at, _json(observer.facts))
        self._statements.observers.run(self._cursor, [row])

    def observers(self) -> list[Observer]:
        """See ``ObservedTx.observers``."""
        return [_observer(row) for row in self._statements.all_observers.rows(self._cursor, {})]

    def put_gap(self, gap: Gap) -> None:
        """See ``ObservedTx.put_gap``."""
        self._wrote()
        row = (
            gap.id, gap.observer, gap.reason, gap.began_at, gap.ended_at, gap.reconciled_at, gap.lost, gap.recovered,
        )  # fmt: skip
        self._statements.gaps.run(self._cursor, [row])

    def gaps_open(self) -> list[Gap]:
        """See ``ObservedTx.gaps_open``."""
        return [Gap(*row) for row in self._statements.gaps_open.rows(self._cursor, {})]

    def gaps_unread(self) -> list[Gap]:
        """See ``ObservedTx.gaps_unread``."""
        return [Gap(*row) for row in self._statements.gaps_unread.rows(self._cursor, {})]

    def mark_gap(self, gap_id: str, seen_before: int, ids: Sequence[str] | None = None) -> int:
        """See ``ObservedTx.mark_gap``."""
        self._wrote()
        parameters: dict[str, Any] = {"gap_id": gap_id, "before": seen_before}
        if ids is None:
            return self._statements.mark_gap.change(self._cursor, parameters)
        return self._statements.mark_some.change(self._cursor, {**parameters, "ids": json.dumps(list(ids))})

    def purge(self, seen_before: int, limit: int) -> dict[str, int]:
        """See ``ObservedTx.purge``."""
        found: list[tuple[Any, ...]] = []
        for statement in self._statements.old:
            found += statement.rows(self._cursor, {"before": seen_before, "batch": limit})
        if not found:
            return {}
        self._wrote()
        self._statements.delete.change(self._cursor, {"ids": json.dumps([row[0] for row in found])})
        gone: dict[str, int] = {}
        for _, state in found:
            gone[state] = gone.get(state, 0) + 1
        return gone


class SqlObservedReader:
    """The ``ObservedReader`` port over what a read may use."""

    def __init__(self, access: Access, statements: ObservedStatements) -> None:
        self._access = access
        self._statements = statements

    def task(self, task_id: str) -> ObservedTask | None:
        """See ``ObservedReader.task``."""
        return self.tasks([task_id]).get(task_id)

    def tasks(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """See ``ObservedReader.tasks``."""
        found = self._access.rows(self._statements.tasks, {"ids": json.dumps(list(ids))})
        return {row[0]: to_task(row) for row in found}

    def list_tasks(self, query: ListTasks, gone: Sequence[str], at: tuple[int, str] | None) -> list[ObservedTask]:
        """See ``ObservedReader.list_tasks``."""
        states = [one for one in CeleryState if not query.states or OUR_STATE[one] in query.states]
        if query.orphaned:
            if not gone:
                return []
            states = [one for one in states if OUR_STATE[one] is JobState.RUNNING]
        if not states:
            return []
        # One range of an index for each state, merged: a range over several could not give the order. And a root is
        # found by its id, the others by their root.
        wanted = [None] if len(states) == len(CeleryState) else states
        places: list[sa.ColumnElement[bool] | None] = [None]
        if query.root is not None:
            tasks = observed_tasks.c
            places = [tasks.id == query.root, sa.and_(tasks.root_id == query.root, tasks.root_id != tasks.id)]
        ranges = [_listed(query, gone, at, state, place) for state in wanted for place in places]
        found = self._rows(
            sa.union_all(*(sa.select(one.subquery()) for one in ranges)) if len(ranges) > 1 else ranges[0]
        )
        found.sort(key=lambda task: (task.seen_first_at, task.id), reverse=True)
        return found[: query.limit + 1]

    def live(self, after: tuple[int, str], limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.live``."""
        statement = (
            sa.select(observed_tasks)
            .where(observed_tasks.c.finished_at.is_(None))
            .where(
                sa.tuple_(observed_tasks.c.seen_first_at, observed_tasks.c.id)
                > sa.tuple_(sa.literal(after[0], sa.BigInteger), sa.literal(after[1]))
            )
            .order_by(observed_tasks.c.seen_first_at, observed_tasks.c.id)
            .limit(limit)
        )
        return self._rows(statement)

    def related(self, root_id: str, limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.related``."""
        others = (
            sa.select(observed_tasks)
            .where(observed_tasks.c.root_id == root_id, observed_tasks.c.root_id != observed_tasks.c.id)
            .order_by(observed_tasks.c.seen_first_at, observed_tasks.c.id)
            .limit(limit)
        )
        root = self.task(root_id)
        return [*([root] if root is not None else []), *self._rows(others)]

    def counts(self) -> dict[str, int]:
        """See ``ObservedReader.counts``."""
        found = self._access.connection.execute(sa.select(observed_counts))
        return {row.state: int(row.value) for row in found}

    def count_orphans(self, gone: Sequence[str]) -> tuple[int, int]:
        """See ``ObservedReader.count_orphans``."""
        if not gone:
            return 0, 0
        statement = sa.select(sa.func.count(), sa.func.count(observed_tasks.c.gap)).where(
            observed_tasks.c.state == "STARTED", observed_tasks.c.worker.in_(list(gone))
        )
        row = self._access.connection.execute(statement).one()
        return int(row[0]), int(row[1])

    def orphans(self, gone: Sequence[str], limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.orphans``."""
        if not gone:
            return []
        statement = (
            sa.select(observed_tasks)
            .where(observed_tasks.c.state == "STARTED", observed_tasks.c.worker.in_(list(gone)))
            .order_by(observed_tasks.c.seen_first_at)
            .limit(limit)
        )
        return self._rows(statement)

    def upcoming(self, after: int, limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.upcoming``."""
        statement = (
            sa.select(observed_tasks)
            .where(observed_tasks.c.eta.is_not(None), observed_tasks.c.finished_at.is_(None))
            .where(observed_tasks.c.eta > after)
            .order_by(observed_tasks.c.eta)
            .limit(limit)
        )
        return self._rows(statement)

    def unresolved(self) -> dict[str, int]:
        """See ``ObservedReader.unresolved``."""
        # Grouped by an expression: SQLite would else walk the whole index by state to have its groups in order.
        state = sa.func.coalesce(observed_tasks.c.state, "")
        statement = sa.select(state, sa.func.count()).where(observed_tasks.c.gap.is_not(None)).group_by(state)
        return {row[0]: int(row[1]) for row in self._access.connection.execute(statement)}

    def oldest_waiting(self, queue: str) -> int | None:
        """See ``ObservedReader.oldest_waiting``."""
        # The queue hidden in an expression: few tasks wait, and many were ever sent to a queue.
        statement = sa.select(sa.func.min(observed_tasks.c.sent_at)).where(
            observed_tasks.c.state == "PENDING",
            sa.func.coalesce(observed_tasks.c.queue, "") == queue,
            observed_tasks.c.eta.is_(None),
            observed_tasks.c.gap.is_(None),
        )
        found: int | None = self._access.connection.execute(statement).scalar()
        return found

    def tallies(self) -> list[Tally]:
        """See ``ObservedReader.tallies``."""
        return [Tally(*row) for row in self._access.connection.execute(sa.select(observed_tallies))]

    def workers(self) -> list[ObservedWorker]:
        """See ``ObservedReader.workers``."""
        statement = sa.select(observed_workers).order_by(observed_workers.c.hostname)
        return [_worker(row) for row in self._access.connection.execute(statement)]

    def queues(self) -> list[ObservedQueue]:
        """See ``ObservedReader.queues``."""
        statement = sa.select(observed_queues).order_by(observed_queues.c.name)
        return [
            ObservedQueue(row.name, row.seen_at, json.loads(row.facts))
            for row in self._access.connection.execute(statement)
        ]

    def gaps(self, limit: int) -> list[Gap]:
        """See ``ObservedReader.gaps``."""
        statement = sa.select(observed_gaps).order_by(observed_gaps.c.began_at.desc()).limit(limit)
        found = [Gap(*row) for row in self._access.connection.execute(statement)]
        of_gap = (
            sa.select(observed_tasks.c.gap, sa.func.count())
            .where(observed_tasks.c.gap.is_not(None))
            .group_by(observed_tasks.c.gap)
        )
        unresolved = {row[0]: int(row[1]) for row in self._access.connection.execute(of_gap)}
        return [replace(gap, unresolved=unresolved.get(gap.id, 0)) for gap in found]

    def observers(self) -> list[Observer]:
        """See ``ObservedReader.observers``."""
        statement = sa.select(observers).order_by(observers.c.started_at.desc())
        return [_observer(row) for row in self._access.connection.execute(statement)]

    def _rows(self, statement: Any) -> list[ObservedTask]:
        return [to_task(tuple(row)) for row in self._access.connection.execute(statement)]


def _listed(
    query: ListTasks,
    gone: Sequence[str],
    at: tuple[int, str] | None,
    state: CeleryState | None,
    place: sa.ColumnElement[bool] | None,
) -> sa.Select[Any]:
    tasks = observed_tasks.c
    statement = sa.select(observed_tasks)
    if state is not None:
        statement = statement.where(tasks.state == state.value)
    for column, wanted in ((tasks.name, query.name), (tasks.queue, query.queue), (tasks.worker, query.worker)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if place is not None:
        statement = statement.where(place)
    if query.orphaned:
        statement = statement.where(tasks.worker.in_(list(gone)))
    if query.since is not None:
        statement = statement.where(tasks.seen_first_at >= query.since)
    if query.until is not None:
        statement = statement.where(tasks.seen_first_at < query.until)
    if query.text:
        statement = statement.where(_holds(query.text))
    if at is not None:
        position = sa.tuple_(sa.literal(at[0], sa.BigInteger), sa.literal(at[1]))
        statement = statement.where(sa.tuple_(tasks.seen_first_at, tasks.id) < position)
    return statement.order_by(tasks.seen_first_at.desc(), tasks.id.desc()).limit(query.limit + 1)


def _holds(text: str) -> sa.ColumnElement[bool]:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    tasks = observed_tasks.c
    return sa.or_(
        tasks.id.like(f"{escaped}%", escape="\\"),
        *(
            column.ilike(f"%{escaped}%", escape="\\")
            for column in (tasks.name, tasks.error, tasks.args, tasks.kwargs, tasks.result)
        ),
    )


def _worker(row: Any) -> ObservedWorker:
    hostname, first_seen_at, seen_at, heartbeat_at, offline_at, facts = row
    return ObservedWorker(hostname, first_seen_at, seen_at, heartbeat_at, offline_at, json.loads(facts))


def _observer(row: Any) -> Observer:
    observer_id, started_at, watermark_at, stopped_at, facts = row
    return Observer(observer_id, started_at, watermark_at, stopped_at, json.loads(facts))


def _json(value: Any) -> str:
    return _encode(value)
