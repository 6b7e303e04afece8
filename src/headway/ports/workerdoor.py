"""What a managed worker may do beyond an engine of one process: it is told of jobs by messages, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from headway.model.commands import Begun, SubmitJob
from headway.ports.jobdoor import JobDoor


class NotBegun(Enum):
    """Why a delivery begins nothing. In all cases the message is acknowledged: what must be done again is sent again."""

    DUPLICATE = "duplicate"  # it runs, has ended, or is not due: somebody else's or nobody's any more
    LATER = "later"  # its queue is paused, or its last attempt cannot be stopped: it is sent again when it may begin


class WorkerDoor(JobDoor, Protocol):
    """See ``JobDoor``."""

    def begin_job(self, job_id: str, adopt: Callable[[], SubmitJob]) -> Begun | NotBegun:
        """Begin the job that a message names, under a new fence.

        Args:
            job_id: the message's id.
            adopt: reads the message as a submit; asked where nobody knows the id: it is stored and begun.

        Raises:
            StoreUnavailable: it may be repeated; a begin whose answer was lost lapses.
            InvalidRequest: the message of an unknown id says what cannot be stored.
        """
        ...

    def lost(self, job_id: str, fence: int) -> None:
        """The process that ran this attempt is gone: as the rescuer does, the job goes back to the queue, or fails."""
        ...

    def attempt(self, job_id: str, fence: int) -> Begun | None:
        """The attempt as it was begun, if it runs still under this fence; None where it has ended or was superseded."""
        ...

    def received(self, job_ids: Sequence[str]) -> None:
        """This worker has these messages and has not begun them."""
        ...

    def arrive(self, facts: Mapping[str, object]) -> None:
        """Write who this worker is, before it begins anything."""
        ...

    def leave(self) -> None:
        """This worker ends in good order: it holds nothing any more."""
        ...
