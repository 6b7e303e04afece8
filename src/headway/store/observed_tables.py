"""The tables of what is observed of a Celery cluster. Nothing here refers to a job, and no job refers to it."""

from __future__ import annotations

import sqlalchemy as sa

from headway.store.tables import CLEANED, ListedId, metadata

# An unknown state would be a fault of ours, not of what was observed: the service writes no others.
observed_tasks = sa.Table(
    "observed_tasks",
    metadata,
    sa.Column("id", ListedId, primary_key=True),
    sa.Column("name", sa.String(255)),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("queue", sa.String(255)),
    sa.Column("worker", sa.String(255)),
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("args", sa.Text),
    sa.Column("kwargs", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("traceback", sa.Text),
    sa.Column("runtime", sa.Float),
    sa.Column("sent_at", sa.BigInteger),
    sa.Column("received_at", sa.BigInteger),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("eta", sa.BigInteger),
    sa.Column("expires", sa.BigInteger),
    sa.Column("root_id", sa.String(255)),
    sa.Column("parent_id", sa.String(255)),
    sa.Column("seen_first_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("source", sa.String(20), nullable=False),
    sa.Column("gap", sa.String(36)),
    sa.Column("trail", sa.Text, nullable=False),
    postgresql_with=CLEANED,
)
_task = observed_tasks.c
sa.Index("ix_observed_tasks_listed", _task.seen_first_at, _task.id)
sa.Index("ix_observed_tasks_by_state", _task.state, _task.seen_first_at, _task.id)
sa.Index("ix_observed_tasks_by_name", _task.name, _task.seen_first_at, _task.id)
sa.Index("ix_observed_tasks_by_worker", _task.worker, _task.seen_first_at, _task.id)
for _name, _columns, _where in (
    ("ix_observed_tasks_by_queue", (_task.queue, _task.seen_first_at, _task.id), "queue IS NOT NULL"),
    ("ix_observed_tasks_by_root", (_task.root_id, _task.seen_first_at, _task.id), "root_id <> id"),
    ("ix_observed_tasks_by_parent", (_task.parent_id, _task.seen_first_at, _task.id), "parent_id IS NOT NULL"),
    ("ix_observed_tasks_live", (_task.seen_first_at, _task.id), "finished_at IS NULL"),
    ("ix_observed_tasks_finished", (_task.finished_at,), "finished_at IS NOT NULL"),
    ("ix_observed_tasks_eta", (_task.eta,), "eta IS NOT NULL AND finished_at IS NULL"),
    ("ix_observed_tasks_gap", (_task.gap,), "gap IS NOT NULL"),
):
    sa.Index(_name, *_columns, sqlite_where=sa.text(_where), postgresql_where=sa.text(_where))

observed_workers = sa.Table(
    "observed_workers",
    metadata,
    sa.Column("hostname", sa.String(255), primary_key=True),
    sa.Column("first_seen_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("heartbeat_at", sa.BigInteger),
    sa.Column("offline_at", sa.BigInteger),
    sa.Column("facts", sa.Text, nullable=False),
)

observed_queues = sa.Table(
    "observed_queues",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
)

observed_gaps = sa.Table(
    "observed_gaps",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("observer", sa.String(255), nullable=False),
    sa.Column("reason", sa.String(50), nullable=False),
    sa.Column("began_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("reconciled_at", sa.BigInteger),
    sa.Column("lost", sa.BigInteger, nullable=False),
    sa.Column("recovered", sa.BigInteger, nullable=False),
)
sa.Index("ix_observed_gaps_began_at", observed_gaps.c.began_at)

observed_counts = sa.Table(
    "observed_counts",
    metadata,
    sa.Column("state", sa.String(20), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# The counters and histograms of /metrics: what a scrape must never lose or count twice, so it is written with the events.
observed_tallies = sa.Table(
    "observed_tallies",
    metadata,
    sa.Column("kind", sa.String(30), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("worker", sa.String(255), primary_key=True),
    sa.Column("queue", sa.String(255), primary_key=True),
    sa.Column("label", sa.String(255), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)

observers = sa.Table(
    "observers",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    # All events that reached the observer before it are stored.
    sa.Column("watermark_at", sa.BigInteger, nullable=False),
    sa.Column("stopped_at", sa.BigInteger),
    sa.Column("facts", sa.Text, nullable=False),
)
