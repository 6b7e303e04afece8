"""The way to a broker: what a relay sends deliveries by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.ports.deliveries import Delivery


class Courier(Protocol):
    """Sends deliveries to one broker. Every call raises ``BrokerAway`` when it does not answer in time."""

    @property
    def label(self) -> str:
        """The broker for people: no password."""
        ...

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """Send in order, until one fails.

        Returns:
            How many the broker has confirmed. Whether it has the next one nobody knows: it is sent again.

        Raises:
            BrokerAway: it has confirmed none.
        """
        ...

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        """How many messages of each queue no worker has taken; a queue that cannot be counted is missing."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...
