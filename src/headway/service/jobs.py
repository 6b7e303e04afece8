"""The verbs of jobs: submit, batch, get, list, cancel, rerun, attempts, logs, result, events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headway.model.canvas import results_of
from headway.model.commands import ListJobs, NewJoin, SubmitJob
from headway.model.errors import (
    InvalidRequest,
    JobHasNoResult,
    JobNotFound,
    ResultGone,
    ResultNotReady,
    TransitionConflict,
)
from headway.model.job import Attempt, Event, Job, LogLine, Page
from headway.model.states import TERMINAL_STATES, JobState, Verb
from headway.ports.store import Move, TransitionRefused, Tx
from headway.service.context import Context, trace_id_of
from headway.service.joins import accept_joins, settle
from headway.service.sending import insert, insert_or_find
from headway.service.submission import job_row
from headway.service.verbs import verb

MAX_PAGE = 1000
_CANCEL_TRIES = 10


@verb
def submit_job(ctx: Context, command: SubmitJob) -> Job:
    """Accept a job: stored, with its first event, when this returns.

    The same idempotency key (or the same caller's id) with the same payload returns the job of the first time.

    Raises:
        UnknownTask, BadArguments, InvalidRequest, NotSerializable, PayloadTooLarge: the request is wrong.
        IdempotencyConflict, JobIdTaken: the key or the id stands for another request.
        StoreUnavailable: nothing was accepted, or the answer was lost: repeat it with a key.
    """
    row = job_row(ctx, command, ctx.services.clock.now())
    new = command.job_id is None and command.idempotency_key is None

    def work(tx: Tx) -> Job:
        if new:
            # An id made here, without a key, stands for nothing yet.
            insert(ctx, tx, [row])
            return tx.inserted(row)
        (job_id,) = insert_or_find(ctx, tx, [row])
        job = tx.get(job_id)
        assert job is not None
        return job

    job = ctx.services.store.write(work)
    _wake(ctx, [row])
    return job


@verb
def submit_batch(ctx: Context, commands: Sequence[SubmitJob], joins: Sequence[NewJoin] = ()) -> list[str]:
    """Accept all of these jobs or none; returns their ids in order.

    Args:
        ctx: of the caller.
        commands: the jobs.
        joins: what some of them wait for; those do not count towards the limit of a batch.
    """
    allowed = ctx.services.limits.max_batch
    size = sum(command.waits_for is None for command in commands)
    if not 0 < size <= allowed:
        raise InvalidRequest(f"expected 1 to {allowed:,} jobs in a batch, got: {size:,}")
    open_joins = {join.id for join in joins}
    stranded = next((c for c in commands if c.waits_for is not None and c.waits_for not in open_joins), None)
    if stranded is not None:
        raise InvalidRequest(
            f"job {stranded.job_id} was to wait for {stranded.waits_for!r}, which is not sent with it",
            hint="Send a chord's header and its body together.",
        )
    now = ctx.services.clock.now()
    rows = []
    for index, command in enumerate(commands):
        try:
            rows.append(job_row(ctx, command, now))
        except InvalidRequest as error:
            error.details.setdefault("index", index)
            raise
    special = any(row["idempotency_key"] is not None for row in rows) or any(c.job_id for c in commands)

    def work(tx: Tx) -> tuple[list[str], frozenset[str]]:
        if not special:
            insert(ctx, tx, rows)
            return [row["id"] for row in rows], frozenset()
        ids = insert_or_find(ctx, tx, rows, growing={c.job_id for c in commands if c.grows_join})
        return ids, accept_joins(ctx, tx, joins)

    ids, topics = ctx.services.store.write(work)
    _wake(ctx, rows)
    for topic in topics:
        ctx.services.signal.notify(topic)
    return ids


@verb
def get_job(ctx: Context, job_id: str) -> Job:
    """One job as it is now. Raises ``JobNotFound``."""
    job = ctx.services.store.read(lambda reader: reader.get(job_id))
    if job is None:
        raise JobNotFound(f"no job has the id {job_id!r}")
    return job


@verb
def list_jobs(ctx: Context, query: ListJobs) -> Page[Job]:
    """A page of jobs, newest first."""
    if not 1 <= query.limit <= MAX_PAGE:
        raise InvalidRequest(f"expected limit to be 1 to {MAX_PAGE}, got: {query.limit}")
    return ctx.services.store.read(lambda reader: reader.list_jobs(query))


@verb
def count_jobs(ctx: Context) -> dict[JobState, int]:
    """How many jobs there are in each live state."""
    return ctx.services.store.read(lambda reader: reader.counts())


@verb
def cancel_job(ctx: Context, job_id: str, reason: str = "") -> Job:
    """Cancel a job: before its start it never starts; a running one is asked to stop, then stopped.

    Raises:
        JobNotFound: nobody knows it.
        TransitionConflict: it has ended already.
    """

    def work(tx: Tx) -> tuple[Job, frozenset[str]]:
        before = tx.get(job_id)
        if before is None:
            raise JobNotFound(f"no job has the id {job_id!r}")
        if before.state in TERMINAL_STATES:
            raise TransitionConflict(
                f"the job has ended already ({before.state})", hint="A finished job stays as it is.", state=before.state
            )
        moved = tx.move(Move(Verb.CANCEL, job_id, data={"reason": reason} if reason else None), ctx.actor.name)
        tries = 0
        while isinstance(moved, TransitionRefused) and tx.request_cancel(job_id, reason) is None:
            # Between the two statements another process moved the job on: it may wait again, or have ended.
            now = tx.get(job_id)
            if now is None or now.state in TERMINAL_STATES or tries == _CANCEL_TRIES:
                raise TransitionConflict("the job ended while it was being cancelled", state=now.state if now else None)
            moved = tx.move(Move(Verb.CANCEL, job_id, data={"reason": reason} if reason else None), ctx.actor.name)
            tries += 1
        after = tx.get(job_id)
        assert after is not None
        _audit(ctx, tx, "cancel_job", after, reason=reason, before={"state": before.state})
        return after, settle(ctx, tx)

    job, topics = ctx.services.store.write(work)
    for topic in ("cancel", f"job:{job_id}", *topics):
        ctx.services.signal.notify(topic)
    return job


@verb
def rerun_job(ctx: Context, job_id: str, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None) -> Job:
    """Run a job again as a new job with ``retry_of``, with its own arguments or edited ones."""
    old = ctx.services.store.read(lambda reader: reader.get(job_id))
    if old is None:
        raise JobNotFound(f"no job has the id {job_id!r}")
    if args is None and old.waits_for is not None and results_of(old.waits_for) in old.args:
        raise TransitionConflict(
            "the job never got the results that it waited for, so there is nothing to run it with",
            hint="Give it arguments, or run the whole canvas again.",
            state=old.state,
        )
    command = SubmitJob(
        task=old.task,
        args=old.args if args is None else args,
        kwargs=old.kwargs if kwargs is None else kwargs,
        queue=old.queue,
        priority=old.priority,
        timeout_seconds=old.timeout_seconds or 0,
        max_retries=old.max_retries,
        backoff=old.backoff,
        isolation=old.isolation,
        labels=old.labels,
        retry_of=old.id,
        origin="api",
        traceparent=ctx.traceparent,
    )
    row = job_row(ctx, command, ctx.services.clock.now())

    def work(tx: Tx) -> Job:
        insert(ctx, tx, [row], verb_name="rerun_job")
        job = tx.get(row["id"])
        assert job is not None
        return job

    job = ctx.services.store.write(work)
    _wake(ctx, [row])
    return job


@verb
def list_attempts(ctx: Context, job_id: str) -> list[Attempt]:
    """Every try of a job, oldest first. Raises ``JobNotFound``."""
    get_job(ctx, job_id)
    return ctx.services.store.read(lambda reader: reader.attempts(job_id))


@verb
def read_logs(ctx: Context, job_id: str, after: int = 0, limit: int = 1000) -> list[LogLine]:
    """Log lines of a job with an id above ``after``, oldest first. Raises ``JobNotFound``."""
    get_job(ctx, job_id)
    return ctx.services.store.read(lambda reader: reader.logs(job_id, after, min(limit, 10_000)))


@verb
def read_result(ctx: Context, job_id: str) -> str:
    """The result as JSON text.

    Raises:
        JobNotFound, ResultNotReady, JobHasNoResult, ResultGone.
    """
    found = ctx.services.store.read(lambda reader: reader.result(job_id))
    if found is None:
        raise JobNotFound(f"no job has the id {job_id!r}")
    if found.state not in TERMINAL_STATES:
        raise ResultNotReady(f"the job has not ended, it is {found.state}", state=found.state)
    if found.state is not JobState.SUCCEEDED:
        raise JobHasNoResult(f"the job ended as {found.state}, without a result", state=found.state)
    if found.removed_at is not None:
        raise ResultGone("the job's result was removed before the job")
    if found.blob is None:
        return found.inline if found.inline is not None else "null"
    data = ctx.services.blobs.get(found.blob)
    if data is None:
        raise ResultGone("the file with the job's result was removed before the job")
    return data.decode()


@verb
def read_events(ctx: Context, after: int, limit: int, job_id: str | None = None) -> list[Event]:
    """Numbered events above a position: of one job, or of all."""
    return ctx.services.store.read(lambda reader: reader.events(after, limit, job_id))


def feed_bounds(ctx: Context) -> tuple[int, int]:
    """(position up to which events were removed, newest position): an older cursor must be reset."""
    return ctx.services.store.read(lambda reader: reader.feed_bounds())


@verb
def forget_result(ctx: Context, job_id: str) -> None:
    """Remove a job's result; the job and its history stay."""
    job = get_job(ctx, job_id)
    if job.state not in TERMINAL_STATES:
        raise ResultNotReady(f"the job has not ended, it is {job.state}", state=job.state)

    def work(tx: Tx) -> str | None:
        tx.audit(ctx.actor.name, "forget_result", job_id, trace_id=ctx.trace_id)
        return tx.clear_result(job_id)

    ref = ctx.services.store.write(work)
    if ref is not None:
        ctx.services.blobs.delete(ref)


def _audit(ctx: Context, tx: Tx, verb_name: str, job: Job, *, reason: str, before: dict[str, Any]) -> None:
    after = {"state": job.state, "cancel_requested": job.cancel_requested_at is not None}
    trace = ctx.trace_id or trace_id_of(job.traceparent)
    tx.audit(ctx.actor.name, verb_name, job.id, reason=reason, before=before, after=after, trace_id=trace)


def _wake(ctx: Context, rows: Sequence[dict[str, Any]]) -> None:
    if any(row["state"] == JobState.SCHEDULED or row["expires_at"] for row in rows):
        ctx.services.signal.notify("due")
