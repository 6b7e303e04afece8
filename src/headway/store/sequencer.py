"""The sequencer: the only place that needs a leader. It gives committed events their positions.

Where one process holds the one write transaction, that is the lock, and events are numbered as they are written.
Elsewhere an advisory lock is held until the numbering commits, so positions become visible in order and without gaps.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from headway.store.statements import Statements
from headway.store.tx import SqlTx

_BATCH = 5_000


def number_within(connection: Connection, statements: Statements, tx: SqlTx) -> int:
    """Write the transaction's events, with their positions if holding the transaction is the lock."""
    if not tx.has_events:
        return 0
    if statements.facts.sequencer_lock is not None:
        return tx.flush(None)
    head = int(statements.read_counter.fetch(connection, {"counter": "feed"})[0][0])
    count = tx.flush(head)
    statements.set_counter.fetch(connection, {"counter": "feed", "new_value": head + count})
    return count


def number_committed(connection: Connection, statements: Statements) -> int:
    """Number what is committed and has no position, if the lock is free; the caller commits."""
    lock = statements.facts.sequencer_lock
    if lock is None or not connection.exec_driver_sql(lock).scalar():
        return 0
    # A statement of its own after the lock: its snapshot then sees all that earlier holders numbered.
    rows = statements.unnumbered.run(connection, {"batch": _BATCH}).fetchall()
    if not rows:
        return 0
    head = int(statements.read_counter.fetch(connection, {"counter": "feed"})[0][0])
    statements.number_event.run_many(
        connection, [{"event_id": row[0], "new_pos": head + step} for step, row in enumerate(rows, start=1)]
    )
    statements.set_counter.fetch(connection, {"counter": "feed", "new_value": head + len(rows)})
    return len(rows)
