"""Who watched when: what an observer finds at its start, and whether another one heard what it missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from headway.model.observed import Gap, Observer
from headway.ports.store import Tx

_WATCHES: Final = 30_000_000
"""An observer that was heard of so lately may still be watching (microseconds)."""


def begin_watching(
    tx: Tx, observer_id: str, facts: Mapping[str, Any], now: int, gap_id: str
) -> tuple[Gap | None, Observer]:
    """An observer starts.

    Returns:
        The gap that is open since anybody was last known to watch (not stored, unless it was open already; None where
        nobody ever did), and the observer as it is stored.
    """
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
    return gap, observer


def _left_open(tx: Tx, watching: set[str], now: int) -> Gap | None:
    """The gap that observers left open who no longer watch, several of them made one; those of `watching` stay theirs."""
    left = [gap for gap in tx.observed.gaps_open() if gap.observer not in watching]
    first = min(left, key=lambda one: one.began_at, default=None)
    for gap in left:
        if gap is not first:
            tx.observed.put_gap(replace(gap, ended_at=now, reconciled_at=now))
    return first


def judge_gaps(tx: Tx, gaps: Sequence[Gap], mine: str, now: int) -> list[Gap]:
    """Store closed gaps, and mark the tasks whose end may lie in one, unless another observer heard what this one missed.

    Args:
        tx: where to; its lock is held.
        gaps: all closed.
        mine: id of the observer that missed it.
        now: by its clock.

    Returns:
        Those of which nobody knows it yet: another observer was there lately, and its next sign of life will tell.
    """
    unsure = []
    for one in gaps:
        gap = one
        assert gap.ended_at is not None
        heard = _heard_by_another(tx, gap, mine, now)
        if heard and gap.reason == "not_watching":
            # Whoever comes and goes beside another leaves no trace.
            tx.observed.remove_gap(gap.id)
            continue
        if heard and gap.reason == "broker_away":
            gap = replace(gap, reason="another_watched", reconciled_at=gap.reconciled_at or now)
        tx.observed.put_gap(gap)
        if heard is None:
            unsure.append(gap)
        elif not heard:
            tx.observed.mark_gap(gap.id, gap.ended_at)
    return unsure


def _heard_by_another(tx: Tx, gap: Gap, mine: str, now: int) -> bool | None:
    assert gap.ended_at is not None
    deaf = {one.observer for one in tx.observed.gaps_open()} | {mine}
    heard: bool | None = False
    for one in tx.observed.observers():
        # One that began meanwhile has a gap of its own before.
        if one.id in deaf or one.started_at > gap.began_at:
            continue
        if one.watermark_at >= gap.ended_at:
            return True
        if one.stopped_at is None and now - one.watermark_at < _WATCHES:
            heard = None
    return heard
