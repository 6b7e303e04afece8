"""What waits for other jobs: a chord's body for its header, a replaced job for the chain that stands for it.

Every end of a job that others may wait for is counted in the transaction of that end, whoever made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from headway.model.canvas import LAST_PLACE, awaits_send, results_of
from headway.model.commands import NewJoin, SubmitJob
from headway.model.states import JobState, Verb
from headway.ports.joins import JoinPart, Waiter
from headway.ports.store import EndedJob, Move, TransitionRefused, Tx
from headway.service.context import Context
from headway.service.submission import LAST_MOMENT, job_row

_REVOKED = "celery.exceptions.TaskRevokedError"


class Counted(NamedTuple):
    """One part of a join, as it is to be counted; ``error`` is None where it succeeded."""

    join_id: str
    job_id: str
    place: int
    error: dict[str, Any] | None = None
    result: str | None = None


def settle(
    ctx: Context, tx: Tx, *, kept: Mapping[str, str] | None = None, ignored: Sequence[EndedJob] = ()
) -> frozenset[str]:
    """Tell what waits for them of the jobs that have ended in this transaction.

    A part is counted for its join. What would have followed a job that did not succeed ends as failed too: steps of a
    chain that will never be sent, and a replaced job that only they would have sent again.

    Args:
        ctx: of whoever ended them.
        tx: the transaction; its ended jobs are taken.
        kept: results, as JSON text, of parts whose jobs keep none.
        ignored: jobs that succeeded, but after which nothing follows.

    Returns:
        Topics to tell once it is committed.
    """
    topics: set[str] = set()
    ended = [*tx.take_ended(), *ignored]
    while ended:
        parts: list[Counted] = []
        for one in ended:
            following = _read(one, kept or {}, parts)
            if following:
                topics |= _break(ctx, tx, one, following)
        # Always in one order: two transactions that count for the same joins must not wait for each other.
        for part in sorted(parts, key=lambda part: part[:2]):
            error = None if part.error is None else json.dumps(part.error)
            if tx.joins.count(part.join_id, part.job_id, part.place, error, part.result):
                topics |= _complete(ctx, tx, part.join_id, part.job_id)
        ended = tx.take_ended()
    return frozenset(topics)


def accept_joins(ctx: Context, tx: Tx, joins: Sequence[NewJoin]) -> frozenset[str]:
    """Store what some of the jobs of this transaction wait for; topics to tell once it is committed."""
    topics: frozenset[str] = frozenset()
    tx.joins.insert(joins)
    for join in joins:
        if join.size <= 0 and tx.joins.is_complete(join.id):
            topics |= _complete(ctx, tx, join.id, None)
    return topics


def send_again(ctx: Context, tx: Tx, row: Mapping[str, Any]) -> bool:
    """Take a send of a job that waits for it: that gives its next attempt task and arguments, and makes it ready.

    Returns:
        False where the job is not one that waits, or waited when it ended, for being sent.
    """
    job_id = row["id"]
    if not tx.joins.waited_for_send(job_id):
        return False
    changes = {f"next_{name}": row[name] for name in ("task", "args", "kwargs")}
    changes |= {name: row[name] for name in ("canvas", "celery_retries", "waits_for")}
    if row["waits_for"] is None and row["state"] == JobState.QUEUED:
        # Cancelled meanwhile: then it stays as it is.
        tx.move(Move(Verb.ENQUEUE, job_id, changes=changes), ctx.actor.name)
    else:
        tx.joins.change_waiting(job_id, changes | {"run_at": row["run_at"]})
    return True


def _read(one: EndedJob, kept: Mapping[str, str], parts: list[Counted]) -> list[Any]:
    """Add what an end counts for; the signatures that nobody will send because of it."""
    moved = one.moved
    canvas: dict[str, Any] = json.loads(moved.canvas) if moved.canvas else {}
    well = moved.state is JobState.SUCCEEDED
    if moved.join_id is not None:
        place = canvas.get("group_index", LAST_PLACE)
        error = None if well else _error_of(one)
        parts.append(Counted(moved.join_id, moved.job_id, place, error, kept.get(moved.job_id)))
    return [] if well and one.error_json is None else canvas.get("chain") or []


def _error_of(one: EndedJob) -> dict[str, Any]:
    if one.error_json is not None:
        error: dict[str, Any] = json.loads(one.error_json)
    else:
        error = {"code": "cancelled", "message": "the job was cancelled before it began"}
    if one.moved.state is JobState.CANCELLED:
        error["exc_type"] = _REVOKED
    # The texts of a traceback stay with the job that raised it.
    error.pop("traceback", None)
    return error


def _steps(signature: Any) -> Iterator[SubmitJob]:
    """The jobs that a signature would have sent, sooner or later, as far as they have ids."""
    if not isinstance(signature, Mapping):
        return
    options, kwargs = signature.get("options") or {}, signature.get("kwargs") or {}
    if signature.get("subtask_type") in ("group", "chain", "chord"):
        for part in (*_listed(kwargs.get("tasks")), *_listed(kwargs.get("header")), kwargs.get("body")):
            yield from _steps(part)
    elif options.get("task_id"):
        group_id, index = options.get("group_id"), options.get("group_index")
        job_id = str(options["task_id"])
        yield SubmitJob(
            task=str(signature.get("task")),
            args=list(signature.get("args") or ()),
            kwargs=dict(kwargs),
            job_id=job_id,
            queue=options.get("queue") if isinstance(options.get("queue"), str) else None,
            origin="celery",
            canvas=None if index is None else {"group_index": index},
            group_id=group_id,
            join_id=group_id if options.get("chord") else None,
            waits_for=awaits_send(job_id),
        )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _complete(ctx: Context, tx: Tx, join_id: str, last: str | None) -> frozenset[str]:
    shape = tx.joins.end(join_id)
    waiters = tx.joins.waiters(join_id)
    if not waiters:
        return frozenset()
    parts = tx.joins.parts(join_id)
    texts = {part.job_id: _result(ctx, part) for part in parts if part.error_json is None}
    broken = next((_broken(part) for part in parts if texts.get(part.job_id) is None), None)
    results = _nested(texts, list(texts) if shape is None else shape)
    topics: set[str] = set()
    for waiter in waiters:
        changes: dict[str, Any] = {"waits_for": None}
        if last is not None:
            # As in Celery: who made it ready is what called it.
            changes["parent_id"] = last
        if broken is None:
            column = "next_args" if waiter.resent else "args"
            changes[column] = waiter.args_json.replace(json.dumps(results_of(join_id)), results)
            topics |= _ready(ctx, tx, waiter, changes)
        else:
            canvas = json.loads(waiter.canvas) if waiter.canvas else {}
            changes["canvas"] = json.dumps(canvas | {"broken": broken})
            tx.move(
                Move(Verb.ENQUEUE, waiter.job_id, changes=changes, data={"broken": broken["job_id"]}), ctx.actor.name
            )
    return frozenset(topics)


def _ready(ctx: Context, tx: Tx, waiter: Waiter, changes: dict[str, Any]) -> frozenset[str]:
    canvas = json.loads(waiter.canvas) if waiter.canvas else {}
    lifetime, countdown, run_at = (canvas.get(name) for name in ("expires_after", "countdown", "run_at"))
    # Both are counted from now: the moment of the send was that of the header.
    if lifetime is not None:
        changes["expires_at"] = tx.now() + int(lifetime * 1_000_000)
    if countdown is not None:
        run_at = tx.now() + int(countdown * 1_000_000)
    if run_at is not None and run_at > tx.now():
        tx.joins.change_waiting(waiter.job_id, changes | {"run_at": min(run_at, LAST_MOMENT)})
        return frozenset({"due"})
    tx.move(Move(Verb.ENQUEUE, waiter.job_id, changes=changes), ctx.actor.name)
    return frozenset({"due"} if lifetime is not None else ())


def _broken(part: JoinPart) -> dict[str, Any]:
    if part.error_json is not None:
        return {"job_id": part.job_id, "error": json.loads(part.error_json)}
    return {"job_id": part.job_id, "error": {"code": "result_gone", "message": "its result was removed"}}


def _nested(texts: Mapping[str, str | None], shape: list[Any]) -> str:
    """The results as one JSON list."""
    inner = (_nested(texts, one) if isinstance(one, list) else texts.get(one) or "null" for one in shape)
    return "[" + ",".join(inner) + "]"


def _result(ctx: Context, part: JoinPart) -> str | None:
    """A part's result as JSON text; None where it was removed."""
    if part.inline is not None:
        return part.inline
    if part.blob is None:
        return None if part.removed else "null"
    data = ctx.services.blobs.get(part.blob)
    return None if data is None else data.decode()


def _break(ctx: Context, tx: Tx, one: EndedJob, following: Sequence[Any]) -> frozenset[str]:
    """Fail what would have been sent after a job: as in Celery, whoever waits for its result learns why it never comes."""
    before = tx.get(one.moved.job_id)
    steps = {str(step.job_id): step for signature in following for step in _steps(signature)}
    if before is None or not steps:
        return frozenset()
    # A replaced job is there already, and waits for being sent again.
    rows = [
        job_row(ctx, replace(step, root_id=before.root_id, queue=step.queue or before.queue), tx.now(), checked=False)
        for step in steps.values()
    ]
    tx.insert_new(rows)
    error = _error_of(one)
    # The exception of what failed is that of what should have followed.
    kept = {
        "code": "chain_broken",
        "message": str(error.get("message", "")),
        "exc_type": error.get("exc_type"),
        "hint": f"Job {before.id}, which comes before it, did not succeed: look at it.",
    }
    changes = {"error": json.dumps({name: value for name, value in kept.items() if value is not None})}
    told = {"code": "chain_broken", "broken": before.id}
    topics: set[str] = set()
    for job_id in tx.joins.waiting_for_send(list(steps)):
        move = Move(Verb.BREAK, job_id, changes=changes, data=told)
        if not isinstance(tx.move(move, ctx.actor.name), TransitionRefused):
            topics |= {f"job:{job_id}", "ended"}
    return frozenset(topics)
