"""The job that the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from headway.engine.errors import NoCurrentJob


class CurrentJob(Protocol):
    """What the body of a task can know and say of its own job; the same in threads and child processes."""

    @property
    def id(self) -> str:
        """The job's id."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this try; the first is 1."""
        ...

    @property
    def fence(self) -> int:
        """The number under which this attempt runs.

        It only grows, so a store of the task's own can refuse writes that carry a lower one than it has seen.
        """
        ...

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that came with the job, or None."""
        ...

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the job is; readers see at most four changes a second, and always the last one.

        Args:
            done: units done so far, in whatever unit ``total`` is in; a report that is not a finite number is dropped.
            total: units there are in all; None when nobody knows.
            message: what happens right now, one line.
        """
        ...

    def log(self, text: str) -> None:
        """Add to the job's log; each line of ``text`` is a line of the log."""
        ...

    def cancelled(self) -> bool:
        """Whether the job should stop: it was cancelled, its time is over, or another attempt took its place.

        A task in a thread cannot be killed: one that runs long asks this in its loop and returns when it is True.
        """
        ...


_current: ContextVar[CurrentJob | None] = ContextVar("headway_current_job", default=None)


def current_job() -> CurrentJob:
    """The job whose task is running here.

    Returns:
        The job's id, attempt and fence, and the ways to report progress, write its log and see a cancel.

    Raises:
        NoCurrentJob: no job is running in this thread (or this context).
    """
    job = _current.get()
    if job is None:
        raise NoCurrentJob("No job runs here, so there is no current job.")
    return job
