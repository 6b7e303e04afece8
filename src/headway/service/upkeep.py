"""The decisions of the long-running parts: what is due, who is lost, what is old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from headway.model.job import ErrorInfo
from headway.model.states import AttemptOutcome, Verb
from headway.ports.store import Lapsed, TransitionRefused, Tx
from headway.service.attempts import error_json
from headway.service.context import Context
from headway.service.verbs import verb

log = structlog.get_logger("headway.upkeep")
_BATCH = 500


@dataclass(frozen=True, slots=True)
class DueReport:
    """What one look at the due rows did."""

    queued: int
    expired: int
    next_at: int | None


@dataclass(frozen=True, slots=True)
class RescueReport:
    """What became of the jobs of lost workers."""

    requeued: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What retention removed."""

    jobs: int
    blobs: int


def enqueue_due(ctx: Context) -> DueReport:
    """Queue what is due and cancel what expired before its start."""

    def work(tx: Tx) -> tuple[int, list[str]]:
        now, queued = tx.now(), 0
        for job_id, _ in tx.due(now, _BATCH):
            if not isinstance(tx.move(Verb.ENQUEUE, job_id, actor=ctx.actor.name), TransitionRefused):
                queued += 1
        gone = []
        late = ErrorInfo(code="expired", message="the job was not begun before it expired")
        for job_id in tx.expired(now, _BATCH):
            moved = tx.move(
                Verb.EXPIRE,
                job_id,
                actor=ctx.actor.name,
                changes={"error": error_json(late)},
                data={"code": late.code},
            )
            if not isinstance(moved, TransitionRefused):
                gone.append(job_id)
        return queued, gone

    # A look first: a transaction that changes nothing would still cost every idle second a commit.
    now, next_at = ctx.services.store.read(lambda reader: (reader.now(), reader.next_due()))
    if next_at is None or next_at > now:
        return DueReport(0, 0, next_at)
    queued, gone = ctx.services.store.write(work)
    if queued:
        ctx.services.signal.notify("work")
    for job_id in gone:
        ctx.services.signal.notify(f"job:{job_id}")
    return DueReport(queued, len(gone), ctx.services.store.read(lambda reader: reader.next_due()))


def rescue_lapsed(ctx: Context, *, silent_for: float | None) -> RescueReport:
    """Take over running jobs whose worker has been silent.

    Args:
        silent_for: seconds without a heartbeat; None takes all of them, which only the new sole owner of a
            store may do, once the children of the old one are gone.
    """

    def work(tx: Tx) -> RescueReport:
        before = tx.now() - int(silent_for * 1_000_000) if silent_for is not None else 2**62
        requeued, lost, cancelled = [], [], []
        for lapsed in tx.lapsed(before, _BATCH):
            taken = _take_over(ctx, tx, lapsed)
            if taken is not None:
                {Verb.RESCUE: requeued, Verb.LOSE: lost, Verb.STOP: cancelled}[taken].append(lapsed.job_id)
                tx.retire_worker(lapsed.worker_id)
        return RescueReport(tuple(requeued), tuple(lost), tuple(cancelled))

    if silent_for is not None and not ctx.services.store.read(lambda r: r.has_lapsed(int(silent_for * 1_000_000))):
        return RescueReport()
    whole = RescueReport()
    while True:
        report = ctx.services.store.write(work)
        whole = RescueReport(
            whole.requeued + report.requeued, whole.lost + report.lost, whole.cancelled + report.cancelled
        )
        if len(report.requeued) + len(report.lost) + len(report.cancelled) < _BATCH:
            break
    if whole.requeued or whole.lost or whole.cancelled:
        log.warning("rescue.done", requeued=len(whole.requeued), lost=len(whole.lost), cancelled=len(whole.cancelled))
        ctx.services.signal.notify("work")
        for job_id in (*whole.lost, *whole.cancelled):
            ctx.services.signal.notify(f"job:{job_id}")
    return whole


def _take_over(ctx: Context, tx: Tx, lapsed: Lapsed) -> Verb | None:
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
    moved = tx.move(
        taken,
        lapsed.job_id,
        actor=ctx.actor.name,
        fence=lapsed.fence,
        changes=changes,
        data={"code": gone.code, "worker": lapsed.worker_id},
    )
    if isinstance(moved, TransitionRefused):
        return None
    tx.end_attempt(lapsed.job_id, lapsed.fence, str(AttemptOutcome.ABANDONED), error_json(gone))
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
    if purged:
        log.debug("job_registry.purged", jobs=purged, blobs=blobs, older_than_seconds=seconds)
    return RetentionReport(purged, blobs)
