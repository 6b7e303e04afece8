"""The sequencer: the only place that needs a leader. It gives committed events their positions.

Where one process holds the one write transaction, that is the lock, and events are numbered as they are written.
Elsewhere an advisory lock is held until the numbering commits, so positions become visible in order and without gaps.
"""

from __future__ import annotations

from typing import Any

from headway.store.link import Link
from headway.store.prepared import Cursor
from headway.store.statements import Statements
from headway.store.tx import SqlTx

_BATCH = 5_000


def number_within(link: Link, statements: Statements, tx: SqlTx) -> int:
    """Write the transaction's events, with their positions if holding the transaction is the lock.

    Returns:
        How many there were.
    """
    count = tx.pending_events
    if not count or statements.facts.sequencer_lock is not None:
        tx.flush(None)
        return count
    if link.head is None:
        link.head = statements.feed_head.value(link.cursor, {})
    tx.flush(link.head)
    link.head += count
    return count


def number_committed(cursor: Cursor, statements: Statements) -> list[tuple[str, str]] | None:
    """Number what is committed and has no position, if the lock is free; the caller commits.

    Returns:
        (job id, state entered) of each event that has a position now; None where somebody else numbers.
    """
    lock = statements.facts.sequencer_lock
    assert lock is not None
    cursor.execute(lock)
    if not cursor.fetchall()[0][0]:
        return None
    # Statements of their own after the lock: their snapshots then see all that earlier holders numbered.
    head: int = statements.feed_head.value(cursor, {})
    found: list[Any] = statements.number_events.rows(cursor, {"head": head, "batch": _BATCH})
    return found
