"""What the routes need from outside, injected by bootstrap: the verbs of jobs and sessions, and the request's caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fastapi import Request

from headway.model.commands import SubmitJob
from headway.model.job import Job, Session
from headway.pbpk.places import Places

T = TypeVar("T")


class Verbs(Protocol):
    """The verbs that the routes call; each checks the actor's role, and takes the request's context first."""

    def submit_job(self, ctx: Any, command: SubmitJob, /) -> Job:
        """Accept a job."""
        ...

    def get_job(self, ctx: Any, job_id: str, /) -> Job:
        """One job as it is now."""
        ...

    def read_result(self, ctx: Any, job_id: str, /) -> str:
        """A job's result as JSON text."""
        ...

    def save_session(
        self, ctx: Any, session_id: str, kind: str, body: dict[str, Any], expected_version: int, /
    ) -> Session:
        """Create a session (expected version 0) or change the version that was read."""
        ...

    def get_session(self, ctx: Any, session_id: str, /) -> Session:
        """One session."""
        ...


class Caller(Protocol):
    """Who sent a request; the door of the web puts it into ``request.state.call``."""

    def context(self) -> Any:
        """What a verb is given first."""
        ...

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in a bounded pool of threads."""
        ...


@dataclass(frozen=True)
class Ways:
    """Everything that routes use.

    Attributes:
        verbs: of jobs and sessions.
        places: where files lie.
        now: UTC microseconds since the epoch.
        new_id: a new id for a session.
        missing: packages of the extra that are not installed.
    """

    verbs: Verbs
    places: Places
    now: Callable[[], int]
    new_id: Callable[[], str]
    missing: tuple[str, ...] = ()


def caller(request: Request) -> Caller:
    """The caller of a request."""
    found: Caller = request.state.call
    return found
