"""What can be done with jobs from outside, whatever stands behind: a server, or a store opened in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from headway.model.job import Attempt, Job, LogLine, Page, Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headway.model.commands import ListJobs, SubmitJob
    from headway.model.observed import ListTasks

Attempts = list[Attempt]
Lines = list[LogLine]
JobIds = list[str]


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a job's stream.

    Attributes:
        event: the state entered, or ``progress``, ``log`` or ``reset``.
        data: what it says; for ``reset`` the job as it is.
        id: where to resume after it; empty for events that are not numbered.
    """

    event: str
    data: dict[str, Any] = field(default_factory=dict)
    id: str = ""


class ClusterApi(Protocol):
    """What is observed of a cluster, as JSON values in REST's spelling."""

    @property
    def where(self) -> str:
        """What stands behind, for people: a URL or a data directory."""
        ...

    def sitrep(self) -> dict[str, Any]:
        """The situation report."""
        ...

    def tasks(self, query: ListTasks) -> dict[str, Any]:
        """A page of tasks, jobs among them, newest first: ``items`` and ``next_cursor``."""
        ...

    def task(self, task_id: str) -> dict[str, Any]:
        """One task with everything that was said of it; ``TaskNotFound``."""
        ...

    def related(self, task_id: str) -> list[dict[str, Any]]:
        """The tasks of the same chain, group or chord, oldest first."""
        ...

    def workers(self) -> list[dict[str, Any]]:
        """All workers."""
        ...

    def queues(self) -> list[dict[str, Any]]:
        """All queues."""
        ...

    def pause_queue(self, name: str, reason: str = "") -> bool:
        """Pause a queue: nothing of it begins; False where it is paused already."""
        ...

    def resume_queue(self, name: str, reason: str = "") -> bool:
        """Let a queue go on; False where it was not paused."""
        ...

    def gaps(self) -> list[dict[str, Any]]:
        """Times in which events may have been missed, the newest first."""
        ...


class JobsApi(ClusterApi, Protocol):
    """The verbs of jobs, and what is observed. Every method raises a ``HeadwayError`` with the code of what went wrong."""

    @property
    def where(self) -> str:
        """What stands behind, for people: a URL or a data directory."""
        ...

    @property
    def runs_jobs(self) -> bool:
        """Whether something behind this runs what is submitted, as long as it is used."""
        ...

    def send(self, command: SubmitJob) -> Job:
        """Accept a job; stored when this returns."""
        ...

    def submit_batch(self, commands: Sequence[SubmitJob]) -> JobIds:
        """Accept all of these or none; their ids in order."""
        ...

    def get(self, job_id: str) -> Job:
        """The job as it is now; ``JobNotFound``."""
        ...

    def page(self, query: ListJobs) -> Page[Job]:
        """One page of jobs, newest first."""
        ...

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Ask that the job stop; ``TransitionConflict`` when it has ended."""
        ...

    def rerun(self, job_id: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> Job:
        """Run it again as a new job, with these arguments instead of its own where given."""
        ...

    def attempts(self, job_id: str) -> Attempts:
        """All attempts, oldest first."""
        ...

    def workflow(self, job_id: str, limit: int = 1000) -> Workflow:
        """All jobs of the workflow that a job belongs to, oldest first."""
        ...

    def logs(self, job_id: str, after: int = 0, limit: int = 1000) -> Lines:
        """Lines of the log with an id above ``after``, oldest first."""
        ...

    def result(self, job_id: str) -> Any:
        """The result; ``ResultNotReady``, ``JobHasNoResult``, ``ResultGone``."""
        ...

    def events(self, job_id: str, last_event_id: str = "") -> Iterator[StreamEvent]:
        """The job's stream from its start (or after an id) to its end, across lost connections."""
        ...

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended; ``WaitTimeout`` after ``timeout`` seconds."""
        ...

    def close(self) -> None:
        """Let go of connections or of the store."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
