"""What is observed of a Celery cluster, and ids in the order of code points; the code of version 0001 works on it too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CLEANED = {
    "autovacuum_vacuum_threshold": 2000,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_analyze_threshold": 1000,
    "autovacuum_analyze_scale_factor": 0.02,
}
_LISTED_ID = sa.String(length=255).with_variant(sa.String(length=255, collation="C"), "postgresql")
_TASK_INDEXES = (
    ("ix_observed_tasks_listed", ["seen_first_at", "id"], None),
    ("ix_observed_tasks_by_state", ["state", "seen_first_at", "id"], None),
    ("ix_observed_tasks_by_name", ["name", "seen_first_at", "id"], None),
    ("ix_observed_tasks_by_worker", ["worker", "seen_first_at", "id"], None),
    ("ix_observed_tasks_by_queue", ["queue", "seen_first_at", "id"], "queue IS NOT NULL"),
    ("ix_observed_tasks_by_root", ["root_id", "seen_first_at", "id"], "root_id <> id"),
    ("ix_observed_tasks_live", ["seen_first_at", "id"], "finished_at IS NULL"),
    ("ix_observed_tasks_finished", ["finished_at"], "finished_at IS NOT NULL"),
    ("ix_observed_tasks_eta", ["eta"], "eta IS NOT NULL AND finished_at IS NULL"),
    ("ix_observed_tasks_gap", ["gap"], "gap IS NOT NULL"),
)


def upgrade() -> None:
    """Before the new code runs."""
    _order_by_code_points()
    _tasks()
    op.create_table(
        "observed_workers",
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=True),
        sa.Column("offline_at", sa.BigInteger(), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hostname", name=op.f("pk_observed_workers")),
    )
    op.create_table(
        "observed_queues",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_observed_queues")),
    )
    op.create_table(
        "observed_gaps",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("observer", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.String(length=50), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("reconciled_at", sa.BigInteger(), nullable=True),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("recovered", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observed_gaps")),
    )
    op.create_index("ix_observed_gaps_began_at", "observed_gaps", ["began_at"], unique=False)
    op.create_table(
        "observed_counts",
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("state", name=op.f("pk_observed_counts")),
    )
    op.create_table(
        "observed_tallies",
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("label", sa.String(length=255), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "worker", "queue", "label", name=op.f("pk_observed_tallies")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "observers",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("watermark_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observers")),
    )


def _order_by_code_points() -> None:
    """Rebuilds indexes and no table: some seconds for a million jobs, in which nothing of them is read or written."""
    if op.get_bind().dialect.name == "postgresql":
        # However long it takes: begun again it would take as long.
        op.execute("SET LOCAL statement_timeout = 0")
        op.alter_column("jobs", "id", type_=_LISTED_ID, existing_nullable=False)
        op.alter_column("job_labels", "job_id", type_=_LISTED_ID, existing_nullable=False)


def _tasks() -> None:
    op.create_table(
        "observed_tasks",
        sa.Column("id", _LISTED_ID, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=True),
        sa.Column("worker", sa.String(length=255), nullable=True),
        sa.Column("retries", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("args", "kwargs", "result", "error", "traceback")),
        sa.Column("runtime", sa.Float(), nullable=True),
        *(
            sa.Column(name, sa.BigInteger(), nullable=True)
            for name in ("sent_at", "received_at", "started_at", "finished_at", "eta", "expires")
        ),
        sa.Column("root_id", sa.String(length=255), nullable=True),
        sa.Column("parent_id", sa.String(length=255), nullable=True),
        sa.Column("seen_first_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("gap", sa.String(length=36), nullable=True),
        sa.Column("trail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observed_tasks")),
        postgresql_with=_CLEANED,
    )
    for name, columns, where in _TASK_INDEXES:
        condition = sa.text(where) if where else None
        op.create_index(
            name, "observed_tasks", columns, unique=False, sqlite_where=condition, postgresql_where=condition
        )
