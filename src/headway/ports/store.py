"""The store: the source of truth. One conformance suite runs over every adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

from headway.model.commands import BeatAnswer, BeatReport, Begun, ListJobs, NewLogLine
from headway.model.job import Attempt, Event, Job, LogLine, Page, Session
from headway.model.states import JobState, Verb
from headway.ports.deliveries import DeliveryReader, DeliveryTx
from headway.ports.joins import JoinTx, WaitCounts
from headway.ports.observations import ObservedReader, ObservedTx

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Move(NamedTuple):
    """One transition that is wanted.

    Attributes:
        fence: the attempt's, where the verb needs it.
        changes: columns written with it; one named like ``rescues+`` adds.
        data: facts for its event.
        unless_cancelling: refused when somebody asked to cancel the job.
        known: the job's attempts, the attempt's task, the job's join and (of a part) its canvas, where the holder of
            the fence knows them: they need not be read back.
    """

    verb: Verb
    job_id: str
    fence: int | None = None
    changes: Mapping[str, Any] = MappingProxyType({})
    data: Mapping[str, Any] | None = None
    unless_cancelling: bool = False
    known: tuple[int, str, str | None, str | None] | None = None


class EndedAttempt(NamedTuple):
    """How an attempt ended: ``outcome`` is an ``AttemptOutcome``, ``error_json`` its error."""

    job_id: str
    fence: int
    outcome: str
    error_json: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """A transition happened: the state entered and the facts that decide what comes next.

    Attributes:
        join_id: where the job has ended: the join that counts it.
        canvas: where it has ended otherwise than well, or is a part of a join: what it carries.
    """

    job_id: str
    state: JobState
    fence: int
    attempts: int
    join_id: str | None = None
    canvas: str | None = None


class EndedJob(NamedTuple):
    """A job that has ended and that others may wait for; ``error_json`` is what the transition wrote."""

    moved: Moved
    error_json: str | None


@dataclass(frozen=True, slots=True)
class TransitionRefused:
    """Zero rows: the job was not in a from-state, or the fence is not the current one. An answer, not an error."""

    job_id: str
    verb: Verb


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A running job whose lease is over."""

    job_id: str
    fence: int
    attempts: int
    rescues: int
    worker_id: str
    cancel_requested: bool
    expires_at: int | None


class StoredResult(NamedTuple):
    """What is kept of a job's result: JSON text inline, or the reference of a blob; neither is null."""

    state: JobState
    inline: str | None
    blob: str | None
    removed_at: int | None


class Tx(Protocol):
    """Statements inside one transaction.

    Nothing is visible before the commit; events and audit rows are part of it. Only the service calls these;
    decisions are the service's.

    Attributes:
        made_ready: whether it has made a job ready to begin.
    """

    made_ready: bool

    @property
    def observed(self) -> ObservedTx:
        """The statements about what is observed of a Celery cluster."""
        ...

    @property
    def deliveries(self) -> DeliveryTx:
        """The statements about deliveries by a broker."""
        ...

    @property
    def joins(self) -> JoinTx:
        """The statements about joins."""
        ...

    def take_ended(self) -> list[EndedJob]:
        """The jobs that have ended in this transaction since the last call and that others may wait for.

        Whoever moves jobs asks before the commit, which refuses a transaction where nobody did.
        """
        ...

    def now(self) -> int:
        """The store's time, UTC microseconds: the database's own where it has one."""
        ...

    def insert_jobs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert jobs with their first event. Raises ``DuplicateJob`` when an id or idempotency key is taken."""
        ...

    def insert_new(self, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Insert those of the jobs whose id and idempotency key are free, as ``insert_jobs`` does; which, in order.

        Of two rows here with one id or key the first is inserted. A row of another transaction that is not yet
        committed is waited for.
        """
        ...

    def inserted(self, row: Mapping[str, Any]) -> Job:
        """The job that a row of ``insert_jobs`` is, without reading it back."""
        ...

    def find_idempotent(self, scope: str, key: str) -> tuple[str, str] | None:
        """(job id, fingerprint) recorded under the key, or None."""
        ...

    def fingerprint(self, job_id: str) -> str | None:
        """The payload fingerprint of a job, or None when there is no such job."""
        ...

    def move(self, move: Move, actor: str) -> Moved | TransitionRefused:
        """One guarded transition and its event: *update … where id and state in (from…) and fence = ?*."""
        ...

    def move_many(self, moves: Sequence[Move], actor: str) -> list[Moved | TransitionRefused]:
        """Guarded transitions and their events; one answer each, in order.

        Of two for one job the second is refused, unless the first led to a state from which it starts.
        """
        ...

    def claim(self, worker_id: str, limit: int, actor: str) -> list[Begun]:
        """Begin at most ``limit`` queued, due, not held jobs: by priority, then first in first out.

        None of a paused queue.
        """
        ...

    def begin_job(self, worker_id: str, job_id: str, actor: str) -> Begun | None:
        """Begin this job, under a new fence; None if it may not begin: it is not queued, held, expired or paused."""
        ...

    def any_ready(self) -> bool:
        """Whether ``claim`` might begin a further job."""
        ...

    def end_attempts(self, ended: Sequence[EndedAttempt]) -> None:
        """Write how attempts ended; one that has ended already stays as it is."""
        ...

    def attempt_ended(self, job_id: str, fence: int) -> str | None:
        """The outcome recorded for an attempt, or None while it runs."""
        ...

    def request_cancel(self, job_id: str, reason: str) -> int | None:
        """Mark a running job as asked to stop; returns its fence, None when it is not running."""
        ...

    def beat(self, worker_id: str, reports: Sequence[BeatReport]) -> BeatAnswer:
        """One UPDATE for all attempts of the worker: lease and progress; returns who must stop."""
        ...

    def lapsed(self, before: int, limit: int) -> list[Lapsed]:
        """Running jobs whose last heartbeat is older than ``before``, locked where the store has row locks."""
        ...

    def due(self, now: int, limit: int) -> list[tuple[str, JobState]]:
        """Scheduled and retry_scheduled jobs whose time has come."""
        ...

    def expired(self, now: int, limit: int) -> list[str]:
        """Jobs not begun whose ``expires_at`` is over."""
        ...

    def release(self, job_id: str, fence: int) -> None:
        """Let a job begin again that this attempt held; a later hold stays."""
        ...

    def add_log(self, lines: Sequence[NewLogLine]) -> None:
        """Append log lines; over the limit of a job the oldest go and a line says so."""
        ...

    def audit(
        self,
        actor: str,
        verb: str,
        subject: str,
        *,
        reason: str = "",
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        trace_id: str | None = None,
    ) -> None:
        """One audit row, in the transaction of the change."""
        ...

    def audit_many(
        self, rows: Sequence[tuple[str, str, str, str, Mapping[str, Any] | None, Mapping[str, Any] | None, str | None]]
    ) -> None:
        """Audit rows (actor, verb, subject, reason, before, after, trace id) of one change of many things."""
        ...

    def clear_result(self, job_id: str) -> str | None:
        """Remove a job's result, remembering when; returns the blob's reference if it had one."""
        ...

    def purge(self, finished_before: int, limit: int) -> tuple[int, list[str]]:
        """Delete terminal jobs that ended before, with everything of theirs; (count, blob references)."""
        ...

    def register_worker(self, worker_id: str, facts: Mapping[str, Any]) -> None:
        """Write who this worker is; the row is renewed by ``beat``."""
        ...

    def retire_worker(self, worker_id: str) -> None:
        """The worker is gone for good: its held jobs are released."""
        ...

    def retire_silent(self, before: int) -> list[str]:
        """Retire the workers whose last beat is older than ``before``: what they held is released. Their ids."""
        ...

    def save_session(self, session: Session, expected_version: int) -> bool:
        """Insert (expected 0) or change a session if its version is the expected one."""
        ...

    def delete_session(self, session_id: str) -> bool:
        """Remove a session; False when there is none."""
        ...

    def get(self, job_id: str) -> Job | None:
        """The job as this transaction sees it."""
        ...


class Reader(Protocol):
    """Reads, each of one moment. Only what is committed is seen."""

    @property
    def observed(self) -> ObservedReader:
        """The reads of what is observed of a Celery cluster."""
        ...

    @property
    def deliveries(self) -> DeliveryReader:
        """The reads of deliveries by a broker."""
        ...

    def now(self) -> int:
        """The store's time, UTC microseconds."""
        ...

    def get(self, job_id: str) -> Job | None:
        """One job."""
        ...

    def running(self, job_id: str, fence: int) -> Begun | None:
        """The attempt as it was begun, if it holds the job's fence and runs still."""
        ...

    def list_jobs(self, query: ListJobs) -> Page[Job]:
        """A page, newest first by (submitted_at, id), by keyset."""
        ...

    def attempts(self, job_id: str) -> list[Attempt]:
        """All attempts of a job, oldest first."""
        ...

    def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        """Log lines with an id above ``after``, oldest first."""
        ...

    def newest_log_line(self, job_id: str) -> int:
        """Id of the job's last log line; 0 when it has none."""
        ...

    def result(self, job_id: str) -> StoredResult | None:
        """A job's result with the state it belongs to; None when there is no such job."""
        ...

    def events(self, after: int, limit: int, job_id: str | None = None) -> list[Event]:
        """Numbered events above a position, in order."""
        ...

    def feed_bounds(self) -> tuple[int, int]:
        """(oldest position still kept minus one, newest position): a cursor below the first must be reset."""
        ...

    def live(self, job_ids: Sequence[str]) -> list[Job]:
        """The jobs of these ids (for progress), in any order."""
        ...

    def counts(self) -> dict[JobState, int]:
        """How many live jobs there are in each live state (terminal ones are not counted: cost flat in history)."""
        ...

    def queue_counts(self) -> dict[str, tuple[int, int]]:
        """By queue, how many jobs are queued and how many run; queues of which none is are not in it."""
        ...

    def ended_counts(self, after: int, until: int) -> dict[JobState, int]:
        """How many jobs ended in each terminal state after a moment and until another, UTC microseconds."""
        ...

    def own_workers(self) -> list[dict[str, Any]]:
        """The rows of the workers of ours that were last heard of, the latest first."""
        ...

    def upcoming(self, limit: int) -> list[Job]:
        """Jobs that wait for their time, the next first."""
        ...

    def unknown_blobs(self, refs: Sequence[str]) -> list[str]:
        """Those of the references that no job names."""
        ...

    def workflow(self, root_id: str, limit: int) -> list[Job]:
        """The job and those below it, oldest first."""
        ...

    def saved_group(self, group_id: str) -> str | None:
        """A group's result as it was saved, or None."""
        ...

    def waits(self) -> WaitCounts:
        """What waits for what; for tests: every row is read."""
        ...

    def session(self, session_id: str) -> Session | None:
        """One session."""
        ...

    def sessions(self, kind: str) -> list[Session]:
        """All sessions of a kind, newest first."""
        ...

    def has_lapsed(self, silent_for: int) -> bool:
        """Whether a running job or a worker that was not retired has not beaten for this many microseconds."""
        ...

    def next_due(self) -> int | None:
        """The next time at which a waiting job is due or expires."""
        ...


class Ride(Protocol[T_co]):
    """A work that waits for a transaction to be committed with."""

    def leave(self) -> T_co | None:
        """Wait no longer: what the work returned if it was committed, None if no transaction took it along.

        Must be called once by whoever stood by. Waits while the transaction is being committed.
        """
        ...


class Store(Protocol):
    """Transactions over one database. It says ``work`` after each commit that made a job ready to begin."""

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgres``."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may use the same database at the same time."""
        ...

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a transaction and return its value once the commit is durable.

        ``work`` may be run again (after a deadlock, or when a neighbour in its commit group failed), so
        it must have no effect but through the Tx. What it raises is raised here and nothing is stored.
        Raises ``StoreUnavailable`` when the database does not answer; the work is then not stored, or
        the answer was lost: repeat it.
        """
        ...

    def write_later(self, work: Callable[[Tx], None]) -> None:
        """Run ``work`` with a coming commit and do not wait; lost in a crash before that. Errors are logged."""
        ...

    def stand_by(self, work: Callable[[Tx], T]) -> Ride[T]:
        """Let ``work`` be committed with the next transaction of this process that makes a job ready to begin.

        At most one is taken along by a transaction, after everything else in it. If it fails, that transaction is
        run again without it.
        """
        ...

    def begin_job(self, worker_id: str, job_id: str, actor: str) -> Begun | None:
        """``Tx.begin_job`` in a transaction of its own, in one round trip where the store can.

        An answer that was lost may have been a begin: its attempt then lapses like that of a lost worker.
        """
        ...

    def succeed_job(self, job_id: str, fence: int, result: str | None, actor: str) -> bool | None:
        """End a running job with this result (JSON text), by the holder of its fence, in one round trip.

        Returns:
            True once it is durable; False when the fence is not the current one, or it has ended already; None where
            the store has no such way now: use ``write``.
        """
        ...

    def read(self, work: Callable[[Reader], T]) -> T:
        """Run ``work`` on a read connection."""
        ...

    def number_events(self) -> int:
        """The sequencer's step: number committed events that have no position yet; how many it numbered."""
        ...

    def ping(self) -> float:
        """Seconds of a round trip; raises ``StoreUnavailable``."""
        ...

    def close(self) -> None:
        """Finish what is queued and let go of the database."""
        ...
