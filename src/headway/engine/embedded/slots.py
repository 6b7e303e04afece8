"""The slots: threads that each run one attempt after the other, and lose neither a job nor a finish."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headway.engine.embedded.attempt import RunningAttempt
from headway.engine.embedded.exceptions import error_info
from headway.model.commands import Finish
from headway.model.errors import HeadwayError, StoreUnavailable
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from headway.engine.embedded.settings import EngineSettings
    from headway.engine.embedded.spool import Spool
    from headway.model.commands import Begun
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

RunAttempt = Callable[[int, RunningAttempt], Finish]


class Slots:
    """All slots of one engine and the attempts that they hold.

    A slot's way from one job to its next is one commit (``finish_and_begin``). Of the idle slots only one waits for
    work; it hands its place on when it gets some, so a burst wakes as many slots as there are jobs.

    Args:
        door: where jobs come from and finishes go.
        run_attempt: runs an attempt in the calling slot (its number is given) and says how it ended.
        spool: keeps finishes while the door does not answer.
        clock: for pauses and deadlines.
        settings: the engine's.
        on_begin: told of every attempt that starts.
        on_late_return: told of an attempt whose thread came back after it was given up.
        slot_closed: called in a slot's thread when it ends.
        log: a structlog logger.
    """

    def __init__(
        self,
        door: JobDoor,
        run_attempt: RunAttempt,
        spool: Spool,
        clock: Clock,
        settings: EngineSettings,
        *,
        on_report: Callable[[], None],
        on_begin: Callable[[RunningAttempt], None],
        on_late_return: Callable[[RunningAttempt], None],
        slot_closed: Callable[[int], None],
        log: Any,
    ) -> None:
        self._door = door
        self._run_attempt = run_attempt
        self._spool = spool
        self._clock = clock
        self._settings = settings
        self._on_report = on_report
        self._on_begin = on_begin
        self._on_late_return = on_late_return
        self._slot_closed = slot_closed
        self._log = log
        self._leader = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.attempts: dict[tuple[str, int], RunningAttempt] = {}
        self.store_ok = True
        self.finished = 0
        self.idle = 0

    def start(self, enter_thread: Callable[[], None]) -> None:
        """Start the slots; ``enter_thread`` is called first in each of them."""
        for number in range(self._settings.threads):
            thread = threading.Thread(
                target=self._work, args=(number, enter_thread), name=f"headway-slot-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop_beginning(self) -> None:
        """No further job begins; what runs goes on."""
        self._stopping.set()

    def is_stopping(self) -> bool:
        """Whether ``stop_beginning`` was called."""
        return self._stopping.is_set()

    def join(self, timeout: float) -> bool:
        """Wait until every slot's thread has ended; False when ``timeout`` seconds were not enough."""
        ends = self._clock.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, ends - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def settle(self, finish: Finish) -> None:
        """Forget an attempt whose end was answered."""
        self.attempts.pop((finish.job_id, finish.fence), None)
        self.finished += 1

    def _work(self, number: int, enter_thread: Callable[[], None]) -> None:
        enter_thread()
        finish: Finish | None = None
        try:
            while True:
                begun = self._next(finish)
                if begun is None:
                    return
                finish = self._run(number, begun)
        finally:
            self._slot_closed(number)

    def _run(self, number: int, begun: Begun) -> Finish | None:
        run = RunningAttempt(begun, self._door, self._clock, self._on_report)
        self.attempts[run.key] = run
        self._on_begin(run)
        finish = self._run_attempt(number, run)
        if run.claim_end():
            return finish
        # The monitor has reported this attempt already; all that is left to say is that the thread is back.
        self._on_late_return(run)
        return None

    def _next(self, finish: Finish | None) -> Begun | None:
        """Report the finish and come back with the next job; None when the slot should end."""
        begun = self._exchange(finish, 0 if self.is_stopping() else 1) if finish is not None else None
        if begun is not None or self.is_stopping():
            return begun
        self.idle += 1
        try:
            with self._leader:
                while not self.is_stopping():
                    begun = self._exchange(None, 1)
                    if begun is not None:
                        return begun
                    with contextlib.suppress(StoreUnavailable):
                        self._door.wait_for_work(self._settings.poll_seconds)
        finally:
            self.idle -= 1
        return None

    def _exchange(self, finish: Finish | None, limit: int) -> Begun | None:
        """One commit: the finish goes out and at most one job comes in. Keeps trying while the store is away."""
        pause, spooled = _FIRST_PAUSE, False
        while True:
            try:
                answers, begun = self._door.finish_and_begin(() if finish is None else (finish,), limit)
            except StoreUnavailable as error:
                self._store_lost(error)
                if finish is not None and not spooled:
                    spooled = self._put_aside(finish)
                if self._stopping.wait(pause) and (finish is None or spooled):
                    return None
                pause = min(pause * 2, _LONGEST_PAUSE)
                limit = 0 if self.is_stopping() else limit
                continue
            except HeadwayError as error:
                if finish is None:
                    self._log.error("engine.begin_refused", code=error.code, error=error.message)
                    self._stopping.wait(_LONGEST_PAUSE)
                    return None
                finish = unacceptable(finish, error)
                continue
            break
        if not self.store_ok:
            self.store_ok = True
            self._log.info("engine.store_back")
        if finish is not None:
            if spooled:
                self._spool.remove(finish)
            self.settle(finish)
            if answers[0].refused:
                self._log.warning("engine.finish_refused", job=finish.job_id, fence=finish.fence)
        return begun[0] if begun else None

    def _store_lost(self, error: StoreUnavailable) -> None:
        if self.store_ok:
            self.store_ok = False
            self._log.warning("engine.store_away", code=error.code, error=error.message)

    def _put_aside(self, finish: Finish) -> bool:
        try:
            self._spool.put(finish)
        except OSError as error:
            # The same full disk may be why the store is away: the finish is still held here, and tried again.
            self._log.warning("engine.spool_failed", job=finish.job_id, error=str(error))
            return False
        return True


def unacceptable(finish: Finish, error: HeadwayError) -> Finish:
    """A finish that can be stored in place of one that the door refused to understand.

    The usual reason is a send after the body's return (a chain's next step) to a task that is not registered. Nothing
    of the refused finish was stored, so the attempt fails with the reason.
    """
    return Finish(
        finish.job_id,
        finish.fence,
        AttemptOutcome.FAILED,
        error=error_info(error, None, code=error.code),
        may_retry=False,
        held=finish.held,
        begun=finish.begun,
    )
