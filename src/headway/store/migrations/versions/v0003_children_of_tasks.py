"""Children of observed tasks are found by their parent; the code of version 0002 works on it too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Before the new code runs. A second or two for a million tasks, in which none of them is written."""
    if op.get_bind().dialect.name == "postgresql":
        # However long it takes: begun again it would take as long.
        op.execute("SET LOCAL statement_timeout = 0")
    where = sa.text("parent_id IS NOT NULL")
    op.create_index(
        "ix_observed_tasks_by_parent",
        "observed_tasks",
        ["parent_id", "seen_first_at", "id"],
        unique=False,
        sqlite_where=where,
        postgresql_where=where,
    )
