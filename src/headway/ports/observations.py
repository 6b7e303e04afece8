"""What is observed of a cluster: how it is stored, and the door through which observers record it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from headway.model.evidence import Evidence, ObservedTask
from headway.model.observed import Gap, ListTasks, ObservedQueue, ObservedWorker, Observer, Tally


class ObservedTx(Protocol):
    """Statements about observations inside one transaction. They never touch a job."""

    def lock(self) -> None:
        """Let no other process record observations until the transaction ends."""
        ...

    def tasks(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """The tasks of these ids that are known."""
        ...

    def jobs_among(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are jobs of ours: what is said of them is no observation."""
        ...

    def put_tasks(self, new: Sequence[ObservedTask], changed: Sequence[ObservedTask]) -> None:
        """Insert tasks and write changed ones. ``lock`` must be held."""
        ...

    def add_counts(self, changes: Mapping[str, int]) -> None:
        """Add to the number of tasks in each Celery state."""
        ...

    def add_tallies(self, tallies: Sequence[Tally]) -> None:
        """Add to the counters of ``/metrics``."""
        ...

    def workers(self) -> dict[str, ObservedWorker]:
        """All workers known."""
        ...

    def put_workers(self, workers: Sequence[ObservedWorker]) -> None:
        """Insert or replace workers."""
        ...

    def forget(self, seen_before: int) -> None:
        """Remove workers, queues, observers and closed gaps of before, and the counters of hosts that are gone so long."""
        ...

    def put_queues(self, queues: Sequence[ObservedQueue]) -> None:
        """Insert or replace queues."""
        ...

    def put_observer(self, observer: Observer) -> None:
        """Insert or replace an observer."""
        ...

    def observers(self) -> list[Observer]:
        """All observers, the newest first."""
        ...

    def put_gap(self, gap: Gap) -> None:
        """Insert or replace a gap."""
        ...

    def gaps_around(self, began_at: int, ended_at: int) -> list[Gap]:
        """Gaps that have a moment of this time in them; one that is open goes on for ever."""
        ...

    def remove_gap(self, gap_id: str) -> None:
        """Remove a gap that turned out to be none, if it is there."""
        ...

    def gaps_open(self) -> list[Gap]:
        """Gaps that have not been closed, the newest first."""
        ...

    def gaps_unread(self) -> list[Gap]:
        """Gaps that were closed, and of which not all that can be known was asked for."""
        ...

    def mark_gap(self, gap_id: str, seen_before: int, ids: Sequence[str] | None = None) -> int:
        """Note on every task that has not ended, and was last heard of before, that its end may lie in the gap.

        Args:
            gap_id: of the gap.
            seen_before: UTC microseconds.
            ids: only these tasks; None is all.
        """
        ...

    def purge(self, seen_before: int, limit: int) -> dict[str, int]:
        """Delete tasks last heard of before; how many of each Celery state."""
        ...


class ObservedReader(Protocol):
    """Reads of observations."""

    def task(self, task_id: str) -> ObservedTask | None:
        """One task."""
        ...

    def tasks(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """The tasks of these ids that are known."""
        ...

    def list_tasks(self, query: ListTasks, gone: Sequence[str], at: tuple[int, str] | None) -> list[ObservedTask]:
        """At most ``query.limit + 1`` tasks, newest first, below the keyset position ``at``.

        Args:
            query: its cursor is not read.
            gone: workers that count as gone, for ``query.orphaned``.
            at: (seen_first_at, id).
        """
        ...

    def live(self, after: tuple[int, str], limit: int) -> list[ObservedTask]:
        """Tasks that have not ended, oldest first, above the position (seen_first_at, id)."""
        ...

    def related(self, root_id: str, limit: int) -> list[ObservedTask]:
        """Tasks with this root, oldest first."""
        ...

    def children(self, task_id: str, limit: int) -> list[str]:
        """Ids of tasks whose parent this is, oldest first; no task is its own child."""
        ...

    def called_by(self, ids: Sequence[str], limit: int) -> list[str]:
        """Ids of tasks whose parent is one of these, in no order."""
        ...

    def counts(self) -> dict[str, int]:
        """How many tasks are in each Celery state."""
        ...

    def count_orphans(self, gone: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Of each worker that is gone: how many tasks it runs by all that is known, and how many of them are in a gap."""
        ...

    def orphans(self, gone: Sequence[str], limit: int) -> list[ObservedTask]:
        """Tasks that are running by all that is known, on workers that are gone; oldest first."""
        ...

    def upcoming(self, after: int, gone: Sequence[str], limit: int) -> list[ObservedTask]:
        """Tasks that wait for a time after this one, the next first.

        Left out are those on workers that are gone, and those whose end may have been missed.
        """
        ...

    def waiting_by_queue(self) -> dict[str, int]:
        """Tasks of which a message waits by all that is known, by their queue; "" where that is not known.

        They were sent, or are to be tried again, and nothing was heard of them since.
        """
        ...

    def unresolved(self) -> dict[str, int]:
        """How many tasks there are in each Celery state whose end may have been missed."""
        ...

    def oldest_waiting(self, queue: str) -> int | None:
        """When the oldest task was sent that is known to wait in the queue."""
        ...

    def tallies(self) -> list[Tally]:
        """All counters of ``/metrics``."""
        ...

    def workers(self) -> list[ObservedWorker]:
        """All workers, by name."""
        ...

    def queues(self) -> list[ObservedQueue]:
        """All queues, by name."""
        ...

    def gaps_open(self) -> list[Gap]:
        """Gaps that have not been closed, the newest first; ``unresolved`` is not counted."""
        ...

    def gaps(self, limit: int) -> list[Gap]:
        """The newest gaps, newest first, with how many tasks are unresolved in each."""
        ...

    def observers(self) -> list[Observer]:
        """All observers, the newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a batch: how many sayings were new, duplicates, or of jobs of ours."""

    new: int = 0
    duplicates: int = 0
    of_jobs: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What an observer heard.

    Attributes:
        evidence: in the order of arrival.
        seen_at: when the last of it arrived.
        watermark_at: everything that arrived before is in this batch or an earlier one.
        workers: heartbeats and answers; facts are merged over those known.
        facts: of the observer: counts of what it heard.
    """

    evidence: Sequence[Evidence] = ()
    seen_at: int = 0
    watermark_at: int | None = None
    workers: Sequence[ObservedWorker] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class ObservationDoor(Protocol):
    """All an observer may do. Every call raises ``StoreUnavailable`` when the database does not answer.

    A call that raised may be repeated with the same arguments: what was already recorded is a duplicate then.
    """

    def begin(self, observer_id: str, facts: Mapping[str, Any]) -> Gap | None:
        """An observer starts.

        Returns:
            The gap that is open since the last one's watermark: stored when it is closed, or when it was open
            already. None where nobody watched before.
        """
        ...

    def end(self) -> None:
        """The observer stops in good order: what it heard until its last watermark is stored."""
        ...

    def record(self, batch: Batch) -> Recorded:
        """Store a batch: tasks, counts, counters and watermark in one transaction."""
        ...

    def queues(self, queues: Sequence[ObservedQueue]) -> None:
        """Store what the broker said of its queues."""
        ...

    def open_gap(self, reason: str, began_at: int, lost: int = 0) -> Gap:
        """Declare that events may be missed from a moment on; an open gap of this observer is continued."""
        ...

    def close_gap(self, gap: Gap, ended_at: int) -> Gap:
        """Events are heard again: every live task that was last heard of before may have ended unseen.

        Where another observer may have heard it, that is noted as soon as it is known whether it did.
        """
        ...

    def left_open(self) -> list[Gap]:
        """Gaps that others left open who no longer watch."""
        ...

    def kept(self, gap: Gap, at: int) -> None:
        """The broker kept what was published meanwhile: the gap is none."""
        ...

    def missed(self, ids: Sequence[str], began_at: int, seen_until: int, ended_at: int) -> Gap:
        """The end of these tasks was missed although events were heard: nobody holds them any more.

        Args:
            ids: of the tasks; one that was heard of after ``seen_until`` is on its way and is left out.
            began_at: it may have been from then on.
            seen_until: when the last of them was heard of.
            ended_at: it may have been until then.
        """
        ...

    def reconciled(self, until: int, recovered: int) -> None:
        """All that can still be known of the time before ``until`` was asked for: every gap that was closed by then."""
        ...

    def live(self, after: tuple[int, str], limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.live``."""
        ...

    def known(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """See ``ObservedReader.tasks``."""
        ...

    def oldest_waiting(self, queue: str) -> int | None:
        """See ``ObservedReader.oldest_waiting``."""
        ...
