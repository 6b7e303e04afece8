"""The part of the store that knows what waits for the jobs of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from headway.model.commands import NewJoin


class JoinPart(NamedTuple):
    """One job that a join has counted.

    Attributes:
        error_json: why it did not succeed; None where it did.
        inline, blob: its result as JSON text, or the reference of a blob; neither is null.
        removed: its result was removed.
    """

    job_id: str
    error_json: str | None
    inline: str | None
    blob: str | None
    removed: bool


class Waiter(NamedTuple):
    """A job that waits; ``resent`` says that its arguments are those of a further attempt."""

    job_id: str
    args_json: str
    resent: bool
    canvas: str | None
    root_id: str | None


class WaitCounts(NamedTuple):
    """What an invariant checker asks of the joins, as ids.

    Attributes:
        joins: how many there are.
        overdue: joins whose parts have all ended, but which have not.
        miscounted: joins that count another number of parts than they have.
        stranded: jobs that wait for a join that has ended or is not there.
    """

    joins: int
    overdue: tuple[str, ...]
    miscounted: tuple[str, ...]
    stranded: tuple[str, ...]


class JoinTx(Protocol):
    """The statements about joins inside one transaction. A join that has ended changes no more."""

    def insert(self, joins: Sequence[NewJoin]) -> None:
        """Store joins; one that is there stays as it is."""
        ...

    def grow(self, join_id: str, parts: int) -> None:
        """Let a join wait for further parts."""
        ...

    def count(self, join_id: str, job_id: str, place: int, error_json: str | None, result: str | None) -> bool:
        """Count a part that has ended, once; whether that was the last one."""
        ...

    def is_complete(self, join_id: str) -> bool:
        """Whether a join that has not ended has all its parts."""
        ...

    def end(self, join_id: str) -> list[Any] | None:
        """End a join; its shape."""
        ...

    def parts(self, join_id: str) -> list[JoinPart]:
        """What a join has counted, by place."""
        ...

    def waiters(self, join_id: str) -> list[Waiter]:
        """The jobs that wait for a join."""
        ...

    def waiting_for_send(self, job_ids: Sequence[str]) -> list[str]:
        """Those of the jobs that wait until they are sent again."""
        ...

    def waited_for_send(self, job_id: str) -> bool:
        """Whether the job waits until it is sent again, or did when it ended."""
        ...

    def change_waiting(self, job_id: str, changes: Mapping[str, Any]) -> bool:
        """Write columns of a job that waits, and leave it waiting (for its time, say); False where it waits no more."""
        ...

    def save_group(self, group_id: str, result_json: str) -> None:
        """Keep a group's result under its id; a later one replaces it."""
        ...

    def delete_group(self, group_id: str) -> None:
        """Forget a group's result."""
        ...

    def purge(self, before: int) -> None:
        """Delete joins that ended and groups that were saved before a moment, UTC microseconds."""
        ...
