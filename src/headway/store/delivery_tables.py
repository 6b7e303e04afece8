"""The tables of delivery by a broker: what is to be sent, what was sent, and queues that are paused."""

from __future__ import annotations

import sqlalchemy as sa

from headway.store.tables import CLEANED, ListedId, metadata

# One row for each job that waits for a worker behind a broker; it goes when an attempt begins. Rows change twice within
# a second of their birth: the table has no more indexes than the relay needs.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("job_id", ListedId, primary_key=True),
    sa.Column("queue", sa.String(255), nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    # Not sent before; NULL once it was sent.
    sa.Column("due_at", sa.BigInteger),
    # A relay holds it and may have sent it: others leave it alone until it has had its time.
    sa.Column("taken_at", sa.BigInteger),
    sa.Column("sent_at", sa.BigInteger),
    sa.Column("sends", sa.Integer, nullable=False),
    # Who has received it and not begun it.
    sa.Column("worker_id", sa.String(255)),
    postgresql_with=CLEANED,
)
sa.Index(
    "ix_deliveries_due",
    deliveries.c.priority.desc(),
    deliveries.c.due_at,
    deliveries.c.job_id,
    sqlite_where=sa.text("due_at IS NOT NULL"),
    postgresql_where=sa.text("due_at IS NOT NULL"),
)

paused_queues = sa.Table(
    "paused_queues",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("paused_at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
