"""A worker of the threads or the solo pool: attempts run in its own process, where nothing can be killed.

As in the embedded engine a thread that goes on past its time is given up: its attempt ends, its job is held until it
returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from headway.engine.embedded.attempt import RunningAttempt
from headway.engine.embedded.monitor import Monitor
from headway.engine.embedded.settings import EngineSettings
from headway.model.commands import Finish
from headway.model.errors import StoreUnavailable
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from headway.engine.celery.runner import WorkerSettings
    from headway.engine.embedded.spool import Spool
    from headway.model.commands import Begun
    from headway.ports.clock import Clock
    from headway.ports.workerdoor import WorkerDoor

log = structlog.get_logger("headway.worker")
_COOPERATIVE_SECONDS: Final = 0.5


class ProcessPlace:
    """The ``Place`` of all attempts of one process, and what the embedded engine's monitor looks at.

    Args:
        door: of the worker.
        spool: keeps finishes while the door does not answer.
        clock: for deadlines.
        settings: the worker's.
        threads: how many attempts run at once.
        on_exhausted: called once when so many threads do not return that the worker should end.
    """

    def __init__(
        self,
        door: WorkerDoor,
        spool: Spool,
        clock: Clock,
        settings: WorkerSettings,
        threads: int,
        on_exhausted: Callable[[], None],
    ) -> None:
        self._door = door
        self._spool = spool
        self._clock = clock
        self._settings = settings
        self._draining = False
        self.attempts: dict[tuple[str, int], RunningAttempt] = {}
        engine = EngineSettings(
            spool_dir=settings.spool_dir,
            children_dir=settings.spool_dir,
            threads=threads,
            heartbeat_seconds=settings.heartbeat_seconds,
            cancel_grace_seconds=settings.cancel_grace_seconds,
            beats_idle=True,
        )
        self._monitor = Monitor(door, clock, engine, on_exhausted, log)

    def start(self) -> None:
        """Begin to beat."""
        surface: Any = self
        self._monitor.start(surface)

    def stop(self) -> None:
        """End the monitor's thread."""
        self._monitor.stop()

    # As a place

    def enter(self, begun: Begun, timeout: float | None) -> RunningAttempt:
        """See ``Place.enter``."""
        run = RunningAttempt(begun, self._door, self._clock, self._monitor.news)
        self.attempts[run.key] = run
        run.start(self._clock.monotonic())
        if timeout and run.deadline is None:
            run.deadline = self._clock.monotonic() + timeout
        self._monitor.watch(run)
        return run

    def body_ended(self, run: RunningAttempt) -> bool:
        """See ``Place.body_ended``."""
        if run.claim_end():
            return True
        # Given up: the end was recorded without it.
        self._monitor.late_return(run)
        return False

    def leave(self, run: RunningAttempt, finish: Finish) -> None:
        """See ``Place.leave``."""
        self.attempts.pop(run.key, None)

    @property
    def ending(self) -> bool:
        """See ``Place.ending``."""
        return self._draining

    # As the slots of an engine

    def settle(self, finish: Finish) -> None:
        """The end of an attempt was answered."""
        self.attempts.pop((finish.job_id, finish.fence), None)
        self._spool.remove(finish)

    def put_aside(self, finish: Finish) -> None:
        """The door does not answer: the end waits on disk too."""
        try:
            self._spool.put(finish)
        except OSError as error:
            log.warning("worker.spool_full", job=finish.job_id, error=str(error))

    def tidy(self) -> float | None:
        """Nothing waits for a slot here."""
        return None

    # The worker's wishes

    def look_now(self) -> None:
        """Somebody asked for a cancel: ask the door at once."""
        try:
            answer = self._door.beat([run.beat_report() for run in list(self.attempts.values()) if not run.ended])
        except StoreUnavailable:
            return
        for run in list(self.attempts.values()):
            if run.key in answer.cancel_requested and not run.ended:
                run.ask_to_stop("cancel")
        self._monitor.news()

    def stop_now(self, job_ids: list[str]) -> None:
        """Ask these to stop: a thread cannot be killed."""
        for run in list(self.attempts.values()):
            if run.id in job_ids:
                run.ask_to_stop("cancel")
        self._monitor.news()

    def drain(self) -> None:
        """The worker begins nothing more."""
        self._draining = True

    def interrupt(self) -> None:
        """Give back what still runs; its threads are left behind, so the process must end."""
        for run in list(self.attempts.values()):
            run.ask_to_stop("drain")
        ends = self._clock.monotonic() + _COOPERATIVE_SECONDS
        while self.attempts and self._clock.monotonic() < ends:
            time.sleep(0.02)
        for run in list(self.attempts.values()):
            if run.claim_end():
                finish = Finish(run.id, run.fence, AttemptOutcome.INTERRUPTED, begun=run.begun)
                try:
                    self._door.finish(finish)
                except StoreUnavailable:
                    self.put_aside(finish)

    @property
    def busy(self) -> bool:
        """Whether an attempt runs."""
        return bool(self.attempts)
