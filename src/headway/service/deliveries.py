"""What becomes of deliveries: taken by a relay, sent, sent again where they were lost; queues that are paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from headway.model.errors import InvalidRequest
from headway.ports.deliveries import Delivery, Outstanding, PausedQueue
from headway.ports.store import Reader, Tx
from headway.service.context import Context
from headway.service.verbs import verb

log = structlog.get_logger("headway.deliveries")

# A relay that took deliveries and neither sent them nor put them back within this time is dead, or its broker is.
_TAKEN_SECONDS: Final = 30.0
_REPAIR_AT_ONCE: Final = 1000
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


def list_paused(ctx: Context) -> list[PausedQueue]:
    """The queues that are paused."""
    return ctx.services.store.read(lambda reader: reader.deliveries.paused())


def _check_name(name: str) -> None:
    if not (0 < len(name) <= 255 and name.isprintable()):
        raise InvalidRequest(f"expected a queue's name of 1 to 255 printable characters, got: {name!r}")
