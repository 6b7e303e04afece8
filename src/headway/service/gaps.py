"""Who watched when: what an observer finds at its start, and whether another one heard what it missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Final

from headway.model.observed import Gap, Observer
from headway.ports.observations import ObservedReader
from headway.ports.store import Tx

_WATCHES: Final = 30_000_000
"""An observer that was heard of so lately may still be watching (microseconds)."""
_JUDGED_ANEW: Final = 600_000_000
_LOOKED_AT: Final = 50

_WATCHED: Final = "another_watched"
_AWAY: Final = frozenset(("not_watching", "broker_away"))
# Nothing was missed in these.
_WHOLE: Final = frozenset((_WATCHED, "kept_by_broker"))
# Nobody heard what was not sent.
_UNSAID: Final = "events_off"


@dataclass(frozen=True, slots=True)
class Start:
    """What an observer finds.

    Attributes:
        observer: as it is stored.
        gap: open since anybody was last known to watch; not stored, unless it was open already. None where nobody ever
            watched.
        unsure: gaps of before that nobody may have judged: whoever had to may have been killed meanwhile.
    """

    observer: Observer
    gap: Gap | None
    unsure: list[Gap]


def begin_watching(tx: Tx, observer_id: str, facts: Mapping[str, Any], now: int, gap_id: str) -> Start:
    """An observer starts."""
    observed = tx.observed
    observed.lock()
    before = observed.observers()
    watching = [one for one in before if one.stopped_at is None and now - one.watermark_at < _WATCHES]
    last = max((one.watermark_at for one in before), default=None)
    gap = _left_open(tx, {one.id for one in watching} - {observer_id}, now)
    if gap is None and last is not None:
        gap = Gap(gap_id, observer_id, "not_watching", last)
    observer = Observer(observer_id, now, last or now, None, dict(facts))
    for one in before:
        if one.stopped_at is None and one not in watching:
            observed.put_observer(replace(one, stopped_at=one.watermark_at))
    observed.put_observer(observer)
    lately = observed.gaps_around(now - _JUDGED_ANEW, now)
    return Start(observer, gap, [one for one in lately if one.ended_at is not None and one.reason in _AWAY])


def _left_open(tx: Tx, watching: set[str], now: int) -> Gap | None:
    """The gap that observers left open who no longer watch, several of them made one; those of `watching` stay theirs."""
    left = [gap for gap in tx.observed.gaps_open() if gap.observer not in watching]
    for gap in left:
        if gap.reason == _UNSAID:
            # It is not for the next connection to say what became of it: a broker keeps nothing that was never sent.
            tx.observed.put_gap(replace(gap, ended_at=now))
            tx.observed.mark_gap(gap.id, now)
    left = [gap for gap in left if gap.reason != _UNSAID]
    first = min(left, key=lambda one: one.began_at, default=None)
    for gap in left:
        if gap is not first:
            tx.observed.put_gap(replace(gap, ended_at=now, reconciled_at=now))
    return first


def gaps_left(observed: ObservedReader, mine: str, now: int) -> list[Gap]:
    """Gaps that observers left open who no longer watch; those of ``mine`` are its own affair."""
    open_ = [gap for gap in observed.gaps(_LOOKED_AT) if gap.ended_at is None and gap.observer != mine]
    if not open_:
        return []
    watching = {one.id for one in observed.observers() if one.stopped_at is None and now - one.watermark_at < _WATCHES}
    return [gap for gap in open_ if gap.observer not in watching]


def judge_gaps(tx: Tx, gaps: Sequence[Gap], now: int) -> list[Gap]:
    """Mark the tasks whose end may lie in one of these, unless another observer heard what was missed.

    Args:
        tx: where to; its lock is held.
        gaps: stored, and all closed.
        now: by the clock of whoever judges.

    Returns:
        Those of which nobody knows it yet: another observer was there lately, and its next sign of life will tell.
    """
    unsure = []
    for gap in gaps:
        assert gap.ended_at is not None
        around = tx.observed.gaps_around(gap.began_at, gap.ended_at)
        known = next((one for one in around if one.id == gap.id), None)
        if known is None or known.reason == _WATCHED:
            # Another observer has judged it meanwhile.
            continue
        # What workers did not say, another observer could not hear either: it has a gap of its own for it.
        deaf = {one.observer for one in around if one.reason not in _WHOLE | {_UNSAID}} | {gap.observer}
        heard = gap.reason != _UNSAID and _heard_by_another(tx, gap, deaf, now)
        if heard is None:
            unsure.append(gap)
        elif not heard:
            tx.observed.mark_gap(gap.id, gap.ended_at)
        elif gap.reason == "not_watching":
            # Whoever comes and goes beside another leaves no trace.
            tx.observed.remove_gap(gap.id)
        elif gap.reason == "broker_away":
            tx.observed.put_gap(replace(known, reason=_WATCHED, reconciled_at=known.reconciled_at or now))
    return unsure


def _heard_by_another(tx: Tx, gap: Gap, deaf: AbstractSet[str], now: int) -> bool | None:
    assert gap.ended_at is not None
    heard: bool | None = False
    for one in tx.observed.observers():
        # One that began meanwhile may not have listened yet.
        if one.id in deaf or one.started_at > gap.began_at:
            continue
        if one.watermark_at >= gap.ended_at:
            return True
        if one.stopped_at is None and now - one.watermark_at < _WATCHES:
            heard = None
    return heard
