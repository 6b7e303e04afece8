"""What becomes of deliveries: taken by a relay, sent, sent again where they were lost; queues that are paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from headway.model.commands import ListJobs
from headway.model.errors import InvalidRequest
from headway.model.job import Job, Page
from headway.model.states import JobState, Verb
from headway.ports.deliveries import Delivery, Outstanding, PausedQueue
from headway.ports.store import Move, Reader, TransitionRefused, Tx
from headway.service.context import Context
from headway.service.joins import settle
from headway.service.verbs import verb

log = structlog.get_logger("headway.deliveries")

# A relay that took deliveries and neither sent them nor put them back within this time is dead, or its broker is.
_TAKEN_SECONDS: Final = 30.0
_REPAIR_AT_ONCE: Final = 1000
_PURGED_AT_ONCE: Final = 500
# A message that was just sent may be on its way between the broker's books.
_SETTLED_SECONDS: Final = 10.0


def take_deliveries(ctx: Context, limit: int) -> list[Delivery]:
    """Take deliveries that are due, for this relay alone."""

    def work(tx: Tx) -> list[Delivery]:
        return tx.deliveries.take(limit, tx.now() - int(_TAKEN_SECONDS * 1_000_000))

    return ctx.services.store.write(work)


def deliveries_sent(ctx: Context, job_ids: Sequence[str]) -> None:
    """A broker has confirmed these."""
    kept = tuple(job_ids)
    ctx.services.store.write(lambda tx: tx.deliveries.sent(kept))


def deliveries_back(ctx: Context, job_ids: Sequence[str], after_seconds: float) -> None:
    """These could not be sent: somebody tries again after that many seconds."""
    kept = tuple(job_ids)
    ctx.services.store.write(lambda tx: tx.deliveries.put_back(kept, tx.now() + int(after_seconds * 1_000_000)))


def next_delivery(ctx: Context) -> float | None:
    """Seconds to the next delivery, 0 or less if one is due; None where none waits."""

    def look(reader: Reader) -> tuple[int, int | None]:
        now = reader.now()
        return now, reader.deliveries.next_due(now - int(_TAKEN_SECONDS * 1_000_000))

    now, due_at = ctx.services.store.read(look)
    return None if due_at is None else (due_at - now) / 1_000_000


def repair_deliveries(ctx: Context) -> int:
    """Send again what lost workers had received, and send what became ready while nobody delivered; how many."""

    def work(tx: Tx) -> int:
        return tx.deliveries.send_lost() + tx.deliveries.repair(_REPAIR_AT_ONCE)

    found = ctx.services.store.write(work)
    if found:
        log.info("deliveries.repaired", count=found)
        ctx.services.signal.notify("work")
    return found


def outstanding_deliveries(ctx: Context) -> dict[str, Outstanding]:
    """By queue, what waits behind the broker or for a relay."""
    return ctx.services.store.read(lambda reader: reader.deliveries.outstanding())


def missing_messages(ctx: Context, waiting: Mapping[str, int]) -> dict[str, int]:
    """By queue, how many messages a broker should have and has not.

    Args:
        ctx: the relay's.
        waiting: by queue, how many messages the broker has that no worker has taken.
    """
    known = outstanding_deliveries(ctx)
    missing = {name: one.sent - one.received - waiting[name] for name, one in known.items() if name in waiting}
    return {name: count for name, count in missing.items() if count > 0}


def send_missing(ctx: Context, missing: Mapping[str, int]) -> int:
    """Send the oldest again of each queue, as many as are missing and never the whole backlog; how many."""

    def work(tx: Tx) -> int:
        before = tx.now() - int(_SETTLED_SECONDS * 1_000_000)
        return sum(tx.deliveries.send_again(name, before, count) for name, count in missing.items())

    found = ctx.services.store.write(work)
    if found:
        log.warning("deliveries.sent_again", count=found, missing=missing)
        ctx.services.signal.notify("work")
    return found


@verb
def pause_queue(ctx: Context, name: str, reason: str = "") -> tuple[PausedQueue, bool]:
    """Pause a queue: nothing of it begins and nothing more of it is sent; what runs goes on.

    Returns:
        Since when and by whom it is paused, and whether it was not before.
    """
    _check_name(name)

    def work(tx: Tx) -> bool:
        paused = tx.deliveries.pause(name, ctx.actor.name, reason)
        if paused:
            tx.audit(ctx.actor.name, "pause_queue", name, reason=reason, trace_id=ctx.trace_id)
        return paused

    changed = ctx.services.store.write(work)
    found = {one.name: one for one in list_paused(ctx)}
    # Somebody may have resumed it in this moment.
    return found.get(name) or PausedQueue(name, ctx.services.clock.now(), ctx.actor.name, reason), changed


@verb
def resume_queue(ctx: Context, name: str, reason: str = "") -> bool:
    """Let a queue go on; False when it was not paused."""
    _check_name(name)

    def work(tx: Tx) -> bool:
        resumed = tx.deliveries.resume(name)
        if resumed:
            tx.audit(ctx.actor.name, "resume_queue", name, reason=reason, trace_id=ctx.trace_id)
            tx.made_ready = True
        return resumed

    return ctx.services.store.write(work)


@verb
def purge_queue(ctx: Context, name: str, reason: str = "purged") -> int:
    """Cancel every job that is queued there now; how many.

    What runs goes on, and what waits for its time stays. A job that is sent meanwhile stays, too.
    """
    _check_name(name)
    query = ListJobs(states=(JobState.QUEUED,), queue=name, limit=_PURGED_AT_ONCE)
    total = 0
    while True:
        # Newest first: what is sent meanwhile stands before the first page, and this comes to an end.
        page = ctx.services.store.read(partial(_page, query=query))
        if page.items:
            total += _cancel_queued(ctx, [job.id for job in page.items], reason)
        if page.next_cursor is None:
            return total
        query = replace(query, cursor=page.next_cursor)


def _page(reader: Reader, query: ListJobs) -> Page[Job]:
    return reader.list_jobs(query)


def _cancel_queued(ctx: Context, job_ids: Sequence[str], reason: str) -> int:
    data = {"reason": reason} if reason else None

    def work(tx: Tx) -> tuple[list[str], frozenset[str]]:
        answers = tx.move_many([Move(Verb.CANCEL, job_id, data=data) for job_id in job_ids], ctx.actor.name)
        # One that has begun since it was read is left alone.
        gone = [answer.job_id for answer in answers if not isinstance(answer, TransitionRefused)]
        before, after = {"state": JobState.QUEUED}, {"state": JobState.CANCELLED}
        who, trace = ctx.actor.name, ctx.trace_id
        tx.audit_many([(who, "purge_queue", job_id, reason, before, after, trace) for job_id in gone])
        return gone, settle(ctx, tx)

    gone, topics = ctx.services.store.write(work)
    for topic in ("cancel", *(f"job:{job_id}" for job_id in gone), *topics):
        ctx.services.signal.notify(topic)
    return len(gone)


def list_paused(ctx: Context) -> list[PausedQueue]:
    """The queues that are paused."""
    return ctx.services.store.read(lambda reader: reader.deliveries.paused())


def _check_name(name: str) -> None:
    if not (0 < len(name) <= 255 and name.isprintable()):
        raise InvalidRequest(f"expected a queue's name of 1 to 255 printable characters, got: {name!r}")
