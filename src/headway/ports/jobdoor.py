"""The door through which an engine works: implemented by the service, injected by bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from headway.model.commands import BeatAnswer, BeatReport, Begun, Finish, FinishAnswer, NewJoin, NewLogLine, SubmitJob
from headway.model.job import Job


class JobDoor(Protocol):
    """All an engine may do with jobs. Every call raises ``StoreUnavailable`` when the database does not answer.

    A call that raised may or may not have been committed: all of them may be repeated with the same
    arguments, because the fence makes a repeated ``finish`` answer what the first one recorded.
    """

    def begin(self, limit: int) -> list[Begun]:
        """Take at most ``limit`` queued jobs, each under a new fence; they are running when this returns.

        A crash after it leaves running jobs that the rescuer returns to the queue.
        """
        ...

    def finish_and_begin(self, finishes: Sequence[Finish], limit: int) -> tuple[list[FinishAnswer], list[Begun]]:
        """Record finishes and take further jobs in one commit (a slot's way from one job to its next).

        Returns:
            One answer per finish, in order, and the begun jobs. An answer is only given once it is durable.
        """
        ...

    def finish(self, finish: Finish) -> FinishAnswer:
        """Record how an attempt ended, once, if it still holds the job's fence."""
        ...

    def beat(self, reports: Sequence[BeatReport]) -> BeatAnswer:
        """Renew the lease of these attempts (all this worker executes) and carry their progress."""
        ...

    def log(self, lines: Sequence[NewLogLine]) -> None:
        """Store log lines; rides along with the next commit and is lost with a crash before it."""
        ...

    def release(self, job_id: str, fence: int) -> None:
        """A held attempt's thread has returned: the job may begin again."""
        ...

    def submit_many(self, commands: Sequence[SubmitJob], joins: Sequence[NewJoin] = ()) -> list[str]:
        """Accept jobs sent by a task's body or a script, all or none; stored when this returns their ids, in order.

        ``joins`` are what some of them wait for, stored with them.
        """
        ...

    def get(self, job_id: str) -> Job | None:
        """The job as it is now, or None when nobody knows it."""
        ...

    def result_json(self, job_id: str) -> str | None:
        """The stored result as JSON text; None when there is none (``ResultGone`` when it was removed)."""
        ...

    def forget(self, job_id: str) -> None:
        """Remove the job's result, keeping the job."""
        ...

    def save_group(self, group_id: str, result_json: str) -> None:
        """Keep a group's result under its id, for as long as jobs are kept."""
        ...

    def saved_group(self, group_id: str) -> str | None:
        """A group's result as it was saved, or None."""
        ...

    def delete_group(self, group_id: str) -> None:
        """Forget a group's result."""
        ...

    def wait(self, job_id: str, timeout: float | None) -> Job | None:
        """Block until the job is terminal (woken by signal) or ``timeout`` seconds went by; the job as it is then."""
        ...

    def await_work(self, limit: Callable[[], int], timeout: float) -> list[Begun]:
        """Block until the queue may hold a job, or ``timeout`` seconds went by.

        ``limit`` is asked at the moment of the claim: an engine that drains wants none by then.

        Returns at once when the last claim was given all that it asked for (or there was none).

        Returns:
            At most ``limit`` jobs that were begun in the very commit that queued them; often none: look with ``begin``.
        """
        ...
