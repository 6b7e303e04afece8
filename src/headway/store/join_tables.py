"""The tables of canvas: joins (what a chord waits for), their parts, and groups that were saved by name."""

from __future__ import annotations

import sqlalchemy as sa

from headway.store.tables import CLEANED, metadata

joins = sa.Table(
    "joins",
    metadata,
    # Celery's group id of the header.
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    # Ids of the parts as a nested JSON list, where the results are not simply in the order of the parts.
    sa.Column("shape", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    postgresql_with=CLEANED,
)
sa.Index(
    "ix_joins_ended",
    joins.c.ended_at,
    sqlite_where=sa.text("ended_at IS NOT NULL"),
    postgresql_where=sa.text("ended_at IS NOT NULL"),
)

join_parts = sa.Table(
    "join_parts",
    metadata,
    sa.Column("join_id", sa.String(255), primary_key=True),
    # A part counts once, however often it ran.
    sa.Column("job_id", sa.String(255), primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    # NULL where it succeeded.
    sa.Column("error", sa.Text),
    # Of a part whose job keeps no result.
    sa.Column("result", sa.Text),
    sqlite_with_rowid=False,
)

saved_groups = sa.Table(
    "saved_groups",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("saved_at", sa.BigInteger, nullable=False),
)
sa.Index("ix_saved_groups_saved_at", saved_groups.c.saved_at)
