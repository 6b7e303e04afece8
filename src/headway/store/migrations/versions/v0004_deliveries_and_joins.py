"""Deliveries by a broker, paused queues, joins of canvas; the code of version 0003 works on it too."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_CLEANED = {
    "autovacuum_vacuum_threshold": 2000,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_analyze_threshold": 1000,
    "autovacuum_analyze_scale_factor": 0.02,
}
_LISTED_ID = sa.String(length=255).with_variant(sa.String(length=255, collation="C"), "postgresql")


def upgrade() -> None:
    """Before the new code runs. Old code leaves the new columns empty, which is what they mean to it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL statement_timeout = 0")
        op.drop_index("uq_events_pos", table_name="events")
        where = sa.text("pos IS NOT NULL")
        op.create_index("uq_events_pos", "events", ["pos"], unique=True, postgresql_where=where)
    for column in ("group_id", "join_id", "waits_for"):
        op.add_column("jobs", sa.Column(column, sa.String(length=255), nullable=True))
    op.add_column("jobs", sa.Column("children", sa.Text(), nullable=True))
    _index("ix_jobs_waits_for", "jobs", ["waits_for"], "waits_for IS NOT NULL")
    _index("ix_jobs_by_root", "jobs", ["root_id", "submitted_at", "id"], "root_id <> id")
    for column, kind in (("kind", sa.String(length=20)), ("pool", sa.String(length=20)), ("queues", sa.Text())):
        op.add_column("workers", sa.Column(column, kind, nullable=True))
    _deliveries()
    _joins()


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("job_id", _LISTED_ID, nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("taken_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_deliveries")),
        postgresql_with=_CLEANED,
    )
    _index("ix_deliveries_due", "deliveries", [sa.text("priority DESC"), "due_at", "job_id"], "due_at IS NOT NULL")
    op.create_table(
        "paused_queues",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_paused_queues")),
    )


def _joins() -> None:
    op.create_table(
        "joins",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_joins")),
        postgresql_with=_CLEANED,
    )
    _index("ix_joins_ended", "joins", ["ended_at"], "ended_at IS NOT NULL")
    op.create_table(
        "join_parts",
        sa.Column("join_id", sa.String(length=255), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("join_id", "job_id", name=op.f("pk_join_parts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "saved_groups",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_groups")),
    )
    op.create_index("ix_saved_groups_saved_at", "saved_groups", ["saved_at"], unique=False)


def _index(name: str, table: str, columns: list[Any], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=False, sqlite_where=condition, postgresql_where=condition)
