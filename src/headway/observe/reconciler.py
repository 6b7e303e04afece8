"""The thread that finds out afterwards: what happened in a gap, and what became of tasks nobody hears of any more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from headway.model.errors import HeadwayError
from headway.model.evidence import Evidence, ObservedTask
from headway.model.observed import Gap
from headway.observe.parse import Malformed, Parser
from headway.observe.prober import Held
from headway.observe.results import Results
from headway.ports.clock import Clock
from headway.ports.observations import Batch, ObservationDoor

log = structlog.get_logger("headway.observe")
_LIVE_AT_ONCE: Final = 500
_LOOK_EVERY: Final = 15.0
# A task that was heard of so lately is on its way.
_QUIET_SECONDS: Final = 15.0
_RETRY_SECONDS: Final = 2.0
_QUIET_AT_ONCE: Final = 200
_FAULTS: Final = 3
_PAUSE_SECONDS: Final = 0.002
# While events are off: so often, and never for more than a tenth of the time.
_WALK_EVERY: Final = 60.0
_WALK_SHARE: Final = 9.0


@dataclass(slots=True)
class Progress:
    """How far a walk through the result backend is; ``keys`` is about how many there are."""

    running: bool = False
    walked: int = 0
    keys: int | None = None
    found: int = 0
    finished_at: int | None = None
    error: str = ""


class Reconciler:
    """Finds out until it is stopped.

    Args:
        results: the result backend.
        door: where evidence goes, and what is known comes from.
        parser: makes evidence of entries.
        clock: the observer's.
        held: what each worker said it holds.
        settled: until when all that was heard is stored.
        mute: workers that send no events: only the result backend tells of their tasks.
    """

    def __init__(
        self,
        results: Results,
        door: ObservationDoor,
        parser: Parser,
        clock: Clock,
        *,
        held: Callable[[], Mapping[str, Held]],
        settled: Callable[[], int],
        mute: Callable[[], Collection[str]],
    ) -> None:
        self._results = results
        self._door = door
        self._parser = parser
        self._clock = clock
        self._held = held
        self._settled = settled
        self._mute = mute
        self._walk_at = 0.0
        self._turn: tuple[int, str] = (-1, "")
        self._faults = 0
        self._gaps: deque[Gap | None] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self.progress = Progress()
        self.unnamed = 0
        self._thread = threading.Thread(target=self._run, name="headway-reconciler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """Stop; a walk that is not finished is begun anew by the next observer."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)

    def gap_closed(self, gap: Gap | None) -> None:
        """Events are heard again after a gap, or for the first time (None)."""
        self._gaps.append(gap)
        self._wake.set()

    def look_up(self, task_id: str) -> bool:
        """Whether the result backend says anything new of a task, which is stored. By any thread.

        Raises:
            HeadwayError: the result backend or our own database does not answer.
        """
        return self._store([task_id]) > 0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(_LOOK_EVERY)
            self._wake.clear()
            while self._gaps and self._is_due() and not self._stop.is_set():
                # One walk for all of them.
                waiting = len(self._gaps)
                if self._tried(self._narrow):
                    for _ in range(waiting):
                        self._gaps.popleft()
            if not self._stop.is_set():
                self._tried(self._look_after_the_quiet)
            if (
                not self._stop.is_set()
                and self._results.listable
                and self._mute()
                and self._is_due()
                and not self._gaps
            ):
                self._tried(self._walk)

    def _tried(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except HeadwayError as error:
            self.progress.error, self.progress.running = error.message, False
            log.info("observe.reconcile_waits", code=error.code, error=error.message)
            self._stop.wait(_RETRY_SECONDS)
            return False
        except Exception as error:
            log.exception("observe.reconcile")
            self.progress.error, self.progress.running = f"{type(error).__name__}: {error}", False
            self._faults += 1
            # Once more, and then it is given up until the next gap: what is not looked through stays declared.
            return self._faults % _FAULTS == 0
        self.progress.error = ""
        return True

    def _narrow(self) -> None:
        """All that the result backend still knows, for every gap that has closed by now."""
        found, until = 0, self._clock.now()
        if self._results.readable:
            found += self._look_up_live()
        if self._results.listable:
            found += self._walk()
        if self._stop.is_set():
            return
        self._door.reconciled(until, found)
        log.info("observe.looked_through", recovered=found)

    def _is_due(self) -> bool:
        """Where events are off, gaps come and go with workers, and what is walked through is the same again."""
        urgent = any(gap is None or gap.reason != "events_off" for gap in self._gaps)
        return urgent or not self._results.listable or self._clock.monotonic() >= self._walk_at

    def _walk(self) -> int:
        progress = self.progress = Progress(running=True, keys=self._results.size())
        begun = self._clock.monotonic()
        waiting: list[str] = []
        for ids in self._results.walk():
            progress.walked += len(ids)
            waiting += ids
            if len(waiting) >= _LIVE_AT_ONCE:
                progress.found += self._recover(waiting)
                waiting = []
            # Others use this server too.
            if self._stop.wait(_PAUSE_SECONDS):
                return progress.found
        progress.found += self._recover(waiting)
        progress.running, progress.finished_at = False, self._clock.now()
        ended = self._clock.monotonic()
        self._walk_at = ended + max(_WALK_EVERY, _WALK_SHARE * (ended - begun))
        return progress.found

    def _recover(self, ids: list[str]) -> int:
        known = self._door.known(ids)
        return self._store([one for one in dict.fromkeys(ids) if one not in known or not known[one].ended])

    def _look_up_live(self) -> int:
        found, after = 0, (-1, "")
        while not self._stop.is_set():
            tasks = self._door.live(after, _LIVE_AT_ONCE)
            if not tasks:
                break
            found += self._store([task.id for task in tasks])
            after = (tasks[-1].seen_first_at, tasks[-1].id)
        return found

    def _store(self, ids: list[str]) -> int:
        evidence: list[Evidence] = []
        for meta in self._results.read(ids):
            try:
                one = self._parser.result(meta)
            except Malformed:
                continue
            evidence.append(one)
            self.unnamed += one.facts.get("name") is None
        if not evidence:
            return 0
        return self._door.record(Batch(evidence, self._clock.now())).new

    def _look_after_the_quiet(self) -> None:
        """Tasks that were last heard of a while ago: the result backend may know their end; else their worker."""
        now, settled = self._clock.now(), self._settled()
        held = {node: one for node, one in self._held().items() if one.asked_at <= settled}
        quiet: list[ObservedTask] = []
        # In turns, some at a time: tasks that wait for hours or whose end nobody will ever tell are many.
        while len(quiet) < _QUIET_AT_ONCE and not self._stop.is_set():
            tasks = self._door.live(self._turn, _LIVE_AT_ONCE)
            if not tasks:
                self._turn = (-1, "")
                break
            for one in tasks:
                self._turn = (one.seen_first_at, one.id)
                if now - one.seen_at > _QUIET_SECONDS * 1_000_000 and one.rank > 0:
                    quiet.append(one)
                    if len(quiet) == _QUIET_AT_ONCE:
                        break
        if quiet and self._results.readable:
            self._store([one.id for one in quiet])
        self._miss([one for one in quiet if _is_missed(one, held)])

    def _miss(self, tasks: list[ObservedTask]) -> None:
        ids = [task.id for task in tasks]
        if not ids:
            return
        still = [one for one in self._door.known(ids).values() if not one.ended and one.gap is None]
        if still:
            began = min(one.seen_at for one in still)
            until = max(one.seen_at for one in still)
            gap = self._door.missed([one.id for one in still], began, until, self._clock.now())
            log.warning("observe.ends_missed", gap=gap.id, tasks=len(still))


def _is_missed(task: ObservedTask, held: Mapping[str, Held]) -> bool:
    """Whether its worker said, after it was last heard of, that it does not hold it."""
    if task.gap is not None or task.state not in ("RECEIVED", "STARTED") or task.worker is None:
        return False
    answer = held.get(task.worker)
    if answer is None or task.id in answer.ids:
        return False
    return answer.asked_at - task.seen_at > _QUIET_SECONDS * 1_000_000
