"""The same verbs over a store opened in this process. Nothing here runs jobs: that is the server's part."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self

from headway import service
from headway.client.api import Attempts, JobIds, Lines, StreamEvent
from headway.client.observed import LocalCluster
from headway.client.wire import event_json, job_json, line_json, progress_json
from headway.model.errors import WaitTimeout
from headway.model.states import TERMINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headway.model.actor import Actor
    from headway.model.commands import ListJobs, SubmitJob
    from headway.model.job import Job, Page, Workflow
    from headway.service import Context, Services

_LOOK_AGAIN: Final = 0.5
"""Seconds between looks while another process (on Postgres) may change the job without waking this one."""


class LocalClient(LocalCluster):
    """``JobsApi`` over services in this process.

    Args:
        services: the opened store and what belongs to it.
        actor: who is written beside every change.
        where: what is opened, for people.
        close: called once by ``close``.
        runs_jobs: whether other processes run what is stored here (a shared Postgres).
    """

    def __init__(
        self,
        services: Services,
        actor: Actor,
        *,
        where: str = "the local store",
        close: Callable[[], None] | None = None,
        runs_jobs: bool = False,
    ) -> None:
        self._services = services
        self._context: Context = service.Context(services=services, actor=actor)
        self._where = where
        self._close = close
        self._runs_jobs = runs_jobs

    @property
    def where(self) -> str:
        """What is opened."""
        return self._where

    @property
    def runs_jobs(self) -> bool:
        """Whether anybody runs what is submitted while this process has the store."""
        return self._runs_jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def send(self, command: SubmitJob) -> Job:
        """Accept a job; stored when this returns."""
        return service.submit_job(self._context, command)

    def submit_batch(self, commands: Sequence[SubmitJob]) -> JobIds:
        """Accept all of these or none; their ids in order."""
        return service.submit_batch(self._context, commands)

    def get(self, job_id: str) -> Job:
        """The job as it is now; ``JobNotFound``."""
        return service.get_job(self._context, job_id)

    def page(self, query: ListJobs) -> Page[Job]:
        """One page of jobs, newest first."""
        return service.list_jobs(self._context, query)

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Ask that the job stop; ``TransitionConflict`` when it has ended."""
        return service.cancel_job(self._context, job_id, reason)

    def rerun(self, job_id: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> Job:
        """Run it again as a new job, with other arguments where given."""
        return service.rerun_job(
            self._context,
            job_id,
            None if args is None else [*args],
            None if kwargs is None else dict(kwargs),
        )

    def attempts(self, job_id: str) -> Attempts:
        """All attempts, oldest first."""
        return service.list_attempts(self._context, job_id)

    def workflow(self, job_id: str, limit: int = 1000) -> Workflow:
        """All jobs of the workflow that a job belongs to, oldest first."""
        return service.read_workflow(self._context, job_id, limit)

    def logs(self, job_id: str, after: int = 0, limit: int = 1000) -> Lines:
        """Lines of the log with an id above ``after``, oldest first."""
        return service.read_logs(self._context, job_id, after, limit)

    def result(self, job_id: str) -> Any:
        """The result; ``ResultNotReady``, ``JobHasNoResult``, ``ResultGone``."""
        return self._services.codec.loads(service.read_result(self._context, job_id))

    def events(self, job_id: str, last_event_id: str = "") -> Iterator[StreamEvent]:
        """The job's stream to its end, by looking again and again (woken by this process's own changes)."""
        return self._follow(job_id, int(last_event_id or 0), None)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended; ``WaitTimeout`` after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        signal = self._services.signal
        while True:
            ticket = signal.ticket("feed")
            job = self.get(job_id)
            if job.state in TERMINAL_STATES:
                return job
            left = _LOOK_AGAIN if deadline is None else min(_LOOK_AGAIN, deadline - time.monotonic())
            if left <= 0:
                raise WaitTimeout(
                    f"Job {job_id} is {job.state} after {timeout:g} s; it goes on.", state=job.state.value
                )
            signal.wait("feed", ticket, left)

    def _follow(self, job_id: str, position: int, deadline: float | None) -> Iterator[StreamEvent]:
        signal = self._services.signal
        line_id, progress, ended = 0, None, False
        while deadline is None or time.monotonic() < deadline:
            ticket = signal.ticket("feed")
            job = self.get(job_id)
            for event in service.read_events(self._context, position, 1000, job_id):
                position, ended = event.pos, event.state in TERMINAL_STATES
                yield StreamEvent(event.state.value, event_json(event), str(event.pos))
            for line in self.logs(job_id, line_id):
                line_id = line.id
                yield StreamEvent("log", line_json(line))
            if job.progress is not None and job.progress != progress:
                progress = job.progress
                yield StreamEvent("progress", progress_json(progress) or {})
            if job.state in TERMINAL_STATES:
                if not ended:
                    # Its last transition has no position yet (nobody numbers here), or lies before the start.
                    yield StreamEvent("reset", job_json(job))
                return
            signal.wait("feed", ticket, _LOOK_AGAIN)
