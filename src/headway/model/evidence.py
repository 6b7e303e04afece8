"""What a Celery cluster says of a task, and the state that follows from all of it.

A task's state is a function of the set of everything that was said of it, in whatever order that arrived and however
often: so duplicates, late events and two observers side by side change nothing, and no state goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from headway.model.sayings import ENDED, MEANINGS, OUR_STATE, CeleryState, Said
from headway.model.states import JobState

_TRAIL_HEAD, _TRAIL_TAIL = 16, 48
_TRAIL = _TRAIL_HEAD + _TRAIL_TAIL
_MAX_RUN = 90_000


class Mark(NamedTuple):
    """One saying in a task's trail.

    Attributes:
        said: a value of ``Said``.
        at: UTC microseconds by the clock of who said it; 0 where it said no time.
        worker: who said it; empty for the result backend.
        retries: the number of the run, where it was said.
        note: the exception of a retry or a failure, cut short.
    """

    said: str
    at: int
    worker: str
    retries: int | None = None
    note: str | None = None


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Evidence(NamedTuple):
    """One thing said of one task.

    Attributes:
        task_id: of whom.
        said: what.
        at: UTC microseconds by the clock of who said it; 0 where it said no time.
        worker: who said it.
        facts: what else it said: keys are attributes of ``ObservedTask``.
    """

    task_id: str
    said: Said
    at: int
    worker: str
    facts: Mapping[str, Any] = _NOTHING


@dataclass(slots=True)
class ObservedTask:
    """One task of a cluster that is only watched: everything that was ever said of it, and what follows from that.

    Times are UTC microseconds. ``seen_first_at`` and ``seen_at`` are by the observer's clock, all others by the clocks
    of those who said so.

    Attributes:
        state, rank: what follows from the trail; the rank never falls.
        args, kwargs, result, error, traceback: texts, masked and cut.
        gap: id of the gap in which its end may have been missed; None where nothing is missing.
        source: ``events``, ``inspect`` or ``results``: who first said that it exists.
        found: all values as the database has them; None for a new one.
    """

    id: str
    name: str | None = None
    state: str = CeleryState.PENDING
    rank: int = -1
    queue: str | None = None
    worker: str | None = None
    retries: int = 0
    args: str | None = None
    kwargs: str | None = None
    result: str | None = None
    error: str | None = None
    traceback: str | None = None
    runtime: float | None = None
    sent_at: int | None = None
    received_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    eta: int | None = None
    expires: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
    seen_first_at: int = 0
    seen_at: int = 0
    source: str = "events"
    gap: str | None = None
    trail: list[Mark] = field(default_factory=list)
    found: tuple[Any, ...] | None = field(default=None, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.rank >= ENDED

    def values(self) -> tuple[Any, ...]:
        """All values in the order of the attributes, without ``found``."""
        return _VALUES(self)

    def copy(self) -> ObservedTask:
        """One that can be changed without changing this."""
        twin = ObservedTask(*_VALUES(self))
        twin.trail = list(self.trail)
        twin.found = self.found
        return twin

    @property
    def tries_known(self) -> bool:
        """Whether anything that was said of it says which try it was; else ``retries`` says nothing."""
        return self.retries > 0 or any(mark.retries is not None for mark in self.trail)

    @property
    def job_state(self) -> JobState:
        """Its state by our names."""
        return OUR_STATE[CeleryState(self.state)]


_VALUES: Final = attrgetter(*(one.name for one in fields(ObservedTask) if one.name != "found"))
_KEEPS_FIRST: Final = frozenset(("name", "args", "kwargs", "root_id", "parent_id", "queue", "eta", "expires"))
_TAKES_LAST: Final = ("result", "error", "traceback", "runtime")


def take(task: ObservedTask, evidence: Evidence, seen_at: int) -> bool:
    """Add one saying to a task's trail; ``settle`` must follow before the task is used.

    Args:
        task: changed in place.
        evidence: of this task.
        seen_at: when it reached the observer.

    Returns:
        Whether it was new: False for a duplicate, which changes nothing.
    """
    _, said, at, worker, facts = evidence
    trail = task.trail
    for mark in trail:
        if mark[0] == said and mark[1] == at and mark[2] == worker:
            return False
    if len(trail) >= _TRAIL and at and not MEANINGS[said].ends and _was_dropped(trail, at, worker):
        return False
    retries = facts.get("retries")
    error = facts.get("error")
    trail.append(Mark(said, at, worker, retries, error[:200] if error else None))
    for name, value in facts.items():
        if name in _KEEPS_FIRST and value is not None and getattr(task, name) is None:
            # A retry is sent with the task's own id for a parent where it has none: that is none.
            if name == "parent_id" and value == task.id:
                continue
            setattr(task, name, value)
    if retries is not None and retries > task.retries:
        task.retries = retries
    _take_last(task, facts)
    task.seen_at = max(task.seen_at, seen_at)
    return True


def _was_dropped(trail: list[Mark], at: int, worker: str) -> bool:
    """Whether a saying belongs between what is left of a worker's first and of its last ones: it was heard before."""
    kept = [mark.at for mark in trail[_TRAIL_HEAD:] if mark.worker == worker and mark.at]
    return (
        bool(kept) and at < min(kept) and at > max((m.at for m in trail[:_TRAIL_HEAD] if m.worker == worker), default=0)
    )


def _take_last(task: ObservedTask, facts: Mapping[str, Any]) -> None:
    """Result and error are those of the strongest saying that has any; one alike fills in what that did not say."""
    new = task.trail[-1]
    if not _tells(new):
        return
    key = _key(new, task.trail)
    if key[0] < task.rank and task.state in _TELLING:
        # What decides may have been cut from the trail.
        return
    others = [_key(mark, task.trail) for mark in task.trail[:-1] if _tells(mark)]
    strongest = max(others, default=None)
    alike = strongest is not None and strongest[0] == key[0]
    for name in _TAKES_LAST:
        value = facts.get(name)
        if strongest is None or key > strongest:
            if value is not None or not alike:
                setattr(task, name, value)
        elif alike and getattr(task, name) is None:
            setattr(task, name, value)


def _tells(mark: Mark) -> bool:
    return mark.note is not None or mark.said in _SUCCESSES


def settle(task: ObservedTask) -> None:
    """Work out from the trail what the task's state is; it never goes back behind what it was."""
    rank, state, decisive = _state_of(task.trail)
    if rank > task.rank:
        task.rank, task.state = rank, state.value
    if rank >= task.rank:
        _times(task, decisive)
    if task.ended:
        task.gap = None
        if task.state == CeleryState.SUCCESS:
            # What an earlier try failed with is in the trail.
            task.error = task.traceback = None
    if len(task.trail) > _TRAIL:
        del task.trail[_TRAIL_HEAD:-_TRAIL_TAIL]


def _state_of(trail: Iterable[Mark]) -> tuple[int, CeleryState, Mark | None]:
    """(rank, state, the mark that decides) of a set of sayings."""
    best = (-1, 0, 0)
    state, decisive = CeleryState.PENDING, None
    marks = list(trail)
    # An end stands above all else, so where there is one the others need not be understood.
    for mark in [one for one in marks if one[0] in _ENDS] or marks:
        key = _key(mark, marks)
        if key > best:
            meaning = MEANINGS[mark[0]]  # type: ignore[index] # a Said is its own text
            best, decisive = key, mark
            state = meaning.state
            if not meaning.ends and meaning.rank == 0 and key[0] >= 10:
                # Sent again by a retry: still waiting for its next try.
                state = CeleryState.RETRY
    return best[0], state, decisive


def _key(mark: Mark, marks: list[Mark]) -> tuple[int, int, int]:
    """What decides among sayings: the greatest."""
    meaning = MEANINGS[mark[0]]  # type: ignore[index]
    if meaning.ends:
        # Of two alike the one of a worker, with a time; then the first: a duplicate delivery ends again, and changes
        # nothing that was recorded.
        return ENDED + meaning.rank, (2 if mark.worker else 0) + (1 if mark.at else 0), -mark.at
    return min(_run_of(mark, marks), _MAX_RUN) * 10 + meaning.rank, 1, mark.at


def _run_of(mark: Mark, marks: list[Mark]) -> int:
    """Which run of the task a saying is of: its first try is 0. With more marks it never becomes a smaller one.

    Only ``sent`` and ``received`` say it themselves; for the others it is the last that this worker received before,
    or as many runs as it saw end before. What ends a run is of the last that was begun: its worker may have received
    the next one already. Clocks of two workers are never compared.
    """
    if mark.retries is not None:
        return mark.retries
    known = ended = 0
    ends = mark.said == Said.RETRIED
    for one in marks:
        if one.worker != mark.worker or one.at > mark.at or one is mark:
            continue
        if one.said == Said.RETRIED:
            ended += 1
        elif ends:
            if one.said in _STARTS:
                known = max(known, _run_of(one, marks))
        elif one.said == Said.RECEIVED and one.retries is not None:
            known = max(known, one.retries)
    return max(known, ended)


def _times(task: ObservedTask, decisive: Mark | None) -> None:
    """The times of the run that decides, each by the clock of the one who did it."""
    worker = decisive.worker if decisive is not None else ""
    if not worker:
        # The result backend does not say who did it: then whoever else said most of it.
        others = [mark for mark in task.trail if mark.worker and mark.said not in _PRODUCERS]
        worker = max(others, key=lambda mark: _key(mark, task.trail)).worker if others else ""
    starts: list[int] = []
    received: list[int] = []
    for mark in task.trail:
        said, at = mark.said, mark.at
        if not at:
            continue
        if said == Said.SENT:
            if task.sent_at is None or at < task.sent_at:
                task.sent_at = at
        elif said == Said.RECEIVED and mark.worker == worker:
            received.append(at)
        elif said in _STARTS and mark.worker == worker:
            starts.append(at)
    if received:
        task.received_at = max(received)
    elif task.received_at is None:
        task.received_at = max((m.at for m in task.trail if m.said == Said.RECEIVED and m.at), default=None)
    if starts:
        task.started_at = max(starts)
    elif task.started_at is None:
        task.started_at = max((m.at for m in task.trail if m.said in _STARTS and m.at), default=None)
    if decisive is None:
        return
    if decisive.said not in _PRODUCERS and worker:
        task.worker = worker
    if task.ended:
        task.finished_at = decisive.at or task.seen_at
        if task.started_at is not None and task.started_at > task.finished_at:
            # A later start of a duplicate delivery.
            task.started_at = max((at for at in starts if at <= task.finished_at), default=None)


_ENDS: Final = frozenset(said.value for said, meaning in MEANINGS.items() if meaning.ends)
_STARTS: Final = frozenset({Said.STARTED.value, Said.SEEN_RUNNING.value})
_PRODUCERS: Final = frozenset({Said.SENT.value})
_TELLING: Final = frozenset({CeleryState.SUCCESS, CeleryState.FAILURE})
_SUCCESSES: Final = frozenset({Said.SUCCEEDED.value, Said.RESULT_SUCCESS.value})
