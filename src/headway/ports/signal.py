"""Wake-ups, apart from state: losing one may cost a poll, never a job."""

from __future__ import annotations

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

    def wait(self, topic: str, ticket: int, timeout: float) -> bool:
        """Block until the topic was notified after ``ticket`` was taken, or ``timeout`` seconds. True if notified."""
        ...
