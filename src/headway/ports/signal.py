"""Wake-ups, apart from state: losing one may cost a poll, never a job."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Signal(Protocol):
    """Tells waiting threads that something changed.

    Obligations: ``notify`` never blocks; a waiter that took ``ticket`` before looking at the state cannot miss a
    ``notify`` that came after it.
    """

    def notify(self, topic: str) -> None:
        """Wake everybody who waits for the topic (in this process at once; elsewhere soon)."""
        ...

    def ticket(self, topic: str) -> int:
        """A number that grows with every ``notify`` of the topic; take it before reading the state."""
        ...

    def follow(self, topic: str) -> AbstractContextManager[None]:
        """Keep a topic that was made for one thing (a job, say) for the length of the block, and then let it go."""
        ...

    def wait(self, topic: str, ticket: int, timeout: float) -> bool:
        """Block until the topic was notified after ``ticket`` was taken, or ``timeout`` seconds. True if notified."""
        ...
