"""Jobs that threads of this process wait for, handed to them by whoever records their end."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from headway.model.job import Job


class Seat:
    """One thread's wait for one job, for the length of a ``with`` block.

    Attributes:
        job: the job as it ended, once somebody of this process has recorded that.
    """

    __slots__ = ("_endings", "job", "job_id")

    def __init__(self, endings: Endings, job_id: str) -> None:
        self._endings = endings
        self.job_id = job_id
        self.job: Job | None = None

    def __enter__(self) -> Self:
        self._endings.seat(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._endings.unseat(self)


class Endings:
    """Who waits for which job.

    A job that ends is read in the transaction of its end, where its row is at hand: a waiter that asks the database
    by itself, on a connection that must first find out what changed, takes several times as long. Ends that are
    recorded elsewhere, or by a verb that does not hand them over, are read as ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: dict[str, list[Seat]] = {}

    def expect(self, job_id: str) -> Seat:
        """A seat for who waits for the job."""
        return Seat(self, job_id)

    def awaited(self, job_id: str) -> bool:
        """Whether somebody waits for the job."""
        return job_id in self._seats

    def hand_over(self, job: Job) -> None:
        """Give an ended job to everybody who waits for it; call it once its end is durable."""
        with self._lock:
            for seat in self._seats.get(job.id, ()):
                seat.job = job

    def seat(self, seat: Seat) -> None:
        """Let a seat wait."""
        with self._lock:
            self._seats.setdefault(seat.job_id, []).append(seat)

    def unseat(self, seat: Seat) -> None:
        """Forget a seat."""
        with self._lock:
            waiting = self._seats[seat.job_id]
            waiting.remove(seat)
            if not waiting:
                del self._seats[seat.job_id]
