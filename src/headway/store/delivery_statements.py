"""The prepared statements about deliveries."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from headway.store.delivery_tables import deliveries, paused_queues
from headway.store.dialects import DialectFacts
from headway.store.prepared import Prepared
from headway.store.tables import jobs, workers

_QUEUED = jobs.c.state == sa.literal_column("'queued'")
_BIG = sa.BigInteger
_ZERO: sa.ColumnElement[int] = sa.literal_column("0")


def _p(name: str, kind: Any = sa.String) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=kind)


def not_paused(queue: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the queue of this column is not paused."""
    return ~sa.exists().where(paused_queues.c.name == queue)


class DeliveryStatements:
    """Every statement about deliveries, as the text that a dialect compiles it to."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        def prepare(statement: sa.ClauseElement) -> Prepared:
            return Prepared(statement, dialect)

        self._facts = facts
        ids = sa.select(sa.text(facts.ids).columns(sa.column("id", sa.String)).subquery("i").c.id)
        now = _p("now", _BIG)
        d, nothing = deliveries.c, sa.null()
        self.write = prepare(self._write(dialect, sa.select(*_NEW).where(jobs.c.id.in_(ids), _QUEUED)))
        self.remove = prepare(sa.delete(deliveries).where(d.job_id.in_(ids)))
        self.sent = prepare(
            sa.update(deliveries)
            .values(sent_at=now, due_at=nothing, taken_at=nothing, worker_id=nothing, sends=d.sends + 1)
            # A worker may have been quicker than we are: its job has begun, and the row is gone.
            .where(d.job_id.in_(ids), d.due_at.is_not(None))
        )
        self.put_back = prepare(
            sa.update(deliveries)
            .values(due_at=_p("new_due_at", _BIG), taken_at=nothing, sent_at=nothing, worker_id=nothing)
            .where(d.job_id.in_(ids))
        )
        self.received = prepare(
            sa.update(deliveries)
            .values(worker_id=_p("worker"))
            .where(d.job_id.in_(ids), sa.or_(d.worker_id.is_(None), d.worker_id != _p("worker")))
        )
        gone = sa.exists().where(workers.c.id == d.worker_id, workers.c.stopped_at.is_(None))
        self.send_lost = prepare(
            sa.update(deliveries)
            .values(due_at=now, taken_at=nothing, sent_at=nothing, worker_id=nothing)
            .where(d.worker_id.is_not(None), ~gone)
        )
        self.repair = prepare(
            self._write(
                dialect,
                sa.select(*_NEW)
                .where(_QUEUED, ~sa.exists().where(d.job_id == jobs.c.id))
                .limit(_p("batch", sa.Integer)),
            )
        )
        self.pause = prepare(self._pause(dialect))
        self.resume = prepare(sa.delete(paused_queues).where(paused_queues.c.name == _p("queue_name")))
        self.paused = prepare(sa.select(*paused_queues.c).order_by(paused_queues.c.name))
        self.outstanding = prepare(
            sa.select(
                d.queue,
                sa.func.count(d.sent_at),
                sa.func.count(d.worker_id),
                sa.func.count(d.due_at),
                sa.func.min(d.sent_at),
            ).group_by(d.queue)
        )
        self.next_due = prepare(
            sa.select(sa.func.min(d.due_at))
            .where(d.due_at.is_not(None), not_paused(d.queue))
            .where(sa.or_(d.taken_at.is_(None), d.taken_at < _p("taken_before", _BIG)))
        )
        self.payload = prepare(
            sa.select(*_PAYLOAD)
            .join(deliveries, d.job_id == jobs.c.id)
            .where(d.job_id.in_(ids))
            .order_by(d.priority.desc(), d.due_at, d.job_id)
        )
        self._dialect = dialect
        self._takes: dict[int, Prepared] = {}
        self._again: dict[int, Prepared] = {}

    def take(self, limit: int) -> Prepared:
        """Take at most ``limit``. The limit is part of the text, for the planner."""
        if limit not in self._takes:
            self._takes[limit] = Prepared(self._take(limit), self._dialect)
        return self._takes[limit]

    def again(self, limit: int) -> Prepared:
        """Make at most ``limit`` due again."""
        if limit not in self._again:
            self._again[limit] = Prepared(self._send_again(limit), self._dialect)
        return self._again[limit]

    def _take(self, limit: int) -> sa.UpdateBase:
        d = deliveries.c
        due = (
            sa.select(d.job_id)
            .where(d.due_at.is_not(None), d.due_at <= _p("now", _BIG), not_paused(d.queue))
            .where(sa.or_(d.taken_at.is_(None), d.taken_at < _p("taken_before", _BIG)))
            .order_by(d.priority.desc(), d.due_at, d.job_id)
            .limit(sa.literal_column(str(int(limit))))
        )
        if self._facts.skip_locked:
            due = due.with_for_update(skip_locked=True)
        taken = sa.update(deliveries).values(taken_at=_p("now", _BIG)).where(d.job_id.in_(due.scalar_subquery()))
        return taken.returning(d.job_id)

    def _send_again(self, limit: int) -> sa.UpdateBase:
        d = deliveries.c
        lost = (
            sa.select(d.job_id)
            .where(d.queue == _p("queue_name"), d.due_at.is_(None), d.worker_id.is_(None))
            .where(d.sent_at < _p("sent_before", _BIG))
            .order_by(d.sent_at)
            .limit(sa.literal_column(str(int(limit))))
        )
        values = {"due_at": _p("now", _BIG), "taken_at": sa.null(), "sent_at": sa.null()}
        return sa.update(deliveries).values(values).where(d.job_id.in_(lost.scalar_subquery()))

    def _write(self, dialect: Dialect, rows: sa.Select[Any]) -> sa.ClauseElement:
        make: Any = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        insert = make(deliveries).from_select(_NAMES, rows)
        new = insert.excluded
        kept = {"queue": new.queue, "priority": new.priority, "due_at": new.due_at}
        emptied = dict.fromkeys(("taken_at", "sent_at", "worker_id"), sa.null())
        statement: sa.ClauseElement = insert.on_conflict_do_update(index_elements=["job_id"], set_={**kept, **emptied})
        return statement

    def _pause(self, dialect: Dialect) -> sa.ClauseElement:
        make: Any = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        given = {
            "name": _p("queue_name"),
            "paused_at": _p("now", _BIG),
            "actor": _p("new_actor"),
            "reason": _p("new_reason"),
        }
        statement: sa.ClauseElement = make(paused_queues).values(given).on_conflict_do_nothing()
        return statement


_NAMES = ("job_id", "queue", "priority", "due_at", "sends")
# Ready since then: that is the order in which they are sent.
_NEW = (jobs.c.id, jobs.c.queue, jobs.c.priority, sa.func.coalesce(jobs.c.queued_at, jobs.c.submitted_at), _ZERO)
_PAYLOAD = (
    jobs.c.id,
    sa.func.coalesce(jobs.c.next_task, jobs.c.task),
    sa.func.coalesce(jobs.c.next_args, jobs.c.args),
    sa.func.coalesce(jobs.c.next_kwargs, jobs.c.kwargs),
    jobs.c.canvas,
    jobs.c.queue,
    jobs.c.priority,
    jobs.c.celery_retries,
    jobs.c.timeout_seconds,
    jobs.c.expires_at,
    jobs.c.root_id,
    jobs.c.parent_id,
    jobs.c.traceparent,
    deliveries.c.sends,
)
"""The columns of a ``Delivery``, in its order."""
