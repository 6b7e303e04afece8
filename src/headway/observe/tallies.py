"""What workers say they have processed, beside what was heard of their tasks: so it is noticed that events are off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headway.model.observed import GONE_SECONDS, ObservedWorker

# Celery sends events of tasks in bundles: a heartbeat may overtake them.
_SURE_MICROSECONDS: Final = 5_000_000
# What a worker may have done before its first heartbeat.
_BEFORE_MICROSECONDS: Final = 10_000_000
_MAX_WORKERS: Final = 10_000


@dataclass(slots=True)
class Tally:
    """One worker.

    Attributes:
        processed: tasks it has begun, by its last heartbeat; None before there is one to compare with.
        since_beat: events of its tasks since then.
        heard: whether it was ever heard to send one.
        clean_at: until when nothing of it was missed.
        mute_since: from when on tasks may have run unheard; None while that is not so.
        found_at: when that was noticed.
    """

    first_seen_at: int
    seen_at: int
    clean_at: int
    processed: int | None = None
    since_beat: int = 0
    heard: bool = False
    mute_since: int | None = None
    found_at: int = 0


class Tallies:
    """All workers that are heard of; written by one thread, read by others."""

    def __init__(self) -> None:
        self._workers: dict[str, Tally] = {}
        self._connected_at = 0
        self._last_at = 0

    def connected(self, at: int) -> None:
        """Events are heard from now on: what was said before is no measure of what is heard after."""
        self._connected_at = at
        self._workers = {}

    def interrupted(self) -> None:
        """Some events were dropped: the next heartbeats have nothing to be compared with."""
        for one in self._workers.values():
            one.processed = None

    def task_event(self, node: str, at: int) -> None:
        """An event of a task, from the worker that runs it."""
        tally = self._of(node, at)
        tally.since_beat += 1
        tally.heard = True
        tally.mute_since = None

    def beat(self, worker: ObservedWorker) -> bool | None:
        """A heartbeat; whether the worker sends events of its tasks, None while nobody knows."""
        tally, at = self._of(worker.hostname, worker.seen_at), worker.seen_at
        processed, before = worker.facts.get("processed"), tally.processed
        if isinstance(processed, int):
            if before is not None and processed < before:
                # It was started anew, perhaps with other options.
                tally.heard, tally.mute_since, tally.first_seen_at, tally.clean_at = False, None, at, at
            elif before is not None and processed > before and not tally.since_beat:
                if tally.mute_since is None:
                    first = max(self._connected_at, tally.first_seen_at - _BEFORE_MICROSECONDS)
                    tally.mute_since, tally.found_at = (tally.clean_at if tally.heard else first), at
            elif tally.mute_since is None:
                tally.clean_at = at
            tally.processed, tally.since_beat = processed, 0
        if tally.heard and tally.mute_since is None:
            return True
        return False if self._is_sure(tally) else None

    def mute(self, now: int) -> set[str]:
        """Workers that are there, work, and send no events of it."""
        return {node for node, one in self._there(now) if self._is_sure(one)}

    def mute_since(self, now: int) -> int | None:
        """From when on tasks may have run unheard, of any of these; None where there is none."""
        return min(
            (one.mute_since for _, one in self._there(now) if self._is_sure(one) and one.mute_since), default=None
        )

    def unheard(self, now: int) -> set[str]:
        """Workers that are there, and of which no task was heard of yet."""
        return {node for node, one in self._there(now) if not one.heard}

    def _there(self, now: int) -> Iterator[tuple[str, Tally]]:
        before = now - int(GONE_SECONDS * 1_000_000)
        # A copy: it grows meanwhile.
        return ((node, one) for node, one in self._workers.copy().items() if one.seen_at >= before)

    def _is_sure(self, one: Tally) -> bool:
        return one.mute_since is not None and self._last_at - one.found_at >= _SURE_MICROSECONDS

    def _of(self, node: str, at: int) -> Tally:
        self._last_at = at
        found = self._workers.get(node)
        if found is None:
            if len(self._workers) >= _MAX_WORKERS:
                # Whoever can publish can call itself as it likes: the one that was heard of longest ago goes.
                del self._workers[min(self._workers, key=lambda name: self._workers[name].seen_at)]
            found = self._workers[node] = Tally(at, at, at)
        found.seen_at = at
        return found
