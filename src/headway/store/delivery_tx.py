"""The statements behind the ports of deliveries."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from headway.ports.deliveries import Delivery, Outstanding, PausedQueue
from headway.store.access import Access
from headway.store.delivery_statements import DeliveryStatements
from headway.store.prepared import Cursor


class SqlDeliveryTx:
    """The ``DeliveryTx`` port inside one transaction.

    Args:
        cursor: the transaction's.
        statements: prepared.
        now: the transaction's time, UTC microseconds.
        wrote: called before each statement that writes.
    """

    def __init__(self, cursor: Cursor, statements: DeliveryStatements, now: int, wrote: Callable[[], None]) -> None:
        self._cursor = cursor
        self._statements = statements
        self._now = now
        self._wrote = wrote

    def take(self, limit: int, taken_before: int) -> list[Delivery]:
        """See ``DeliveryTx.take``."""
        self._wrote()
        given = {"now": self._now, "taken_before": taken_before}
        taken = self._statements.take(limit).rows(self._cursor, given)
        if not taken:
            return []
        found = self._statements.payload.rows(self._cursor, {"ids": json.dumps([row[0] for row in taken])})
        return [Delivery._make(row) for row in found]

    def sent(self, job_ids: Sequence[str]) -> None:
        """See ``DeliveryTx.sent``."""
        self._wrote()
        self._statements.sent.change(self._cursor, {"ids": json.dumps(list(job_ids)), "now": self._now})

    def put_back(self, job_ids: Sequence[str], due_at: int) -> None:
        """See ``DeliveryTx.put_back``."""
        self._wrote()
        self._statements.put_back.change(self._cursor, {"ids": json.dumps(list(job_ids)), "new_due_at": due_at})

    def received(self, worker_id: str, job_ids: Sequence[str]) -> None:
        """See ``DeliveryTx.received``."""
        self._wrote()
        self._statements.received.change(self._cursor, {"ids": json.dumps(list(job_ids)), "worker": worker_id})

    def send_lost(self) -> int:
        """See ``DeliveryTx.send_lost``."""
        self._wrote()
        return self._statements.send_lost.change(self._cursor, {"now": self._now})

    def send_again(self, queue: str, sent_before: int, limit: int) -> int:
        """See ``DeliveryTx.send_again``."""
        self._wrote()
        given = {"queue_name": queue, "sent_before": sent_before, "now": self._now}
        return self._statements.again(limit).change(self._cursor, given)

    def repair(self, limit: int) -> int:
        """See ``DeliveryTx.repair``."""
        self._wrote()
        return self._statements.repair.change(self._cursor, {"batch": limit})

    def pause(self, name: str, actor: str, reason: str) -> bool:
        """See ``DeliveryTx.pause``."""
        self._wrote()
        given = {"queue_name": name, "now": self._now, "new_actor": actor, "new_reason": reason}
        return self._statements.pause.change(self._cursor, given) == 1

    def resume(self, name: str) -> bool:
        """See ``DeliveryTx.resume``."""
        self._wrote()
        return self._statements.resume.change(self._cursor, {"queue_name": name}) == 1


class SqlDeliveryReader:
    """The ``DeliveryReader`` port over what a read may use."""

    def __init__(self, access: Access, statements: DeliveryStatements) -> None:
        self._access = access
        self._statements = statements

    def paused(self) -> list[PausedQueue]:
        """See ``DeliveryReader.paused``."""
        return [PausedQueue(*row) for row in self._access.rows(self._statements.paused, {})]

    def outstanding(self) -> dict[str, Outstanding]:
        """See ``DeliveryReader.outstanding``."""
        return {row[0]: Outstanding(*row[1:]) for row in self._access.rows(self._statements.outstanding, {})}

    def next_due(self, taken_before: int) -> int | None:
        """See ``DeliveryReader.next_due``."""
        found = self._access.rows(self._statements.next_due, {"taken_before": taken_before})
        return None if not found else found[0][0]
