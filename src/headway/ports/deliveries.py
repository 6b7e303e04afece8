"""Deliveries by a broker: what waits to be sent, what was sent, and queues that are paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Delivery(NamedTuple):
    """A job that waits for a worker behind a broker: everything that its message says, JSON still as text.

    Attributes:
        sends: how often it was sent before.
    """

    job_id: str
    task: str
    args_json: str
    kwargs_json: str
    canvas_json: str | None
    queue: str
    priority: int
    celery_retries: int
    timeout_seconds: float | None
    expires_at: int | None
    root_id: str | None
    parent_id: str | None
    traceparent: str | None
    sends: int


@dataclass(frozen=True, slots=True)
class PausedQueue:
    """A queue of which nothing begins; what was sent there waits."""

    name: str
    paused_at: int
    actor: str
    reason: str


class Outstanding(NamedTuple):
    """What of one queue was sent and not begun.

    Attributes:
        sent: how many a broker should hold, those that workers have taken included.
        received: how many of them workers have taken, as far as they have said so.
        unsent: how many wait for the relay.
        oldest_sent_at: UTC microseconds; None where nothing was sent.
    """

    sent: int
    received: int
    unsent: int
    oldest_sent_at: int | None


class DeliveryTx(Protocol):
    """Statements about deliveries inside one transaction.

    A delivery is there while its job is queued: a store that delivers writes and removes it with the job's transitions.
    """

    def take(self, limit: int, taken_before: int) -> list[Delivery]:
        """Take deliveries that are due, the most urgent first, none of a paused queue.

        They are nobody else's until they were sent, put back, or lie about: those taken before ``taken_before`` by
        somebody who never said so are given again.
        """
        ...

    def sent(self, job_ids: Sequence[str]) -> None:
        """A broker has these."""
        ...

    def put_back(self, job_ids: Sequence[str], due_at: int) -> None:
        """These could not be sent, or were received and may not begin: they are sent (again) from ``due_at`` on."""
        ...

    def received(self, worker_id: str, job_ids: Sequence[str]) -> None:
        """A worker has these and has not begun them."""
        ...

    def send_lost(self) -> int:
        """Let those be sent again whose receiver is gone; how many."""
        ...

    def send_again(self, queue: str, sent_before: int, limit: int) -> int:
        """Let the oldest that were sent before be sent again, and none that a worker has; how many."""
        ...

    def repair(self, limit: int) -> int:
        """Write deliveries of queued jobs that have none (they became ready while nobody delivered); how many."""
        ...

    def pause(self, name: str, actor: str, reason: str) -> bool:
        """Pause a queue; False when it is paused already."""
        ...

    def resume(self, name: str) -> bool:
        """Let a queue go on; False when it was not paused."""
        ...


class DeliveryReader(Protocol):
    """Reads of deliveries."""

    def paused(self) -> list[PausedQueue]:
        """The queues that are paused."""
        ...

    def outstanding(self) -> dict[str, Outstanding]:
        """By queue, what waits behind the broker or for the relay."""
        ...

    def next_due(self, taken_before: int) -> int | None:
        """When the next delivery is due, UTC microseconds; none of a paused queue, or taken since ``taken_before``."""
        ...
