"""The first schema: jobs, attempts, events, logs, workers, audit, sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_CLEANED = {
    "autovacuum_vacuum_threshold": 2000,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_analyze_threshold": 1000,
    "autovacuum_analyze_scale_factor": 0.02,
}


def upgrade() -> None:
    """Before the new code runs."""
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("fence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=True),
        sa.Column("args", sa.Text(), nullable=True),
        sa.Column("kwargs", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.String(length=255), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=20), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IS NULL OR (outcome = 'succeeded' OR outcome = 'failed' OR outcome = 'timeout' OR outcome = 'cancelled' OR outcome = 'abandoned' OR outcome = 'interrupted' OR outcome = 'retried' OR outcome = 'replaced' OR outcome = 'ignored' OR outcome = 'rejected')",
            name=op.f("ck_attempts_outcome"),
        ),
        sa.CheckConstraint("(finished_at IS NOT NULL) = (outcome IS NOT NULL)", name=op.f("ck_attempts_finished")),
        sa.PrimaryKeyConstraint("job_id", "fence", name=op.f("pk_attempts")),
        sqlite_with_rowid=False,
        postgresql_with=_CLEANED,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("verb", sa.String(length=50), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("pos", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("verb", sa.String(length=20), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        postgresql_with=_CLEANED,
    )
    op.create_index("ix_events_job_id", "events", ["job_id", "id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        unnumbered = sa.text("pos IS NULL")
        op.create_index("ix_events_unnumbered", "events", ["id"], unique=False, postgresql_where=unnumbered)
        op.create_index("uq_events_pos", "events", ["pos"], unique=True)
    op.create_table(
        "job_labels",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("name", "value", "submitted_at", "job_id", name=op.f("pk_job_labels")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_labels_job_id", "job_labels", ["job_id"], unique=False)
    op.create_table(
        "job_logs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.String(length=10), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_logs")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_logs_job_id", "job_logs", ["job_id", "id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.Column("kwargs", sa.Text(), nullable=False),
        sa.Column("next_task", sa.String(length=255), nullable=True),
        sa.Column("next_args", sa.Text(), nullable=True),
        sa.Column("next_kwargs", sa.Text(), nullable=True),
        sa.Column("canvas", sa.Text(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("rescues", sa.Integer(), nullable=False),
        sa.Column("retries_used", sa.Integer(), nullable=False),
        sa.Column("celery_retries", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("backoff", sa.Text(), nullable=True),
        sa.Column("timeout_seconds", sa.Float(), nullable=True),
        sa.Column("isolation", sa.String(length=10), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=True),
        sa.Column("run_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=True),
        sa.Column("worker_id", sa.String(length=255), nullable=True),
        sa.Column("held_by", sa.String(length=255), nullable=True),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("progress_done", sa.Float(), nullable=True),
        sa.Column("progress_total", sa.Float(), nullable=True),
        sa.Column("progress_message", sa.Text(), nullable=True),
        sa.Column("custom_state", sa.String(length=50), nullable=True),
        sa.Column("custom_meta", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("result_blob", sa.String(length=255), nullable=True),
        sa.Column("result_removed_at", sa.BigInteger(), nullable=True),
        sa.Column("idempotency_scope", sa.String(length=600), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("retry_of", sa.String(length=255), nullable=True),
        sa.Column("root_id", sa.String(length=255), nullable=True),
        sa.Column("parent_id", sa.String(length=255), nullable=True),
        sa.Column("schedule_id", sa.String(length=255), nullable=True),
        sa.Column("slot", sa.String(length=255), nullable=True),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.Column("origin", sa.String(length=20), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("traceparent", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state = 'cancelled' OR state = 'failed' OR state = 'succeeded' OR state = 'timeout')",
            name=op.f("ck_jobs_finished"),
        ),
        sa.CheckConstraint("(isolation = 'thread' OR isolation = 'process')", name=op.f("ck_jobs_isolation")),
        sa.CheckConstraint(
            "(state = 'scheduled' OR state = 'queued' OR state = 'running' OR state = 'retry_scheduled' OR state = 'succeeded' OR state = 'failed' OR state = 'timeout' OR state = 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_jobs_priority")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        postgresql_with=_CLEANED,
    )
    op.create_index("ix_jobs_by_queue", "jobs", ["queue", "submitted_at", "id"], unique=False)
    op.create_index("ix_jobs_by_state", "jobs", ["state", "submitted_at", "id"], unique=False)
    op.create_index("ix_jobs_by_task", "jobs", ["task", "submitted_at", "id"], unique=False)
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["state", "run_at"],
        unique=False,
        sqlite_where=sa.text("run_at IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("run_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_expires",
        "jobs",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("expires_at IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_finished",
        "jobs",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_held",
        "jobs",
        ["held_by"],
        unique=False,
        sqlite_where=sa.text("held_by IS NOT NULL"),
        postgresql_where=sa.text("held_by IS NOT NULL"),
    )
    op.create_index("ix_jobs_listed", "jobs", ["submitted_at", "id"], unique=False)
    op.create_index(
        "ix_jobs_ready",
        "jobs",
        ["state", sa.literal_column("priority DESC"), "queued_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_jobs_result_blob",
        "jobs",
        ["result_blob"],
        unique=False,
        sqlite_where=sa.text("result_blob IS NOT NULL"),
        postgresql_where=sa.text("result_blob IS NOT NULL"),
    )
    op.create_index(
        "uq_jobs_idempotency",
        "jobs",
        ["idempotency_scope", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_kind", "sessions", ["kind", "created_at"], unique=False)
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=50), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "blobs",
        sa.Column("ref", sa.String(length=36), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_blobs")),
    )
    counters = sa.table("counters", sa.column("name", sa.String), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "purged", "value": 0}])
