"""The parent's beat: leases, progress, cancels and timeouts of every attempt, in threads and children alike."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from headway.engine.embedded.slots import unacceptable
from headway.engine.embedded.tracer import stopped
from headway.model.commands import BeatReport
from headway.model.errors import StoreUnavailable

if TYPE_CHECKING:
    from headway.engine.embedded.attempt import RunningAttempt
    from headway.engine.embedded.settings import EngineSettings
    from headway.engine.embedded.slots import Slots
    from headway.model.commands import Finish
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor

NEWS_SECONDS = 0.25
_TIDY_AFTER_FAILURE_SECONDS = 1.0


class Monitor:
    """One thread. Timeouts go by the monotonic clock, which stands still while the machine sleeps.

    Args:
        door: where beats go and cancels come from.
        clock: for deadlines.
        settings: the engine's.
        on_exhausted: called once, from this thread, when too many slots are lost.
        log: a structlog logger.
    """

    def __init__(
        self,
        door: JobDoor,
        clock: Clock,
        settings: EngineSettings,
        on_exhausted: Callable[[], None] | None,
        log: Any,
    ) -> None:
        self._door = door
        self._clock = clock
        self._settings = settings
        self._on_exhausted = on_exhausted
        self._log = log
        self._slots: Slots | None = None
        self._wake = threading.Event()
        self._closed = False
        self._news = False
        self._tidying = False
        self._last_beat = clock.monotonic()
        self._sleeps_until = 0.0
        self._unanswered: deque[tuple[RunningAttempt, Finish]] = deque()
        self._given_up: list[RunningAttempt] = []
        self._returned: set[tuple[str, int]] = set()
        self._thread = threading.Thread(target=self._loop, name="headway-monitor", daemon=True)

    def start(self, slots: Slots) -> None:
        """Begin to beat for the attempts of these slots."""
        self._slots = slots
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after one last look at what waits to be said."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def lost(self) -> int:
        """Threads that were given up and have not returned."""
        return sum(run.key not in self._returned for run in list(self._given_up))

    def news(self) -> None:
        """An attempt has progress or a state to carry."""
        if not self._news:
            self._news = True
            self._wake.set()

    def watch(self, run: RunningAttempt) -> None:
        """A new attempt: look again if its time is over before the next look."""
        if run.deadline is not None and run.deadline < self._sleeps_until:
            self._wake.set()

    def beat_now(self) -> None:
        """Renew the lease of everything that runs here. Raises ``StoreUnavailable``."""
        # Also when nothing runs: a thread that cannot be stopped may hold a job, which a silent worker would lose.
        self._door.beat([BeatReport(run.id, run.fence) for run in self._held()])

    def batches(self) -> None:
        """Jobs or finishes may come to wait in the process: see to it that none waits long."""
        if not self._tidying:
            self._tidying = True
            self._wake.set()

    def unanswered(self, run: RunningAttempt, finish: Finish) -> None:
        """A finish that the door did not take: it is told again at every look, and its lease renewed meanwhile."""
        self._unanswered.append((run, finish))

    def late_return(self, run: RunningAttempt) -> None:
        """The thread of a given-up attempt is back: its job may begin again, once its end is recorded."""
        self._returned.add(run.key)
        self._wake.set()

    def _loop(self) -> None:
        while not self._closed:
            try:
                pause = self._look()
            except Exception:  # noqa: BLE001 - a beat that fails must not be the last one
                self._log.exception("engine.monitor_failed")
                pause = self._settings.heartbeat_seconds
            self._sleeps_until = self._clock.monotonic() + pause
            self._wake.wait(pause)
            self._wake.clear()
        self._say_unanswered()
        self._release_returned()

    def _look(self) -> float:
        """Do what is due; returns the seconds until something may be due again."""
        now = self._clock.monotonic()
        # Before anything that may fail: slots may be waiting for it.
        tidy_at = self._tidy(now)
        runs = self._live()
        for run in runs:
            self._enforce(run, now)
        self._say_unanswered()
        self._release_returned()
        self._news = False
        if any(run.has_news() for run in runs):
            due = self._last_beat + NEWS_SECONDS
            # Set before sleeping: further news are no reason to wake before the beat is due.
            self._news = True
        else:
            due = self._last_beat + self._settings.heartbeat_seconds
        if now >= due:
            self._beat(now)
            self._news = False
            due = now + self._settings.heartbeat_seconds
        return max(0.0, min([due, tidy_at, *(self._next_stage(run) for run in self._live())]) - self._clock.monotonic())

    def _tidy(self, now: float) -> float:
        """Tidy the slots if they asked for it; when to do it again."""
        if not self._tidying:
            return inf
        assert self._slots is not None
        # Before the look: what a slot asks for from now on must not be forgotten.
        self._tidying = False
        again: float | None = _TIDY_AFTER_FAILURE_SECONDS
        try:
            again = self._slots.tidy()
        except Exception:  # noqa: BLE001 - it is tried again; leases must be renewed meanwhile
            self._log.exception("engine.tidy_failed")
        if again is None:
            return inf
        self._tidying = True
        return now + again

    def _held(self) -> list[RunningAttempt]:
        """All attempts whose end is not recorded: one that has ended and waits for the store needs its lease too."""
        assert self._slots is not None
        return list(self._slots.attempts.values())

    def _live(self) -> list[RunningAttempt]:
        return [run for run in self._held() if not run.ended]

    def _beat(self, now: float) -> None:
        self._last_beat = now
        runs = self._held()
        if not runs and not self._settings.beats_idle:
            return
        # The last news of an attempt that has ended are its finish's.
        reports = [BeatReport(run.id, run.fence) if run.ended else run.beat_report() for run in runs]
        try:
            answer = self._door.beat(reports)
        except StoreUnavailable as error:
            # Nothing is lost by it: expiry does not fence, and a rescuer that cannot reach the store does nothing.
            self._log.warning("engine.beat_failed", code=error.code)
            return
        for run in runs:
            if run.key in answer.superseded:
                run.ask_to_stop("superseded")
            elif run.key in answer.cancel_requested and not run.ended:
                run.ask_to_stop("cancel")

    def _next_stage(self, run: RunningAttempt) -> float:
        """When this attempt's next stage begins; far away when none is waited for."""
        far = self._clock.monotonic() + 3600
        if run.stop_reason is None:
            return far if run.deadline is None else run.deadline
        if run.in_child or run.stop_at is None or not run.started:
            return far
        return run.stop_at + self._settings.cancel_grace_seconds

    def _enforce(self, run: RunningAttempt, now: float) -> None:
        if run.stop_reason is None and run.deadline is not None and now >= run.deadline:
            run.ask_to_stop("timeout")
        if run.stop_reason is None or run.in_child or run.stop_at is None or not run.started:
            return
        grace = 0.0 if run.stop_reason == "timeout" else self._settings.cancel_grace_seconds
        if now >= run.stop_at + grace and run.stop_reason != "drain" and run.claim_end():
            self._give_up(run)

    def _give_up(self, run: RunningAttempt) -> None:
        """A thread cannot be killed: its attempt ends now, its slot is lost, its job held until it returns."""
        run.held = True
        self._given_up.append(run)
        self._log.warning("engine.slot_lost", job=run.id, fence=run.fence, task=run.begun.task, why=run.stop_reason)
        finish = stopped(run, held=True)
        if run.stop_reason == "superseded":
            assert self._slots is not None
            self._slots.settle(finish)
        else:
            self._unanswered.append((run, finish))
        if self.lost >= self._settings.exhausted_at and self._on_exhausted is not None:
            callback, self._on_exhausted = self._on_exhausted, None
            self._log.error("engine.exhausted", lost=self.lost, of=self._settings.threads)
            callback()

    def _say_unanswered(self) -> None:
        if self._slots is None:
            return
        for _ in range(len(self._unanswered)):
            run, finish = self._unanswered.popleft()
            try:
                self._door.finish(finish)
            except StoreUnavailable:
                self._slots.put_aside(finish)
                self._unanswered.append((run, finish))
            except Exception as error:  # noqa: BLE001 - one finish that cannot be stored must not keep the others
                self._log.warning("engine.finish_unacceptable", job=run.id, fence=run.fence, error=str(error))
                other = unacceptable(finish, error)
                self._slots.put_aside(other)
                self._unanswered.append((run, other))
            else:
                self._slots.settle(finish)

    def _release_returned(self) -> None:
        """Release jobs whose thread is back, after their end is recorded: never before, or the hold would outlive it."""
        waiting = {run.key for run, _ in self._unanswered}
        for run in list(self._given_up):
            if run.key not in self._returned or run.key in waiting:
                continue
            try:
                self._door.release(run.id, run.fence)
            except StoreUnavailable:
                return
            self._given_up.remove(run)
            self._returned.discard(run.key)
            self._log.info("engine.slot_back", job=run.id, fence=run.fence)
