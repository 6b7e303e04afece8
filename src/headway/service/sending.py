"""Jobs into the store: new ones, those that are there already, and those that wait to be sent again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from headway.model.commands import NewJoin, SubmitJob
from headway.model.errors import IdempotencyConflict, JobIdTaken
from headway.ports.store import Tx
from headway.service.context import Context, trace_id_of
from headway.service.joins import accept_joins, send_again
from headway.service.submission import job_row


def _known(tx: Tx, row: dict[str, Any]) -> str:
    """The id of the job that this request already is: its id or its key is taken."""
    if row["idempotency_key"] is not None:
        found = tx.find_idempotent(row["idempotency_scope"], row["idempotency_key"])
        if found is not None:
            if found[1] != row["fingerprint"]:
                raise IdempotencyConflict(
                    f"the idempotency key {row['idempotency_key']!r} stands for another request", job_id=found[0]
                )
            return found[0]
    if tx.fingerprint(row["id"]) != row["fingerprint"]:
        raise JobIdTaken(f"the id {row['id']!r} stands for another job")
    return str(row["id"])


def _found(ctx: Context, tx: Tx, row: dict[str, Any]) -> str:
    """The id of a job that is there: it waits for this send, or is the same request."""
    return str(row["id"]) if send_again(ctx, tx, row) else _known(tx, row)


def insert_or_find(
    ctx: Context, tx: Tx, rows: Sequence[dict[str, Any]], *, growing: Collection[str | None] = ()
) -> list[str]:
    """Insert what is new; the ids of the jobs that these requests are.

    Args:
        ctx: of the caller.
        tx: the transaction.
        rows: of the jobs.
        growing: ids of those whose joins have one part more because of them.
    """
    new = tx.insert_new(rows)
    # Who asks first and then inserts asks for nothing, nearly always.
    ids = [str(row["id"]) if is_new else _found(ctx, tx, row) for row, is_new in zip(rows, new, strict=True)]
    for row, is_new in zip(rows, new, strict=True):
        if is_new and row["id"] in growing and row["join_id"]:
            tx.joins.grow(row["join_id"], 1)
    _audit_submits(ctx, tx, [row for row, is_new in zip(rows, new, strict=True) if is_new])
    return ids


def insert(ctx: Context, tx: Tx, rows: Sequence[dict[str, Any]], verb_name: str = "submit_job") -> None:
    """Insert jobs of which none can be there yet."""
    tx.insert_jobs(rows)
    _audit_submits(ctx, tx, rows, verb_name)


def _audit_submits(ctx: Context, tx: Tx, rows: Sequence[dict[str, Any]], verb_name: str = "submit_job") -> None:
    tx.audit_many(
        [
            (ctx.actor.name, verb_name, row["id"], "", None, {"task": row["task"]}, trace_id_of(row["traceparent"]))
            for row in rows
        ]
    )


def insert_sent(ctx: Context, tx: Tx, sends: Sequence[SubmitJob], joins: Sequence[NewJoin]) -> frozenset[str]:
    """Insert jobs that an attempt sent; one that is there already (the same send, repeated) is left alone.

    Returns:
        Topics to tell once it is committed.
    """
    now = tx.now()
    rows = [job_row(ctx, send, now) for send in sends]
    fresh: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        # Two sends of one finish may carry the same id or key: the first one is the job.
        names = {("id", row["id"]), ("key", row["idempotency_scope"], row["idempotency_key"] or row["id"])}
        if not names & seen:
            fresh.append(row)
        seen |= names
    insert_or_find(ctx, tx, fresh, growing={send.job_id for send in sends if send.grows_join})
    return accept_joins(ctx, tx, joins) if joins else frozenset()
