"""The sequencer: the only place that needs a leader. It gives committed events their positions.

Where one process holds the one write transaction, that is the lock, and events are numbered as they are written.
Elsewhere an advisory lock is held until the numbering commits, so positions become visible in order and without gaps.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from headway.store.prepared import Cursor
from headway.store.statements import Statements
from headway.store.tx import SqlTx

_BATCH = 5_000


def number_within(cursor: Cursor, statements: Statements, tx: SqlTx) -> int:
    """Write the transaction's events, with their positions if holding the transaction is the lock.

    Returns:
        How many there were.
    """
    count = tx.pending_events
    if not count or statements.facts.sequencer_lock is not None:
        tx.flush(None)
        return count
    head: int = statements.add_to_counter.value(cursor, {"counter": "feed", "step": count})
    tx.flush(head - count)
    return count


def number_committed(connection: Connection, statements: Statements) -> int:
    """Number what is committed and has no position, if the lock is free; the caller commits."""
    lock = statements.facts.sequencer_lock
    if lock is None or not connection.exec_driver_sql(lock).scalar():
        return 0
    # Statements of their own after the lock: their snapshots then see all that earlier holders numbered.
    head = statements.read_counter.read(connection, {"counter": "feed"}).scalar_one()
    count = statements.number_events.read(connection, {"head": head, "batch": _BATCH}).rowcount
    if count:
        statements.add_to_counter.read(connection, {"counter": "feed", "step": count})
    return count
