"""One task in words: what was said of it and when, what may be missing, and who belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from headway.console.colours import Tone
from headway.model.evidence import Mark
from headway.model.observed import Gap, TaskView
from headway.model.sayings import MEANINGS, OUR_STATE, CeleryState, Said
from headway.model.states import TERMINAL_STATES, VIEW, JobState
from headway.model.times import LAST_MOMENT, to_rfc3339

_DEEPEST: Final = 6
_EMPTY: Final = ("", "()", "[]", "{}", "null")
_SAID: Final[Mapping[str, str]] = {
    Said.SENT: "sent",
    Said.RECEIVED: "received",
    Said.STARTED: "started",
    Said.RETRIED: "to be tried again",
    Said.SUCCEEDED: "succeeded",
    Said.FAILED: "failed",
    Said.REVOKED: "revoked",
    Said.REJECTED: "rejected",
    Said.REQUEUED: "given back to its queue",
    Said.SEEN_WAITING: "seen waiting",
    Said.SEEN_RUNNING: "seen running",
    Said.RESULT_STARTED: "started, says its result",
    Said.RESULT_RETRY: "to be tried again, says its result",
    Said.RESULT_SUCCESS: "succeeded, says its result",
    Said.RESULT_FAILURE: "failed, says its result",
    Said.RESULT_REVOKED: "revoked, says its result",
    Said.RESULT_REJECTED: "rejected, says its result",
}
_CELERY: Final[Mapping[str, str]] = {
    CeleryState.PENDING: "sent; no worker has said that it has it",
    CeleryState.RECEIVED: "a worker has it and has not begun",
    CeleryState.STARTED: "a worker runs it",
    CeleryState.RETRY: "waiting for its next try",
    CeleryState.REJECTED: "a worker gave it back to nobody",
    CeleryState.REVOKED: "ended because somebody asked, or it expired",
    CeleryState.FAILURE: "ended with an error",
    CeleryState.SUCCESS: "ended with a result",
}
_REASONS: Final[Mapping[str, str]] = {
    "not_watching": "nobody was watching",
    "broker_away": "the broker did not answer",
    "buffer_full": "more was heard than could be stored",
    "missed_events": "events were heard, but that of its end was not",
    "events_off": "a worker ran tasks and sent no events of them",
    "not_stored": "Headway could not store what it heard",
    "kept_by_broker": "the connection was lost",
}


@dataclass(frozen=True, slots=True)
class Flag:
    """Something to know of a task beside its state."""

    word: str
    tone: Tone
    meaning: str


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task as a list says it.

    Attributes:
        link: its page.
        meaning: of its state, with Celery's own word for it.
        ran: seconds; None where it did not begin or nobody knows how long.
        since: since when it runs, UTC microseconds; None where it does not, or nobody knows.
        why: the error of one that failed or is tried again.
    """

    task: TaskView
    link: str
    meaning: str
    ran: float | None
    since: int | None
    why: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was said of a task; ``after`` are seconds since the one before, None where clocks do not say."""

    words: str
    state: JobState
    at: int | None
    worker: str
    attempt: int | None
    note: str
    after: float | None


@dataclass(frozen=True, slots=True)
class Relative:
    """A task of the same chain, group or chord; ``depth`` is how far below its root it was called."""

    row: TaskRow
    depth: int
    role: str


def task_row(task: TaskView) -> TaskRow:
    """A task in words."""
    job = task.origin == "job"
    ran = task.runtime
    if ran is None and task.started_at is not None and task.finished_at is not None:
        ran = max(0, task.finished_at - task.started_at) / 1_000_000
    running = task.state is JobState.RUNNING and not task.orphaned and task.gap is None
    troubled = task.state in (JobState.FAILED, JobState.TIMEOUT, JobState.RETRY_SCHEDULED, JobState.CANCELLED)
    meaning = VIEW[task.state].meaning if job else _CELERY.get(task.celery_state, VIEW[task.state].meaning)
    return TaskRow(
        task,
        page_of(task.id, task.origin),
        f"{meaning} ({task.celery_state})",
        ran,
        task.started_at if running else None,
        (task.error or "") if troubled else "",
        tuple(flags(task)),
    )


def page_of(task_id: str, origin: str) -> str:
    """The path of the page of a task, or of a job of ours."""
    # An id may be anything that a producer chose: "../" in it would lead elsewhere.
    return f"/{'jobs' if origin == 'job' else 'tasks'}/{quote(task_id, safe='')}/view"


def flags(task: TaskView) -> list[Flag]:
    """What is odd about a task: orphaned, or incompletely known."""
    found = []
    if task.orphaned:
        meaning = (
            f"{task.worker} began it and is gone. With task_acks_late the broker gives it to another worker; "
            "without, it has to be sent again."
        )
        found.append(Flag("orphaned", Tone.BAD, meaning))
    if task.gap is not None:
        found.append(Flag("end may be missed", Tone.WARN, "it may have ended while events were missed"))
    elif task.unnamed:
        found.append(Flag("name not known", Tone.QUIET, task.unnamed))
    return found


def gap_words(task: TaskView, gaps: Sequence[Gap]) -> str:
    """Between when and when a task's end may have been missed, and why; empty where nothing is missing."""
    if task.gap is None:
        return ""
    gap = next((one for one in gaps if one.id == task.gap), None)
    if gap is None:
        return "Its end may have been missed: it was last heard of before a time in which events were missed."
    until = f"and {_moment(gap.ended_at)}" if gap.ended_at is not None else "and now"
    why = _REASONS.get(gap.reason, gap.reason)
    return f"Its end may have been missed between {_moment(gap.began_at)} {until}, when {why}."


def _moment(at: int) -> str:
    return f"{to_rfc3339(at)[:19].replace('T', ' ')} UTC"


def steps(task: TaskView) -> list[Step]:
    """The trail of a task, oldest first; what says no time comes before its end, or last where it has none."""
    found: list[Step] = []
    before: int | None = None
    end = min((mark.at for mark in task.trail if mark.at and MEANINGS[Said(mark.said)].ends), default=LAST_MOMENT)

    def place(mark: Mark) -> tuple[int, bool]:
        untimed = LAST_MOMENT if MEANINGS[Said(mark.said)].ends else end
        return mark.at or untimed, bool(mark.at)

    for mark in sorted(task.trail, key=place):
        said = Said(mark.said)
        at = mark.at or None
        after = (at - before) / 1_000_000 if at is not None and before is not None and at >= before else None
        attempt = mark.retries + 1 if mark.retries is not None else None
        worker = mark.worker or ("result backend" if said.name.startswith("RESULT") else "")
        words = _SAID.get(said, said.value)
        found.append(Step(words, OUR_STATE[MEANINGS[said].state], at, worker, attempt, mark.note or "", after))
        before = at if at is not None else before
    return found


def relatives(task: TaskView, related: Sequence[TaskView]) -> list[Relative]:
    """The tasks of the same chain, group or chord as a tree: each below the one that called it."""
    known = {one.id for one in related}
    below: dict[str | None, list[TaskView]] = {}
    for one in related:
        parent = one.parent_id if one.parent_id in known and one.parent_id != one.id else None
        below.setdefault(parent, []).append(one)
    found: list[Relative] = []
    waiting = [(one, 0) for one in reversed(below.get(None, []))]
    while waiting:
        one, depth = waiting.pop()
        known.discard(one.id)
        found.append(Relative(task_row(one), min(depth, _DEEPEST), _role(task, one)))
        waiting += [(child, depth + 1) for child in reversed(below.get(one.id, []))]
    # Those that call each other in a circle are below nobody.
    return found + [Relative(task_row(one), 0, _role(task, one)) for one in related if one.id in known]


def _role(task: TaskView, other: TaskView) -> str:
    if other.id == task.id:
        return "this task"
    roles = [word for word, fits in (
        ("root", other.id == task.root_id),
        ("parent", other.id == task.parent_id),
        ("child", other.parent_id == task.id),
    ) if fits]  # fmt: skip
    return " and ".join(roles)


def arguments(task: TaskView) -> list[tuple[str, str]]:
    """(label, text) of what the task was given; what is empty is left out."""
    given = (("By position", task.args), ("By name", task.kwargs))
    return [(label, text) for label, text in given if text is not None and text.strip() not in _EMPTY]


def ended(task: TaskView) -> bool:
    """Whether nothing more is expected of a task."""
    return task.state in TERMINAL_STATES
