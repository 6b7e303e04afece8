"""What becomes of a job when an attempt ends: the two retry rules, cancel, interruption, replacement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from headway.model.canvas import awaits_send
from headway.model.commands import Finish, FinishAnswer, Resend
from headway.model.job import Backoff, ErrorInfo
from headway.model.states import AttemptOutcome, JobState, Verb
from headway.ports.store import EndedAttempt, EndedJob, Move, TransitionRefused, Tx
from headway.service.context import Context
from headway.service.joins import settle
from headway.service.sending import insert_sent
from headway.service.submission import LAST_MOMENT, encode

_MAX_ERROR_CHARACTERS = 10_000
_MAX_TRACEBACK_CHARACTERS = 50_000


class Decision(NamedTuple):
    """One way to end an attempt: the verb, what it changes, and how the attempt's outcome reads."""

    verb: Verb
    outcome: AttemptOutcome
    changes: Mapping[str, Any]
    data: Mapping[str, Any] | None
    error: ErrorInfo | None = None


# Ways to end that lead to a further try: they lose against a cancel that was asked for meanwhile.
_AGAIN = frozenset({Verb.RETRY, Verb.REPLACE, Verb.WAIT, Verb.REQUEUE, Verb.INTERRUPT})
_IGNORED = json.dumps({"code": "ignored", "message": "the step before it raised Ignore, so nothing follows"})


def error_json(error: ErrorInfo | None) -> str | None:
    """An error as it is stored, with its long texts cut."""
    if error is None:
        return None
    kept = {name: value for name, value in asdict(error).items() if value is not None}
    kept["message"] = kept["message"][:_MAX_ERROR_CHARACTERS]
    if "traceback" in kept:
        # The end of a traceback names the error; the beginning is the engine's.
        kept["traceback"] = kept["traceback"][-_MAX_TRACEBACK_CHARACTERS:]
    return json.dumps(kept)


def finish_all(
    ctx: Context, tx: Tx, finishes: Sequence[Finish], refs: Sequence[str | None], worker_id: str
) -> tuple[list[FinishAnswer], frozenset[str]]:
    """Record attempts' ends in this transaction, each if it still holds its job's fence.

    A refused finish changes nothing and sends nothing. One that was recorded before answers the same again.

    Returns:
        One answer per finish, and further topics to tell once it is committed.
    """
    now, actor = tx.now(), ctx.actor.name
    decisions = [
        _completed(decide(ctx, finish, now, ref), finish, worker_id) for finish, ref in zip(finishes, refs, strict=True)
    ]
    moves = [_move(finish, one) for finish, one in zip(finishes, decisions, strict=True)]
    answers: list[FinishAnswer | None] = []
    ended: list[EndedAttempt] = []
    topics: frozenset[str] = frozenset()
    kept: dict[str, str] = {}
    ignored: list[EndedJob] = []
    for finish, decision, answer in zip(finishes, decisions, tx.move_many(moves, actor), strict=True):
        moved = answer
        if isinstance(moved, TransitionRefused) and decision.verb in _AGAIN:
            moved = tx.move(_stop_instead(finish, decision), actor)
        if isinstance(moved, TransitionRefused):
            answers.append(None)
            continue
        ended.append(EndedAttempt(finish.job_id, finish.fence, decision.outcome.value, error_json(decision.error)))
        # A cancel that came before a replacement leaves nothing of it.
        if finish.sends and (finish.outcome is not AttemptOutcome.REPLACED or moved.state is JobState.SCHEDULED):
            topics |= insert_sent(ctx, tx, finish.sends, finish.joins)
        if finish.part_json is not None:
            kept[finish.job_id] = finish.part_json
        for join_id in sorted(finish.grows):
            tx.joins.grow(join_id, finish.grows[join_id])
        if finish.outcome is AttemptOutcome.IGNORED and finish.begun is not None and finish.begun.canvas_json:
            ignored.append(EndedJob(replace(moved, join_id=None, canvas=finish.begun.canvas_json), _IGNORED))
        answers.append(FinishAnswer(moved.state))
    if ended:
        tx.end_attempts(ended)
    topics |= settle(ctx, tx, kept=kept, ignored=ignored)
    # Asked last: the first of two reports of one attempt may be among these.
    return [answer or _refused(tx, finish) for finish, answer in zip(finishes, answers, strict=True)], topics


def _move(finish: Finish, decision: Decision) -> Move:
    verb, begun = decision.verb, finish.begun
    known = None
    if begun is not None and verb is Verb.SUCCEED:
        known = (begun.attempt, begun.task, begun.join_id, begun.canvas_json if begun.join_id else None)
    return Move(verb, finish.job_id, finish.fence, decision.changes, decision.data, verb in _AGAIN, known)


def _completed(decision: Decision, finish: Finish, worker_id: str) -> Decision:
    """The decision with what holds for every outcome: a thread that runs on, and the last progress."""
    if not finish.held and finish.progress is None and finish.children_json is None:
        return decision
    changes = dict(decision.changes)
    if finish.children_json is not None:
        changes["children"] = finish.children_json
    if finish.held:
        changes["held_by"] = worker_id
    if finish.progress is not None:
        changes["progress_done"] = finish.progress.done
        changes["progress_total"] = finish.progress.total
        changes["progress_message"] = finish.progress.message
    return decision._replace(changes=changes)


def _stop_instead(finish: Finish, decision: Decision) -> Move:
    changes = {"error": error_json(_CANCELLED)}
    # An interrupted attempt costs no try, whatever becomes of its job; a thread that cannot be stopped holds it.
    changes |= {name: decision.changes[name] for name in ("attempts+", "held_by") if name in decision.changes}
    return Move(Verb.STOP, finish.job_id, finish.fence, changes)


def _refused(tx: Tx, finish: Finish) -> FinishAnswer:
    outcome = tx.attempt_ended(finish.job_id, finish.fence)
    if outcome is None or outcome == AttemptOutcome.ABANDONED:
        return FinishAnswer(None, refused=True)
    job = tx.get(finish.job_id)
    return FinishAnswer(job.state if job else None)


_CANCELLED = ErrorInfo(code="cancelled", message="the job was cancelled while it ran")


def decide(ctx: Context, finish: Finish, now: int, ref: str | None) -> Decision:
    """What the reported outcome means for the job; no I/O."""
    outcome = finish.outcome
    if outcome in (AttemptOutcome.SUCCEEDED, AttemptOutcome.IGNORED):
        body = None if ref is not None or finish.result_json == "null" else finish.result_json
        changes = {"result": body, "result_blob": ref, "error": None}
        return Decision(
            Verb.SUCCEED, outcome, changes, None if outcome is AttemptOutcome.SUCCEEDED else {"ignored": True}
        )
    if outcome in (AttemptOutcome.RETRIED, AttemptOutcome.REPLACED) and finish.resend is not None:
        return _decide_resend(ctx, finish, finish.resend, now)
    if outcome is AttemptOutcome.REPLACED and finish.awaits_send:
        return _bounded(ctx, finish, _wait(finish, awaits_send(finish.job_id), {"error": error_json(finish.error)}))
    if outcome is AttemptOutcome.CANCELLED:
        return Decision(Verb.STOP, outcome, {"error": error_json(finish.error or _CANCELLED)}, None, finish.error)
    if outcome is AttemptOutcome.INTERRUPTED:
        return Decision(Verb.INTERRUPT, outcome, {"attempts+": -1}, {"interrupted": True}, finish.error)
    if outcome is AttemptOutcome.REJECTED and finish.requeue:
        return _bounded(ctx, finish, Decision(Verb.REQUEUE, outcome, {}, {"rejected": True}))
    if outcome is AttemptOutcome.REJECTED:
        rejected = finish.error or ErrorInfo(code="rejected", message="the task rejected the job")
        return Decision(Verb.FAIL, outcome, {"error": error_json(rejected)}, {"code": rejected.code}, rejected)
    return _decide_failure(ctx, finish, now)


def _decide_resend(ctx: Context, finish: Finish, resend: Resend, now: int) -> Decision:
    services = ctx.services
    changes: dict[str, Any] = {
        "next_task": resend.task,
        "next_args": encode(services, resend.args),
        "next_kwargs": encode(services, resend.kwargs),
        "celery_retries": resend.celery_retries,
        "canvas": encode(services, resend.canvas) if resend.canvas else None,
        "error": error_json(finish.error),
    }
    if resend.waits_for is not None:
        return _bounded(ctx, finish, _wait(finish, resend.waits_for, changes))
    if finish.outcome is AttemptOutcome.REPLACED and (resend.due_at is None or resend.due_at <= now):
        return _bounded(
            ctx, finish, Decision(Verb.REPLACE, finish.outcome, changes, {"task": resend.task}, finish.error)
        )
    due_at = min(resend.due_at, LAST_MOMENT) if resend.due_at is not None else now
    decision = Decision(Verb.RETRY, finish.outcome, {**changes, "run_at": due_at}, {"due_at": due_at}, finish.error)
    return _bounded(ctx, finish, decision)


def _wait(finish: Finish, waits_for: str, changes: dict[str, Any]) -> Decision:
    """Replaced by a chain or a group: the job waits for them."""
    changes |= {"waits_for": waits_for, "run_at": None}
    return Decision(Verb.WAIT, finish.outcome, changes, {"replaced": True}, finish.error)


def _decide_failure(ctx: Context, finish: Finish, now: int) -> Decision:
    """The job's own rule: failures that Celery did not retry, and timeouts."""
    timed_out = finish.outcome is AttemptOutcome.TIMEOUT
    error = finish.error or ErrorInfo(code="timeout" if timed_out else "task_failed", message=str(finish.outcome))
    end = Decision(
        Verb.TIME_OUT if timed_out else Verb.FAIL,
        finish.outcome,
        {"error": error_json(error)},
        {"code": error.code},
        error,
    )
    begun = finish.begun
    if begun is None or not finish.may_retry or begun.retries_used >= begun.max_retries:
        return end
    backoff = Backoff(**json.loads(begun.backoff_json)) if begun.backoff_json else Backoff()
    pause = backoff.pause(begun.retries_used + 1, ctx.services.ids.random_unit())
    due_at = min(now + int(pause * 1_000_000), LAST_MOMENT)
    changes = {"run_at": due_at, "retries_used+": 1, "error": error_json(error)}
    again = Decision(Verb.RETRY, finish.outcome, changes, {"due_at": due_at, "code": error.code}, error)
    if begun.attempt >= ctx.services.limits.max_attempts:
        return end
    return again


def _bounded(ctx: Context, finish: Finish, decision: Decision) -> Decision:
    """No job tries for ever, whoever asks for the next try."""
    allowed = ctx.services.limits.max_attempts
    if finish.begun is None or finish.begun.attempt < allowed:
        return decision
    error = ErrorInfo(
        code="too_many_attempts",
        message=f"the job was tried {finish.begun.attempt} times, and {allowed} are allowed",
        traceback=decision.error.traceback if decision.error else None,
        hint="Look at the errors of its attempts; HEADWAY_MAX_ATTEMPTS sets the bound.",
    )
    return Decision(Verb.FAIL, decision.outcome, {"error": error_json(error)}, {"code": error.code}, error)
