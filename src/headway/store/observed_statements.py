"""The statements of observations, compiled once for a dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

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
from headway.store.prepared import SIZES, ManyRows, Prepared, insert_many, positional, records
from headway.store.tables import jobs

# Writing a column that did not change would still move its entries in indexes: what changes together, and how often.
MOVED = ("state", "rank", "worker", "retries", "sent_at", "received_at", "started_at", "seen_at", "trail")
ENDED = ("result", "error", "traceback", "runtime", "finished_at", "gap")
DESCRIBED = ("name", "args", "kwargs", "queue", "root_id", "parent_id", "eta", "expires")
# So many of the next that wait for their time are looked at for those that are worth telling of.
_NEAR = 500


class ObservedStatements:
    """See the module."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        self.facts = facts
        ids = sa.select(sa.text(facts.ids).columns(sa.column("id", sa.String)).subquery("i").c.id)
        self.tasks = Prepared(sa.select(observed_tasks).where(observed_tasks.c.id.in_(ids)), dialect)
        self.jobs = Prepared(sa.select(jobs.c.id).where(jobs.c.id.in_(ids)), dialect)
        self.any_job = Prepared(sa.select(jobs.c.id).limit(1), dialect)
        self.insert = insert_many(observed_tasks, dialect, facts)
        self.updates = [
            _update(names, dialect, facts) for names in (MOVED, (*MOVED, *ENDED), (*MOVED, *ENDED, *DESCRIBED))
        ]
        self.counts = _add(observed_counts, dialect, facts)
        self.tallies = _add(observed_tallies, dialect, facts)
        self.workers = _put(observed_workers, dialect, facts)
        self.queues = _put(observed_queues, dialect, facts)
        self.gaps = _put(observed_gaps, dialect, facts)
        self.observers = _put(observers, dialect, facts)
        self.all_workers = Prepared(sa.select(observed_workers).order_by(observed_workers.c.hostname), dialect)
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
        began, ended = (sa.bindparam(name, type_=sa.BigInteger()) for name in ("began", "ended"))
        self.gaps_around = Prepared(
            sa.select(observed_gaps)
            .where(observed_gaps.c.began_at <= ended)
            .where(sa.or_(observed_gaps.c.ended_at.is_(None), observed_gaps.c.ended_at >= began)),
            dialect,
        )
        self.remove_gap = Prepared(
            sa.delete(observed_gaps).where(observed_gaps.c.id == sa.bindparam("gap_id", type_=sa.String())), dialect
        )
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
        self._prepare_report(dialect, ids)

    def _prepare_report(self, dialect: Dialect, ids: sa.Select[Any]) -> None:
        """What every situation report reads."""
        tasks = observed_tasks.c
        batch = sa.bindparam("batch", type_=sa.Integer())
        self.newest = Prepared(
            sa.select(observed_tasks).order_by(tasks.seen_first_at.desc(), tasks.id.desc()).limit(batch), dialect
        )
        # What an earlier version stored may be its own parent.
        child = sa.select(tasks.id).where(tasks.parent_id.is_not(None), tasks.parent_id != tasks.id).limit(batch)
        parent = sa.bindparam("parent", type_=sa.String())
        self.children = Prepared(
            child.where(tasks.parent_id == parent).order_by(tasks.seen_first_at, tasks.id), dialect
        )
        # In no order: all children of all of them would have to be read for it.
        self.called_by = Prepared(child.where(tasks.parent_id.in_(ids)), dialect)
        self.by_state = Prepared(sa.select(observed_counts), dialect)
        # The queue hidden in an expression: few tasks wait, and many were ever sent to a queue.
        queue = sa.func.coalesce(tasks.queue, sa.literal_column("''"))
        waits = tasks.state.in_([sa.literal_column("'PENDING'"), sa.literal_column("'RETRY'")])
        waiting = sa.select(queue, sa.func.count()).where(waits)
        self.waiting_by_queue = Prepared(waiting.group_by(queue), dialect)
        self.all_tallies = Prepared(sa.select(observed_tallies), dialect)
        self.all_queues = Prepared(sa.select(observed_queues).order_by(observed_queues.c.name), dialect)
        self.newest_gaps = Prepared(
            sa.select(observed_gaps).order_by(observed_gaps.c.began_at.desc()).limit(batch), dialect
        )
        missing = tasks.gap.is_not(None)
        self.missing_by_gap = Prepared(
            sa.select(tasks.gap, sa.func.count()).where(missing).group_by(tasks.gap), dialect
        )
        # Grouped by an expression: SQLite would else walk the whole index by state to have its groups in order.
        state = sa.func.coalesce(tasks.state, "")
        self.missing_by_state = Prepared(sa.select(state, sa.func.count()).where(missing).group_by(state), dialect)
        # Few tasks run, and many were ever run by a worker: its index would be the wrong one.
        worker = sa.func.coalesce(tasks.worker, "")
        orphaned = sa.and_(tasks.state == sa.literal_column("'STARTED'"), worker.in_(ids))
        self.orphans = Prepared(
            sa.select(observed_tasks).where(orphaned).order_by(tasks.seen_first_at).limit(batch), dialect
        )
        self.orphans_by_worker = Prepared(
            sa.select(worker, sa.func.count(), sa.func.count(tasks.gap)).where(orphaned).group_by(worker), dialect
        )
        after = sa.bindparam("after", type_=sa.BigInteger())
        # Of the next some: where a hundred thousand are left behind by a worker that is gone, not all are passed over.
        near = (
            sa.select(tasks.id.label("near_id"))
            .where(tasks.eta.is_not(None), tasks.finished_at.is_(None), tasks.eta > after)
            .order_by(tasks.eta)
            .limit(sa.literal_column(str(_NEAR)))
            .subquery()
        )
        self.upcoming = Prepared(
            sa.select(observed_tasks)
            .join(near, near.c.near_id == tasks.id)
            # Nobody holds it any more, or it may have ended.
            .where(worker.not_in(ids), tasks.gap.is_(None))
            .order_by(tasks.eta)
            .limit(batch),
            dialect,
        )


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
