"""The decisions of the long-running parts: what is due, who is lost, what is old."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from headway.model.job import ErrorInfo
from headway.model.states import AttemptOutcome, Verb
from headway.ports.store import EndedAttempt, Lapsed, Move, TransitionRefused, Tx
from headway.service.attempts import error_json
from headway.service.context import Context
from headway.service.joins import settle
from headway.service.verbs import verb

log = structlog.get_logger("headway.upkeep")
_BATCH = 500
_ORPHAN_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class DueReport:
    """What one look at the due rows did."""

    queued: int
    expired: int
    next_at: int | None


@dataclass(frozen=True, slots=True)
class RescueReport:
    """What became of the jobs of lost workers, and how many workers those were."""

    requeued: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    workers: int = 0


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What retention removed."""

    jobs: int
    blobs: int


def enqueue_due(ctx: Context) -> DueReport:
    """Queue what is due and cancel what expired before its start."""

    def work(tx: Tx) -> tuple[int, list[str], frozenset[str]]:
        now, queued = tx.now(), 0
        for job_id, _ in tx.due(now, _BATCH):
            if not isinstance(tx.move(Move(Verb.ENQUEUE, job_id), ctx.actor.name), TransitionRefused):
                queued += 1
        gone = []
        late = ErrorInfo(code="expired", message="the job was not begun before it expired")
        for job_id in tx.expired(now, _BATCH):
            move = Move(Verb.EXPIRE, job_id, changes={"error": error_json(late)}, data={"code": late.code})
            moved = tx.move(move, ctx.actor.name)
            if not isinstance(moved, TransitionRefused):
                gone.append(job_id)
        return queued, gone, settle(ctx, tx)

    # A look first: a transaction that changes nothing would still cost every idle second a commit.
    now, next_at = ctx.services.store.read(lambda reader: (reader.now(), reader.next_due()))
    if next_at is None or next_at > now:
        return DueReport(0, 0, next_at)
    queued, gone, topics = ctx.services.store.write(work)
    for topic in (*(f"job:{job_id}" for job_id in gone), *topics):
        ctx.services.signal.notify(topic)
    return DueReport(queued, len(gone), ctx.services.store.read(lambda reader: reader.next_due()))


def rescue_lapsed(ctx: Context, *, silent_for: float | None) -> RescueReport:
    """Take over running jobs whose worker has been silent.

    Args:
        ctx: the rescuer's context.
        silent_for: seconds without a heartbeat; None takes all of them, which only the new sole owner of a
            store may do, once the children of the old one are gone.
    """
    # Those of a transaction that is tried again may be told too: who hears it looks and finds nothing new.
    topics: set[str] = set()

    def work(tx: Tx) -> RescueReport:
        before = tx.now() - int(silent_for * 1_000_000) if silent_for is not None else 2**62
        taken: dict[Verb, list[str]] = {Verb.RESCUE: [], Verb.LOSE: [], Verb.STOP: []}
        for lapsed in tx.lapsed(before, _BATCH):
            verb = take_over(ctx, tx, lapsed)
            if verb is not None:
                taken[verb].append(lapsed.job_id)
        # A lost worker may run nothing and still hold jobs with threads that never came back.
        topics.update(settle(ctx, tx))
        silent = tx.retire_silent(before)
        requeued, lost, cancelled = (tuple(taken[verb]) for verb in (Verb.RESCUE, Verb.LOSE, Verb.STOP))
        return RescueReport(requeued, lost, cancelled, len(silent))

    if silent_for is not None and not ctx.services.store.read(lambda r: r.has_lapsed(int(silent_for * 1_000_000))):
        return RescueReport()
    whole = RescueReport()
    while True:
        report = ctx.services.store.write(work)
        whole = RescueReport(
            whole.requeued + report.requeued,
            whole.lost + report.lost,
            whole.cancelled + report.cancelled,
            whole.workers + report.workers,
        )
        if len(report.requeued) + len(report.lost) + len(report.cancelled) < _BATCH:
            break
    if whole.requeued or whole.lost or whole.cancelled:
        log.warning("rescue.done", requeued=len(whole.requeued), lost=len(whole.lost), cancelled=len(whole.cancelled))
        for topic in (*(f"job:{job_id}" for job_id in (*whole.lost, *whole.cancelled)), *topics):
            ctx.services.signal.notify(topic)
    return whole


def take_over(ctx: Context, tx: Tx, lapsed: Lapsed) -> Verb | None:
    """End an attempt whose worker is gone: its job is queued again, or fails, or was to be cancelled; None if refused."""
    limits = ctx.services.limits
    gone = ErrorInfo(
        code="worker_lost",
        message=f"worker {lapsed.worker_id} was lost while it ran the job",
        hint="If this repeats, the task takes its process down: give it isolation='process'.",
    )
    changes: dict[str, object] = {"error": error_json(gone)}
    if lapsed.cancel_requested:
        taken = Verb.STOP
    elif lapsed.rescues >= limits.max_rescues or lapsed.attempts >= limits.max_attempts:
        taken = Verb.LOSE
    else:
        taken, changes = Verb.RESCUE, {"rescues+": 1}
    told = {"code": gone.code, "worker": lapsed.worker_id}
    moved = tx.move(Move(taken, lapsed.job_id, lapsed.fence, changes, told), ctx.actor.name)
    if isinstance(moved, TransitionRefused):
        return None
    tx.end_attempts([EndedAttempt(lapsed.job_id, lapsed.fence, AttemptOutcome.ABANDONED.value, error_json(gone))])
    return taken


def register_worker(ctx: Context, worker_id: str, facts: Mapping[str, object]) -> None:
    """Write who a worker is, before it begins anything."""
    ctx.services.store.write(lambda tx: tx.register_worker(worker_id, facts))


def retire_worker(ctx: Context, worker_id: str) -> None:
    """A worker left in good order: what it held may begin again."""
    ctx.services.store.write(lambda tx: tx.retire_worker(worker_id))


@verb
def run_retention(ctx: Context) -> RetentionReport:
    """Remove jobs that ended longer ago than ``JOB_RETENTION_SECONDS``, with everything of theirs; never a live one.

    0 disables it. Blobs are removed after the commit that forgets them; orphans of a crash are swept too.
    """
    seconds = ctx.services.limits.job_retention_seconds
    if seconds <= 0:
        return RetentionReport(0, 0)
    purged = blobs = 0
    while True:
        count, refs = ctx.services.store.write(lambda tx: tx.purge(tx.now() - int(seconds * 1_000_000), _BATCH))
        for ref in refs:
            ctx.services.blobs.delete(ref)
        purged, blobs = purged + count, blobs + len(refs)
        if count < _BATCH:
            break
    ctx.services.store.write(lambda tx: tx.joins.purge(tx.now() - int(seconds * 1_000_000)))
    swept = _sweep_orphans(ctx)
    if purged or swept:
        log.debug("job_registry.purged", jobs=purged, blobs=blobs, orphans=swept, older_than_seconds=seconds)
    return RetentionReport(purged, blobs + swept)


def _sweep_orphans(ctx: Context) -> int:
    """Remove results that no job names: their writer died before its finish was recorded."""
    services, swept = ctx.services, 0
    # A finish may wait in a worker's spool for a database that is away: its result is given a day.
    youngest = services.clock.now() - _ORPHAN_SECONDS * 1_000_000
    old = (ref for ref, written_at in services.blobs.refs() if written_at < youngest)
    while refs := list(itertools.islice(old, _BATCH)):
        for ref in services.store.read(lambda reader, refs=refs: reader.unknown_blobs(refs)):  # type: ignore[misc]
            services.blobs.delete(ref)
            swept += 1
    return swept
