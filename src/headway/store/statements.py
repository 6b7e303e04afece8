"""The prepared statements of one store beside those of the transitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from headway.model.states import LIVE_STATES
from headway.store.delivery_statements import DeliveryStatements
from headway.store.dialects import DialectFacts
from headway.store.join_tables import joins
from headway.store.joins import JoinStatements
from headway.store.observed_statements import ObservedStatements
from headway.store.prepared import SIZES, ManyRows, Prepared, insert_many, positional, records
from headway.store.rows import EVENT_COLUMNS, JOB_COLUMNS
from headway.store.steps import Steps
from headway.store.tables import attempts, audit, counters, events, job_labels, job_logs, jobs, sessions, workers
from headway.store.transitions import Claimed, Transitions

_RUNNING = jobs.c.state == sa.literal_column("'running'")
# Hidden from the index by state, which SQLite would take although it finds the whole backlog.
_WAITING = (jobs.c.state + "").in_([sa.literal_column(f"'{s}'") for s in ("scheduled", "queued", "retry_scheduled")])
DUE_STATES = ("scheduled", "retry_scheduled")
# The last two are what the partial index says, word for word.
DUE = sa.and_(
    jobs.c.state.in_([sa.literal_column(f"'{s}'") for s in DUE_STATES]),
    jobs.c.run_at.is_not(None),
    jobs.c.finished_at.is_(None),
)


def _p(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]] = sa.String) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=kind)


_Prepare = Callable[[sa.ClauseElement], Prepared]


# Nothing but texts that are the same for every database of a kind; they take a tenth of a second of CPU to compile.
_compiled: dict[tuple[str, str, DialectFacts], Statements] = {}


def statements_for(dialect: Dialect, facts: DialectFacts) -> Statements:
    """The statements of a kind of database, compiled once in a process."""
    kind = (dialect.name, dialect.driver, facts)
    if kind not in _compiled:
        _compiled[kind] = Statements(dialect, facts)
    return _compiled[kind]


class Statements:
    """Every statement of the write side, as the text that a dialect compiles it to."""

    def __init__(self, dialect: Dialect, facts: DialectFacts) -> None:
        def prepare(statement: sa.ClauseElement) -> Prepared:
            return Prepared(statement, dialect)

        self.facts = facts
        self.observed = ObservedStatements(dialect, facts)
        self.deliveries = DeliveryStatements(dialect, facts)
        self.transitions = Transitions(dialect, facts)
        self.steps = Steps(dialect, facts) if facts.round_trips else None
        self.joins = JoinStatements(dialect, facts)
        # Where holding the transaction is the sequencer's lock, an event's id is its position.
        self._position = events.c.id if facts.sequencer_lock is None else events.c.pos
        self.insert_events = insert_many(
            events, dialect, facts, without=() if facts.sequencer_lock is None else ("id",)
        )
        self.insert_logs = insert_many(job_logs, dialect, facts, without=("id",))
        self.insert_audit = insert_many(audit, dialect, facts, without=("id",))
        self.insert_labels = insert_many(job_labels, dialect, facts)
        self.insert_attempts = insert_many(attempts, dialect, facts)
        self.insert_worker = insert_many(workers, dialect, facts)
        self.insert_session = insert_many(sessions, dialect, facts)
        self.get_job = prepare(sa.select(*JOB_COLUMNS).where(jobs.c.id == _p("job_id")))
        self.get_result = prepare(
            sa.select(jobs.c.state, jobs.c.result, jobs.c.result_blob, jobs.c.result_removed_at).where(
                jobs.c.id == _p("job_id")
            )
        )
        self.find_key = prepare(
            sa.select(jobs.c.id, jobs.c.fingerprint).where(
                jobs.c.idempotency_scope == _p("scope"), jobs.c.idempotency_key == _p("key")
            )
        )
        self.fingerprint = prepare(sa.select(jobs.c.fingerprint).where(jobs.c.id == _p("job_id")))
        self.end_attempts = _end_attempts(dialect, facts)
        self.attempt_outcome = prepare(
            sa.select(attempts.c.outcome).where(
                attempts.c.job_id == _p("of_job"), attempts.c.fence == _p("of_fence", sa.Integer)
            )
        )
        self.running = prepare(
            sa.select(*(jobs.c[name] for name in Claimed._fields), attempts.c.begun_at)
            # Each by the id that was given: the two columns have different collations, which no index serves.
            .join(attempts, attempts.c.fence == jobs.c.fence)
            .where(jobs.c.id == _p("job_id"), attempts.c.job_id == _p("job_id"))
            .where(jobs.c.fence == _p("of_fence", sa.Integer), _RUNNING)
        )
        self.request_cancel = prepare(
            sa.update(jobs)
            .values(cancel_requested_at=sa.func.coalesce(jobs.c.cancel_requested_at, _p("now", sa.BigInteger)))
            .where(jobs.c.id == _p("job_id"), _RUNNING)
            .returning(jobs.c.fence)
        )
        self._prepare_report(prepare)
        self._prepare_upkeep(prepare, facts)
        self._prepare_documents(prepare)
        self._prepare_feed(prepare, dialect, facts)

    def _prepare_report(self, prepare: _Prepare) -> None:
        """What every situation report reads."""
        counted = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
        live = jobs.c.state.in_([sa.literal_column(f"'{state}'") for state in sorted(LIVE_STATES)])
        self.live_counts = prepare(counted.where(live))
        busy = jobs.c.state.in_([sa.literal_column("'queued'"), sa.literal_column("'running'")])
        by_queue = sa.select(jobs.c.queue, jobs.c.state, sa.func.count()).group_by(jobs.c.queue, jobs.c.state)
        self.queue_counts = prepare(by_queue.where(busy))
        self.ended_counts = prepare(
            counted.where(
                jobs.c.finished_at.is_not(None),
                jobs.c.finished_at > _p("after", sa.BigInteger),
                jobs.c.finished_at <= _p("until", sa.BigInteger),
            )
        )
        self.newest_jobs = prepare(
            sa.select(*JOB_COLUMNS)
            .order_by(jobs.c.submitted_at.desc(), jobs.c.id.desc())
            .limit(_p("batch", sa.Integer))
        )
        self.newest_workers = prepare(
            sa.select(workers).order_by(workers.c.beat_at.desc()).limit(_p("batch", sa.Integer))
        )
        self.upcoming = [
            prepare(
                sa.select(*JOB_COLUMNS)
                .where(jobs.c.state == sa.literal_column(f"'{state}'"), jobs.c.run_at.is_not(None))
                .where(jobs.c.finished_at.is_(None))
                .order_by(jobs.c.run_at)
                .limit(_p("batch", sa.Integer))
            )
            for state in DUE_STATES
        ]

    def _prepare_upkeep(self, prepare: _Prepare, facts: DialectFacts) -> None:
        self.due = prepare(
            sa.select(jobs.c.id, jobs.c.state)
            .where(DUE, jobs.c.run_at <= _p("now", sa.BigInteger))
            .order_by(jobs.c.run_at)
            .limit(_p("batch", sa.Integer))
        )
        self.expired = prepare(
            sa.select(jobs.c.id)
            .where(_WAITING, jobs.c.finished_at.is_(None), jobs.c.expires_at.is_not(None))
            .where(jobs.c.expires_at <= _p("now", sa.BigInteger))
            .limit(_p("batch", sa.Integer))
        )
        lapsed = (
            sa.select(
                jobs.c.id, jobs.c.fence, jobs.c.attempts, jobs.c.rescues, jobs.c.worker_id,
                jobs.c.cancel_requested_at, jobs.c.expires_at,
            )
            .where(_RUNNING, jobs.c.heartbeat_at < _p("before", sa.BigInteger))
            .order_by(jobs.c.heartbeat_at)
            .limit(_p("batch", sa.Integer))
        )  # fmt: skip
        self.lapsed = prepare(lapsed.with_for_update(skip_locked=True) if facts.skip_locked else lapsed)
        # While it is held no other attempt begins, so the job's fence is that of the attempt that holds it.
        self.release = prepare(
            sa.update(jobs)
            .values(held_by=sa.null())
            .where(jobs.c.id == _p("job_id"), jobs.c.held_by.is_not(None), jobs.c.fence == _p("of_fence", sa.Integer))
        )
        self.release_all = prepare(sa.update(jobs).values(held_by=sa.null()).where(jobs.c.held_by == _p("worker")))
        self.retire_worker = prepare(
            sa.update(workers).values(stopped_at=_p("now", sa.BigInteger)).where(
                workers.c.id == _p("worker"), workers.c.stopped_at.is_(None)
            )
        )  # fmt: skip
        self.retire_silent = prepare(
            sa.update(workers)
            .values(stopped_at=_p("now", sa.BigInteger))
            .where(workers.c.stopped_at.is_(None), workers.c.beat_at < _p("before", sa.BigInteger))
            .returning(workers.c.id)
        )
        self.renew_worker = prepare(
            # One that beats is not gone, whatever was thought of it.
            sa.update(workers)
            .values(beat_at=_p("now", sa.BigInteger), stopped_at=sa.null())
            .where(workers.c.id == _p("worker"))
        )

    def _prepare_documents(self, prepare: _Prepare) -> None:
        self.delete_log_before = prepare(
            sa.delete(job_logs).where(job_logs.c.job_id == _p("job_id"), job_logs.c.id < _p("first", BigInt))
        )
        self.log_cut = prepare(
            sa.select(job_logs.c.id)
            .where(job_logs.c.job_id == _p("job_id"))
            .order_by(job_logs.c.id.desc())
            .limit(1)
            .offset(_p("keep", sa.Integer))
        )
        self.result_ref = prepare(sa.select(jobs.c.result_blob).where(jobs.c.id == _p("job_id")))
        self.clear_result = prepare(
            sa.update(jobs)
            .values(result=sa.null(), result_blob=sa.null(), result_removed_at=_p("now", sa.BigInteger))
            .where(jobs.c.id == _p("job_id"))
        )
        self.change_session = prepare(
            sa.update(sessions)
            .values(
                body=_p("new_body"), version=_p("new_version", sa.Integer), updated_at=_p("now", sa.BigInteger),
                actor=_p("new_actor"),
            )
            .where(sessions.c.id == _p("of_session"), sessions.c.version == _p("expected", sa.Integer))
        )  # fmt: skip
        self.delete_session = prepare(sa.delete(sessions).where(sessions.c.id == _p("of_session")))
        self.session_exists = prepare(sa.select(sa.literal_column("1")).where(sessions.c.id == _p("of_session")))

    def _prepare_feed(self, prepare: _Prepare, dialect: Dialect, facts: DialectFacts) -> None:
        position = self._position
        # What was purged may have been the newest.
        purged = sa.select(counters.c.value).where(counters.c.name == sa.literal_column("'purged'"))
        known = sa.union_all(sa.select(sa.func.max(position).label("value")), purged).subquery()
        head = sa.select(sa.func.max(known.c.value))
        self.feed_head = prepare(head)
        self.feed_bounds = prepare(sa.select(purged.scalar_subquery(), head.scalar_subquery()))
        at_least = _p("at_least", sa.BigInteger)
        # Two may purge at once; the mark never goes back.
        self.mark_purged = prepare(
            sa.update(counters)
            .values(value=at_least)
            .where(counters.c.name == sa.literal_column("'purged'"), counters.c.value < at_least)
        )
        self.number_events = prepare(_number_events())
        columns = [position.label("pos") if column is events.c.pos else column for column in EVENT_COLUMNS]
        self.job_events = prepare(
            sa.select(*columns)
            .where(events.c.job_id == _p("job_id"), position > _p("after", sa.BigInteger))
            .order_by(position)
            .limit(_p("batch", sa.Integer))
        )
        self.all_events = prepare(
            sa.select(*columns)
            .where(position > _p("after", sa.BigInteger))
            .order_by(position)
            .limit(_p("batch", sa.Integer))
        )
        self.beat = _beat_statement(facts)
        self.set_log_text = prepare(
            sa.update(job_logs)
            .values(stream=sa.literal_column("'log'"), text=_p("new_text"))
            .where(job_logs.c.id == _p("line", sa.BigInteger))
        )
        self.purgeable = prepare(
            sa.select(jobs.c.id, jobs.c.result_blob)
            .where(jobs.c.finished_at.is_not(None), jobs.c.finished_at < _p("before", sa.BigInteger))
            # The sequencer may be giving positions to its events just now: a row that went would leave a gap.
            .where(~sa.exists().where(events.c.job_id == jobs.c.id, events.c.pos.is_(None)))
            # Its result is still to be joined with those of the others.
            .where(~sa.exists().where(joins.c.id == jobs.c.join_id, joins.c.ended_at.is_(None)))
            .order_by(jobs.c.finished_at)
            .limit(_p("batch", sa.Integer))
        )
        ids = sa.select(sa.text(facts.ids).columns(sa.column("id", sa.String)).subquery("i").c.id)
        self.last_position = prepare(sa.select(sa.func.max(events.c.pos)).where(events.c.job_id.in_(ids)))
        self.delete_of_jobs = [
            prepare(sa.delete(table).where(column.in_(ids)))
            for table, column in (
                (events, events.c.job_id),
                (attempts, attempts.c.job_id),
                (job_logs, job_logs.c.job_id),
                (job_labels, job_labels.c.job_id),
                (jobs, jobs.c.id),
            )
        ]
        self.known_blobs = prepare(sa.select(jobs.c.result_blob).where(jobs.c.result_blob.in_(ids)))


BigInt = sa.BigInteger


def _end_attempts(dialect: Dialect, facts: DialectFacts) -> ManyRows:
    kinds: dict[str, sa.types.TypeEngine[Any]] = {
        "ended_at": sa.BigInteger(),
        "new_outcome": sa.String(),
        "new_error": sa.Text(),
        "of_job": sa.String(),
        "of_fence": sa.Integer(),
    }

    def statement(given: Mapping[str, sa.ColumnElement[Any]]) -> sa.Update:
        return (
            sa.update(attempts)
            .values(finished_at=given["ended_at"], outcome=given["new_outcome"], error=given["new_error"])
            .where(attempts.c.job_id == given["of_job"], attempts.c.fence == given["of_fence"])
            .where(attempts.c.outcome.is_(None))
        )

    if not facts.round_trips:
        one, order = positional(
            statement({name: sa.bindparam(name, type_=kind) for name, kind in kinds.items()}), dialect
        )
        return ManyRows(one, None, order)
    many = {size: Prepared(statement(dict(records(kinds, size).subquery("r").c)), dialect).sql for size in SIZES}
    return ManyRows("", many, list(kinds))


def _number_events() -> sa.Update:
    # Taken in the order of their ids; positions follow on the feed's head, which the caller reads under the lock.
    waiting = (
        sa.select(events.c.id)
        .where(events.c.pos.is_(None))
        .order_by(events.c.id)
        .limit(_p("batch", sa.Integer))
        .subquery("waiting")
    )
    step = sa.func.row_number().over(order_by=waiting.c.id)
    numbered = sa.select(waiting.c.id, step.label("step")).subquery("numbered")
    position = _p("head", sa.BigInteger) + numbered.c.step
    told = (events.c.job_id, events.c.state)
    return sa.update(events).values(pos=position).where(events.c.id == numbered.c.id).returning(*told)


def _beat_statement(facts: DialectFacts) -> str:
    now, worker = facts.parameter("now"), facts.parameter("worker")
    kept = ", ".join(
        f"{column} = CASE WHEN r.moved & {flag} <> 0 THEN r.{source} ELSE jobs.{column} END"
        for column, source, flag in (
            ("progress_done", "done", 1),
            ("progress_total", "total", 1),
            ("progress_message", "message", 1),
            ("custom_state", "custom_state", 2),
            ("custom_meta", "custom_meta", 2),
        )
    )
    return f"""UPDATE jobs SET heartbeat_at = {now}, {kept} FROM {facts.reports}
        WHERE jobs.id = r.id AND jobs.fence = r.fence AND jobs.state || '' = 'running' AND jobs.worker_id = {worker}
        RETURNING jobs.id, jobs.fence, jobs.cancel_requested_at"""
