"""The relay: committed deliveries to the broker, and again where the broker or a worker lost them."""

from __future__ import annotations

from typing import Final

from headway.model.errors import BrokerAway
from headway.ports.courier import Courier
from headway.service import Context
from headway.service.deliveries import (
    deliveries_back,
    deliveries_sent,
    missing_messages,
    next_delivery,
    outstanding_deliveries,
    repair_deliveries,
    send_missing,
    take_deliveries,
)

_BATCH: Final = 200
_NET_SECONDS: Final = 1.0
_AWAY_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 5.0


class RelayPart:
    """See ``Part``. Woken by the topic ``work``: a job became ready. Any number of relays may run side by side.

    Args:
        ctx: the part's context.
        courier: to the broker; this part's own.
    """

    name = "relay"
    topic: str | None = "work"
    rest_seconds = 0.0

    def __init__(self, ctx: Context, courier: Courier) -> None:
        self._ctx = ctx
        self._courier = courier

    def run_once(self) -> float:
        """Send what is due; seconds until the next look."""
        taken = take_deliveries(self._ctx, _BATCH)
        if not taken:
            left = next_delivery(self._ctx)
            return _NET_SECONDS if left is None else min(max(left, 0.0), _NET_SECONDS)
        ids = [delivery.job_id for delivery in taken]
        try:
            sent = self._courier.send(taken)
        except BrokerAway:
            deliveries_back(self._ctx, ids, _AWAY_SECONDS)
            raise
        deliveries_sent(self._ctx, ids[:sent])
        if sent < len(ids):
            deliveries_back(self._ctx, ids[sent:], 0.0)
        return 0.0


class RedeliveryPart:
    """See ``Part``. Finds deliveries that were lost: by a worker that died, or by a broker that has fewer than it was given.

    Args:
        ctx: the part's context.
        courier: to the broker; this part's own.
    """

    name = "redelivery"
    topic: str | None = None
    rest_seconds = 0.0

    def __init__(self, ctx: Context, courier: Courier) -> None:
        self._ctx = ctx
        self._courier = courier
        self._before: dict[str, int] = {}

    def run_once(self) -> float:
        """Look once; seconds until the next look."""
        repair_deliveries(self._ctx)
        names = [name for name, one in outstanding_deliveries(self._ctx).items() if one.sent > one.received]
        if not names:
            self._before = {}
            return _LOOK_SECONDS
        missing = missing_messages(self._ctx, self._courier.waiting(names))
        # A message may be between two books at the moment of one look: only what is missing twice is lost.
        lost = {name: min(count, self._before.get(name, 0)) for name, count in missing.items()}
        self._before = missing
        if any(lost.values()):
            send_missing(self._ctx, {name: count for name, count in lost.items() if count})
            self._before = {}
        return _LOOK_SECONDS
