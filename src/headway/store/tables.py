"""The tables, as SQLAlchemy Core. Checks are derived from the transition table.

Times are integer UTC microseconds, because SQLite loses time zones; JSON is text, because both databases
then hold the same bytes. Integer ids of logs, and of events in Postgres, are the database's own; the id of an event
in SQLite is its position; everything else is a string.
"""

from __future__ import annotations

import sqlalchemy as sa

from headway.model.states import TERMINAL_STATES, AttemptOutcome, JobState

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite only counts an INTEGER PRIMARY KEY by itself; Postgres wants 64 bits.
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Pages are merged and continued in the order of code points, which is not that of a database with a language's collation.
ListedId = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def _one_of(column: str, values: list[str]) -> str:
    # Not IN: SQLite builds a table of its list anew for every row that is checked, a fifth of an UPDATE's cost.
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"


STATE_CHECK = _one_of("state", [str(state) for state in JobState])
FINISHED_CHECK = f"(finished_at IS NOT NULL) = {_one_of('state', sorted(TERMINAL_STATES))}"
OUTCOME_CHECK = f"outcome IS NULL OR {_one_of('outcome', [str(outcome) for outcome in AttemptOutcome])}"

# Rows of these tables change several times within seconds of their birth: Postgres must clean up behind them long
# before a fifth of a million rows is dead, or a claim walks over thousands of dead entries to find the next job.
CLEANED = {
    "autovacuum_vacuum_threshold": 2000,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_analyze_threshold": 1000,
    "autovacuum_analyze_scale_factor": 0.02,
}

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", ListedId, primary_key=True),
    sa.Column("task", sa.String(255), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("queue", sa.String(255), nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("args", sa.Text, nullable=False),
    sa.Column("kwargs", sa.Text, nullable=False),
    # What a retry or a replacement made of task, args and kwargs for the next attempt; NULL is as submitted.
    sa.Column("next_task", sa.String(255)),
    sa.Column("next_args", sa.Text),
    sa.Column("next_kwargs", sa.Text),
    sa.Column("canvas", sa.Text),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("rescues", sa.Integer, nullable=False),
    sa.Column("retries_used", sa.Integer, nullable=False),
    sa.Column("celery_retries", sa.Integer, nullable=False),
    sa.Column("max_retries", sa.Integer, nullable=False),
    sa.Column("backoff", sa.Text),
    sa.Column("timeout_seconds", sa.Float),
    sa.Column("isolation", sa.String(10), nullable=False),
    sa.Column("submitted_at", sa.BigInteger, nullable=False),
    sa.Column("queued_at", sa.BigInteger),
    sa.Column("run_at", sa.BigInteger),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("heartbeat_at", sa.BigInteger),
    sa.Column("worker_id", sa.String(255)),
    # An attempt that cannot be stopped still runs at this worker: nothing of the job begins meanwhile.
    sa.Column("held_by", sa.String(255)),
    sa.Column("cancel_requested_at", sa.BigInteger),
    sa.Column("progress_done", sa.Float),
    sa.Column("progress_total", sa.Float),
    sa.Column("progress_message", sa.Text),
    sa.Column("custom_state", sa.String(50)),
    sa.Column("custom_meta", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("result_blob", sa.String(255)),
    sa.Column("result_removed_at", sa.BigInteger),
    sa.Column("idempotency_scope", sa.String(600)),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("retry_of", sa.String(255)),
    sa.Column("root_id", sa.String(255)),
    sa.Column("parent_id", sa.String(255)),
    sa.Column("schedule_id", sa.String(255)),
    sa.Column("slot", sa.String(255)),
    sa.Column("labels", sa.Text),
    sa.Column("origin", sa.String(20), nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("traceparent", sa.String(64)),
    # Canvas: the group it belongs to, the join that its end counts for, the join whose end makes it ready, and what
    # its attempt sent (Celery's tuples).
    sa.Column("group_id", sa.String(255)),
    sa.Column("join_id", sa.String(255)),
    sa.Column("waits_for", sa.String(255)),
    sa.Column("children", sa.Text),
    sa.CheckConstraint(STATE_CHECK, name="state"),
    sa.CheckConstraint(FINISHED_CHECK, name="finished"),
    sa.CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
    sa.CheckConstraint(_one_of("isolation", ["thread", "process"]), name="isolation"),
    postgresql_with=CLEANED,
)

sa.Index("ix_jobs_listed", jobs.c.submitted_at, jobs.c.id)
sa.Index("ix_jobs_by_state", jobs.c.state, jobs.c.submitted_at, jobs.c.id)
sa.Index("ix_jobs_by_task", jobs.c.task, jobs.c.submitted_at, jobs.c.id)
sa.Index("ix_jobs_by_queue", jobs.c.queue, jobs.c.submitted_at, jobs.c.id)
# They begin with the state although it is constant: SQLite prefers them then to the index by state.
for _name, _columns, _where in (
    ("ix_jobs_ready", (jobs.c.state, jobs.c.priority.desc(), jobs.c.queued_at, jobs.c.id), "state = 'queued'"),
    ("ix_jobs_due", (jobs.c.state, jobs.c.run_at), "run_at IS NOT NULL AND finished_at IS NULL"),
    ("ix_jobs_held", (jobs.c.held_by,), "held_by IS NOT NULL"),
    ("ix_jobs_finished", (jobs.c.finished_at,), "finished_at IS NOT NULL"),
    ("ix_jobs_result_blob", (jobs.c.result_blob,), "result_blob IS NOT NULL"),
    ("ix_jobs_expires", (jobs.c.expires_at,), "expires_at IS NOT NULL AND finished_at IS NULL"),
    ("ix_jobs_waits_for", (jobs.c.waits_for,), "waits_for IS NOT NULL"),
    # Those below a root: the root itself is found by its id.
    ("ix_jobs_by_root", (jobs.c.root_id, jobs.c.submitted_at, jobs.c.id), "root_id <> id"),
):
    sa.Index(_name, *_columns, sqlite_where=sa.text(_where), postgresql_where=sa.text(_where))
_KEYED = "idempotency_key IS NOT NULL"
sa.Index(
    "uq_jobs_idempotency",
    jobs.c.idempotency_scope,
    jobs.c.idempotency_key,
    unique=True,
    sqlite_where=sa.text(_KEYED),
    postgresql_where=sa.text(_KEYED),
)

job_labels = sa.Table(
    "job_labels",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("value", sa.String(255), primary_key=True),
    sa.Column("submitted_at", sa.BigInteger, primary_key=True),
    sa.Column("job_id", ListedId, primary_key=True),
    sqlite_with_rowid=False,
)
sa.Index("ix_job_labels_job_id", job_labels.c.job_id)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("job_id", sa.String(255), primary_key=True),
    sa.Column("fence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
    # NULL is as submitted: only a retry or a replacement that changed them writes them again.
    sa.Column("task", sa.String(255)),
    sa.Column("args", sa.Text),
    sa.Column("kwargs", sa.Text),
    sa.Column("worker_id", sa.String(255), nullable=False),
    sa.Column("begun_at", sa.BigInteger, nullable=False),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("outcome", sa.String(20)),
    sa.Column("error", sa.Text),
    sa.CheckConstraint(OUTCOME_CHECK, name="outcome"),
    sa.CheckConstraint("(finished_at IS NOT NULL) = (outcome IS NOT NULL)", name="finished"),
    sqlite_with_rowid=False,
    postgresql_with=CLEANED,
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("pos", sa.BigInteger),
    sa.Column("job_id", sa.String(255), nullable=False),
    sa.Column("task", sa.String(255), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("verb", sa.String(20), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("data", sa.Text),
    postgresql_with=CLEANED,
)
sa.Index("ix_events_job_id", events.c.job_id, events.c.id)
# In SQLite events are numbered as they are written: the id is the position, and the table itself is in its order.
# An event without a position, as each one is at first, needs no entry in it.
sa.Index("uq_events_pos", events.c.pos, unique=True, postgresql_where=sa.text("pos IS NOT NULL"))
sa.Index("ix_events_unnumbered", events.c.id, postgresql_where=sa.text("pos IS NULL"))
NOT_ON_SQLITE = frozenset({"uq_events_pos", "ix_events_unnumbered"})

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(50), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

job_logs = sa.Table(
    "job_logs",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String(255), nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("stream", sa.String(10), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("ix_job_logs_job_id", job_logs.c.job_id, job_logs.c.id)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("version", sa.String(50), nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("beat_at", sa.BigInteger, nullable=False),
    sa.Column("stopped_at", sa.BigInteger),
    # `embedded` (also NULL), `celery`, or `service` for a process that only relays and looks after what is due.
    sa.Column("kind", sa.String(20)),
    sa.Column("pool", sa.String(20)),
    sa.Column("queues", sa.Text),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("verb", sa.String(50), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Column("trace_id", sa.String(32)),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("kind", sa.String(50), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
)
sa.Index("ix_sessions_kind", sessions.c.kind, sessions.c.created_at)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("ref", sa.String(36), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("written_at", sa.BigInteger, nullable=False),
)
