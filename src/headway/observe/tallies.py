"""What workers say they have begun, beside what was heard of their tasks: so it is noticed that events are off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from headway.model.observed import GONE_SECONDS, SILENT_SECONDS, ObservedWorker

_SECOND: Final = 1_000_000
# Celery sends events of tasks in bundles: a heartbeat may overtake them.
_SURE: Final = 5 * _SECOND
# One that was heard before may run tasks that send none (`send_events=False`): it takes more to call it mute.
_LONG: Final = 60 * _SECOND
_GROWING: Final = 5
_ROUNDED: Final = 2 * _SECOND
# What a worker may have begun before its first heartbeat.
_BEFORE: Final = 10 * _SECOND
_MAX_WORKERS: Final = 10_000


@dataclass(slots=True)
class Tally:
    """One worker.

    Attributes:
        beat_at: when its heart was last heard; None is never, so that only its answers tell of it.
        asked_every: seconds between those answers; 0 where it was not asked.
        began_at: when its process began, by its answers; None where that is not known.
        said: tasks it has begun, as it last said.
        processed: the same; None before there is one to compare with.
        started: of how many it was heard since then.
        surplus: how many of those began after it was asked, so that the next answer has them.
        debt: how many it has begun and was not heard to say so.
        suspect_at: since when there is such a debt.
        growing: heartbeats or answers in a row with more of it and nothing heard between.
        heard_at: when any event of a task was last heard; None is never.
        mixed: it was heard again after it had been called mute, so it has tasks that send no events.
        mute_since: from when on tasks may have run unheard; None while it is not called mute.
    """

    first_seen_at: int
    seen_at: int
    pid: Any = None
    freq: float = 2.0
    beat_at: int | None = None
    asked_every: float = 0.0
    began_at: int | None = None
    said: int = 0
    processed: int | None = None
    started: int = 0
    surplus: int = 0
    debt: int = 0
    suspect_at: int = 0
    growing: int = 0
    heard_at: int | None = None
    mixed: bool = False
    mute_since: int | None = None


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Of a worker, which also says it when it has lost its broker and connects anew; ``tally`` is of before, if known."""

    at: int
    tally: Tally | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says of itself when it is asked.

    Attributes:
        processed: tasks it has begun.
        uptime_seconds: rounded; None of a release of Celery that does not say it.
        every: seconds until it is asked again.
    """

    pid: Any
    processed: int
    uptime_seconds: int | None
    every: float


class Tallies:
    """All workers that are heard of; written by one thread, read by others."""

    def __init__(self) -> None:
        self._workers: dict[str, Tally] = {}
        self._goodbyes: dict[str, Goodbye] = {}
        self._connected_at = 0
        self._whole_since = 0
        self._deaf = True
        self._ended: list[int] = []
        self.last_at = 0

    def remembered(self, worker: ObservedWorker, at: int) -> None:
        """One that sent no events when somebody last watched, by the same process: it is so until it is heard."""
        tally = self._of(worker.hostname, worker.seen_at)
        tally.pid, tally.mute_since = worker.facts.get("pid"), at
        tally.freq = float(worker.facts.get("freq") or tally.freq)
        processed = worker.facts.get("processed")
        tally.said = processed if isinstance(processed, int) else 0

    def lost(self) -> None:
        """Events are not heard until they are again: answers come all the same, and are no measure of anything."""
        self._deaf = True

    def connected(self, at: int) -> None:
        """Events are heard from now on: what was begun before is no measure of what is heard after."""
        self._connected_at, self._deaf = at, False
        self.interrupted(at)

    def interrupted(self, at: int) -> None:
        """Some events were missed here: the next heartbeats have nothing to be compared with."""
        self._whole_since = at
        for one in self._workers.values():
            one.processed, one.started, one.surplus = None, 0, 0
            if one.mute_since is None:
                one.debt = one.growing = 0

    def task_event(self, node: str, at: int, *, started: bool) -> None:
        """An event of a task, from the worker that has it."""
        tally = self._of(node, at)
        tally.started += started
        tally.growing = 0
        if tally.mute_since is not None:
            tally.mixed = tally.heard_at is not None
            tally.mute_since, tally.debt, tally.surplus, tally.processed = None, 0, 0, None
        tally.heard_at = at

    def beat(self, worker: ObservedWorker) -> bool | None:
        """A heartbeat; whether the worker sends events of its tasks, None while nobody knows."""
        at, facts = worker.seen_at, worker.facts
        if worker.offline_at is not None:
            ended, before = self._ends(worker.hostname), self._goodbyes.get(worker.hostname)
            if len(self._goodbyes) >= _MAX_WORKERS:
                self._goodbyes.clear()
            # Said twice, or delivered twice.
            self._goodbyes[worker.hostname] = Goodbye(at, ended or (before and before.tally) or None)
            return None
        tally = self._of(worker.hostname, at)
        pid, processed = facts.get("pid"), facts.get("processed")
        tally.freq = float(facts.get("freq") or tally.freq)
        if _is_another(tally, pid, processed):
            if tally.pid is not None:
                tally = self._workers[worker.hostname] = Tally(at, at, freq=tally.freq)
            tally.pid = pid
            self._comes_back(worker.hostname, tally, processed)
        tally.beat_at = at
        if isinstance(processed, int):
            self._compare(tally, processed, at)
        return _sends(tally)

    def _comes_back(self, node: str, tally: Tally, processed: object) -> None:
        """The same process as before its goodbye sends events, or none, as it did before."""
        goodbye = self._goodbyes.get(node)
        if goodbye is None or goodbye.tally is None:
            return
        # Once: whoever has this name later is another.
        before, self._goodbyes[node] = goodbye.tally, Goodbye(goodbye.at, None)
        # In containers every process has the same number: then only one that has gone on counting is the same.
        if before.pid != tally.pid or not isinstance(processed, int) or not processed >= before.said > 0:
            return
        tally.mixed = before.mixed
        if tally.heard_at is not None:
            # What it could not send before came after its goodbye.
            return
        tally.heard_at = before.heard_at
        if before.mute_since is not None:
            tally.mute_since = goodbye.at

    def answered(self, node: str, asked_at: int, at: int, answer: Answer) -> bool | None:
        """What a worker said of itself at ``at``, asked at ``asked_at``; counts only where its heart is not heard.

        Returns as ``beat``; None also where the heart is heard.
        """
        goodbye = self._goodbyes.get(node)
        if goodbye is not None and asked_at <= goodbye.at:
            # It has ended meanwhile.
            return None
        tally = self._of(node, at)
        if _beats(tally, at):
            return None
        tally.asked_every = answer.every
        if self._deaf or asked_at <= self._whole_since:
            tally.processed, tally.started, tally.surplus = None, 0, 0
            return _sends(tally)
        began_at = None if answer.uptime_seconds is None else asked_at - (answer.uptime_seconds + 1) * _SECOND
        if _is_another(tally, answer.pid, answer.processed, began_at):
            tally = self._begun(node, tally, began_at, at)
            tally.pid = answer.pid
        self._compare(tally, answer.processed, at)
        return _sends(tally)

    def _begun(self, node: str, before: Tally, began_at: int | None, at: int) -> Tally:
        """Of a process that answers for the first time; before it there were its own events, or another process."""
        tally = before
        if before.pid is not None:
            tally = self._workers[node] = Tally(at, at, asked_every=before.asked_every)
            if before.heard_at is not None and (began_at is None or before.heard_at >= began_at):
                tally.heard_at = before.heard_at
        if began_at is not None:
            tally.began_at, tally.first_seen_at = began_at, min(tally.first_seen_at, began_at)
            # Its uptime is rounded, and its first task comes later than its beginning.
            if began_at + _ROUNDED > self._whole_since and (tally is before or tally.heard_at is None):
                # All that it has done could be heard, and what was heard is counted.
                tally.processed = 0
        return tally

    def _compare(self, tally: Tally, processed: int, at: int) -> None:
        before = tally.processed
        if before is not None:
            # What a heartbeat overtook, or an answer was overtaken by, is made up for by the next.
            balance = tally.debt + processed - before - tally.started - tally.surplus
            tally.surplus, debt = min(max(0, -balance), tally.started), max(0, balance)
            if debt and not tally.debt:
                tally.suspect_at = at
            if processed > before:
                tally.growing = 0 if tally.started else tally.growing + 1
            tally.debt = debt
            if debt and tally.mute_since is None:
                tally.mute_since = self._mute_since(tally, at)
        tally.said = tally.processed = processed
        tally.started = 0

    def _mute_since(self, tally: Tally, at: int) -> int | None:
        if tally.heard_at is None:
            return self._first(tally) if at - tally.suspect_at >= _SURE else None
        if tally.mixed or tally.growing < _GROWING or at - tally.heard_at < _LONG:
            return None
        return tally.heard_at

    def _first(self, tally: Tally) -> int:
        return max(self._connected_at, tally.first_seen_at - _BEFORE)

    def _ends(self, node: str) -> Tally | None:
        """It said goodbye: what it began unheard is declared, even where it was too short to be sure."""
        tally = self._workers.pop(node, None)
        if tally is not None and tally.debt and tally.heard_at is None and tally.mute_since is None:
            self._ended.append(self._first(tally))
        return tally

    def ended(self, now: int) -> int | None:
        """From when on those may have run tasks unheard that have ended since the last call; None is nobody."""
        there = {node for node, _ in self._there(now)}
        for node in self._workers.keys() - there:
            one = self._workers[node]
            if one.debt and one.heard_at is None and one.mute_since is None:
                # Without a goodbye. Should it come back, nothing of it was heard yet.
                one.mute_since = self._first(one)
                self._ended.append(one.mute_since)
        ended, self._ended = self._ended, []
        return min(ended, default=None)

    def beating(self, now: int) -> set[str]:
        """Workers whose heart is heard: the others are only known by what they answer."""
        return {node for node, one in self._workers.copy().items() if _beats(one, now)}

    def pid(self, node: str) -> Any:
        """Of the process that is heard under this name; None where that is not known."""
        found = self._workers.get(node)
        return found.pid if found is not None else None

    def mute(self, now: int) -> set[str]:
        """Workers that are there, work, and send no events of it."""
        return {node for node, one in self._there(now) if one.mute_since is not None}

    def mute_since(self, now: int) -> int | None:
        """From when on tasks may have run unheard, of any of these; None where there is none."""
        return min((one.mute_since for _, one in self._there(now) if one.mute_since is not None), default=None)

    def unheard(self, now: int) -> set[str]:
        """Workers that are there, and of which no task was heard of yet."""
        return {node for node, one in self._there(now) if one.heard_at is None}

    def missing(self, now: int) -> dict[str, int]:
        """Of workers that are heard: how many tasks they have begun and sent nothing of, for longer than a moment."""
        return {
            node: one.debt
            for node, one in self._there(now)
            if one.debt and one.heard_at is not None and one.mute_since is None and now - one.suspect_at >= 2 * _BEFORE
        }

    def _there(self, now: int) -> Iterator[tuple[str, Tally]]:
        # A copy: it grows meanwhile.
        for node, one in self._workers.copy().items():
            if now - one.seen_at <= max(_patience(one), 9 * one.asked_every * _SECOND):
                yield node, one

    def _of(self, node: str, at: int) -> Tally:
        self.last_at = max(self.last_at, at)
        found = self._workers.get(node)
        if found is None:
            if len(self._workers) >= _MAX_WORKERS:
                # Whoever can publish can call itself as it likes: the one that was heard of longest ago goes.
                del self._workers[min(self._workers, key=lambda name: self._workers[name].seen_at)]
            found = self._workers[node] = Tally(at, at)
        found.seen_at = max(found.seen_at, at)
        return found


def _is_another(tally: Tally, pid: object, processed: object, began_at: int | None = None) -> bool:
    """It was started anew, perhaps with other options; or there are two of this name."""
    if pid != tally.pid or (isinstance(processed, int) and processed < (tally.processed or 0)):
        return True
    # In containers every process has the same number.
    return began_at is not None and tally.began_at is not None and began_at > tally.began_at + _SURE


def _sends(tally: Tally) -> bool | None:
    if tally.mute_since is not None:
        return False
    return True if tally.heard_at is not None else None


def _patience(tally: Tally) -> int:
    return round(max(GONE_SECONDS, 3 * max(SILENT_SECONDS, 3 * tally.freq)) * _SECOND)


def _beats(tally: Tally, now: int) -> bool:
    return tally.beat_at is not None and now - tally.beat_at <= _patience(tally)
