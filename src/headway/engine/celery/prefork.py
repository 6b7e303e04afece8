"""A worker of the prefork pool: its children run the attempts, its main process beats for them and kills them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import psutil
import structlog
from billiard.process import current_process

from headway.engine.celery.board import Board, Running
from headway.engine.celery.runner import NewsCarrier, WorkerSettings
from headway.engine.embedded.attempt import RunningAttempt, StopReason
from headway.engine.embedded.slots import unacceptable
from headway.engine.embedded.tracer import Tracer, stopped
from headway.model.commands import BeatReport
from headway.model.errors import StoreUnavailable

if TYPE_CHECKING:
    from headway.engine.celery.foreign import ForeignEnds
    from headway.model.commands import Begun, Finish
    from headway.ports.clock import Clock
    from headway.ports.workerdoor import WorkerDoor

log = structlog.get_logger("headway.worker")

_LOOK_SECONDS: Final = 0.25


class ChildAttempt(RunningAttempt):
    """An attempt in a child: its main process says by the board that it should stop."""

    __slots__ = ("board", "place", "turn")

    board: Board
    place: int
    turn: int

    def cancelled(self) -> bool:
        """See ``CurrentJob.cancelled``."""
        if self.stop_reason is None:
            reason = self.board.stop_reason(self.place, self.turn)
            if reason is not None:
                self.ask_to_stop(reason)
        return super().cancelled()


class ChildPlace:
    """The ``Place`` of one child.

    Args:
        board: shared with the main process.
        door: this child's own.
        clock: for deadlines.
    """

    def __init__(self, board: Board, door: WorkerDoor, clock: Clock) -> None:
        self._board = board
        self._door = door
        self._clock = clock
        process: Any = current_process()
        self._place = int(getattr(process, "index", 0))
        self._news = NewsCarrier(door)

    def enter(self, begun: Begun, timeout: float | None) -> RunningAttempt:
        """See ``Place.enter``."""
        run = ChildAttempt(begun, self._door, self._clock)
        deadline = self._clock.monotonic() + timeout if timeout else 0.0
        run.board, run.place = self._board, self._place
        run.turn = self._board.begin(self._place, os.getpid(), begun.job_id, begun.fence, deadline)
        self._news.watch(run)
        return run

    def body_ended(self, run: RunningAttempt) -> bool:
        """See ``Place.body_ended``. Whoever would end it otherwise kills this process."""
        self._board.body_ended(self._place)
        self._news.forget(run)
        return True

    def leave(self, run: RunningAttempt, finish: Finish) -> None:
        """See ``Place.leave``."""
        self._board.end(self._place)

    @property
    def ending(self) -> bool:
        """See ``Place.ending``."""
        return self._board.draining


class PreforkMonitor:
    """The thread of the main process: leases, cancels, time limits, and children that died.

    Args:
        board: what the children run.
        door: this process' own.
        tracer: calls errbacks of what was killed.
        clock: for deadlines.
        settings: the worker's.
        places: how many places of the board may be in use.
        reserved: ids of messages that this worker has and has not begun.
        foreign: tells producers that are not attached.
    """

    def __init__(
        self,
        board: Board,
        door: WorkerDoor,
        tracer: Tracer,
        clock: Clock,
        settings: WorkerSettings,
        *,
        places: Callable[[], int],
        reserved: Callable[[], list[str]],
        foreign: ForeignEnds,
    ) -> None:
        self._board = board
        self._door = door
        self._tracer = tracer
        self._clock = clock
        self._settings = settings
        self._places = places
        self._reserved = reserved
        self._foreign = foreign
        self._told: frozenset[str] = frozenset()
        self._beat_at = 0.0
        self._asked: dict[tuple[int, int], float] = {}
        # Attempts whose child is dead or being killed, and why; None is: it died by itself.
        self._over: dict[tuple[int, int], tuple[Running, StopReason | None]] = {}
        self._drained_at: float | None = None
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="headway-monitor", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End after a last look."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def look_now(self) -> None:
        """Somebody asked for a cancel: ask the door at once."""
        self._beat_at = 0.0
        self._wake.set()

    def stop_now(self, job_ids: list[str], reason: StopReason = "cancel") -> None:
        """Kill the children that run these jobs, without any grace."""
        for run in self._board.running(self._places()):
            if run.job_id in job_ids:
                self._board.ask_to_stop(run, reason)
                self._asked[run.place, run.turn] = -self._settings.cancel_grace_seconds
        self._wake.set()

    def drain(self) -> None:
        """The worker ends: what runs gets its time, if that is bounded, and is given back then."""
        self._board.drain()
        if self._settings.drain_seconds is not None and self._drained_at is None:
            self._drained_at = self._clock.monotonic() + self._settings.drain_seconds
        self._wake.set()

    def interrupt(self) -> None:
        """The time of the drain is over."""
        for run in self._board.running(self._places()):
            if not run.ended:
                self._board.ask_to_stop(run, "drain")
                self._asked[run.place, run.turn] = -self._settings.cancel_grace_seconds
        self._wake.set()

    @property
    def busy(self) -> bool:
        """Whether a child runs an attempt."""
        return bool(self._board.running(self._places()))

    def _loop(self) -> None:
        while True:
            last = self._closed
            try:
                self._look()
            except StoreUnavailable as error:
                # Nothing is lost by it: expiry does not fence, and a rescuer that cannot reach the store does nothing.
                log.warning("worker.beat_failed", code=error.code)
            except Exception:
                log.exception("worker.monitor_failed")
            if last:
                return
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._drained_at is not None and now >= self._drained_at:
            self.interrupt()
        runs = self._board.running(self._places())
        live = {(run.place, run.turn): run for run in runs}
        self._asked = {key: at for key, at in self._asked.items() if key in live}
        for run in runs:
            self._enforce(run, now)
        self._bury(runs)
        if now >= self._beat_at:
            self._beat_at = now + self._settings.heartbeat_seconds
            self._beat(runs, now)

    def _beat(self, runs: list[Running], now: float) -> None:
        answer = self._door.beat([BeatReport(run.job_id, run.fence) for run in runs])
        for run in runs:
            key = (run.job_id, run.fence)
            reason: StopReason | None = None
            if key in answer.superseded and not run.ended:
                reason = "superseded"
            elif key in answer.cancel_requested:
                reason = "cancel"
            if reason is not None and (run.place, run.turn) not in self._asked:
                self._board.ask_to_stop(run, reason)
                self._asked[run.place, run.turn] = now
        reserved = frozenset(self._reserved()) - {run.job_id for run in runs}
        if reserved - self._told:
            self._door.received(sorted(reserved - self._told))
        self._told = reserved

    def _enforce(self, run: Running, now: float) -> None:
        if run.deadline and now >= run.deadline and not run.ended:
            self._board.ask_to_stop(run, "timeout")
            self._kill(run)
            return
        asked = self._asked.get((run.place, run.turn))
        if asked is not None and now >= asked + self._settings.cancel_grace_seconds:
            self._kill(run)

    def _kill(self, run: Running) -> None:
        """Kill a child, unless its body has returned meanwhile: its end is then its own to record."""
        if not self._board.in_body(run):
            return
        reason = self._board.stop_reason(run.place, run.turn)
        self._over.setdefault((run.place, run.turn), (run, reason))
        log.info("worker.killed", job=run.job_id, fence=run.fence, pid=run.pid, why=reason)
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGKILL)

    def _bury(self, runs: list[Running]) -> None:
        """Record the ends of attempts whose child is gone."""
        for run in runs:
            if not _alive(run.pid):
                # One that had been asked to stop did so, in its own way.
                reason = self._board.stop_reason(run.place, run.turn)
                self._over.setdefault((run.place, run.turn), (run, reason))
        for key, (run, reason) in list(self._over.items()):
            if _alive(run.pid):
                continue
            self._end(run, reason)
            self._board.forget(run)
            del self._over[key]

    def _end(self, run: Running, reason: StopReason | None) -> None:
        if reason == "superseded":
            return
        begun = self._door.attempt(run.job_id, run.fence)
        if begun is None:
            # It has ended already: the child was killed after it had recorded that.
            return
        if reason is None:
            log.warning("worker.child_lost", job=run.job_id, fence=run.fence, pid=run.pid)
            self._door.lost(run.job_id, run.fence)
            return
        attempt = RunningAttempt(begun, self._door, self._clock)
        attempt.ask_to_stop(reason)
        finish = self._tracer.lost(attempt, stopped(attempt))
        try:
            answer = self._door.finish(finish)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one end that cannot be stored must not keep the others
            log.warning("worker.finish_unacceptable", job=run.job_id, fence=run.fence, error=str(error))
            finish = unacceptable(finish, error)
            answer = self._door.finish(finish)
        self._foreign.stopped(begun, self._tracer.request(begun), finish, answer)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
