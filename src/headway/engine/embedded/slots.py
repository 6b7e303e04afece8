"""The slots: threads that each run one attempt after the other, and lose neither a job nor a finish."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headway.engine.embedded.attempt import RunningAttempt
from headway.engine.embedded.exceptions import error_info, python_error
from headway.engine.embedded.tracer import stopped
from headway.model.commands import Finish
from headway.model.errors import HeadwayError, StoreUnavailable
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from headway.engine.embedded.settings import EngineSettings
    from headway.engine.embedded.spool import Spool
    from headway.model.commands import Begun, FinishAnswer
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor

_ENGINE_HINT = "The task is not to blame: the server's log has the whole story."
_UNSTORED_HINT = "The task ran to its end, but what it returned or sent could not be stored."
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

# A commit costs more than a short task. Where every slot is busy and recent runs were short, a slot takes as many jobs
# in one commit as fill some milliseconds; they wait in one deque for whichever slot is free.
_BATCH = 64
_BATCH_SECONDS = 0.008
_SMOOTHING = 0.2
_READY_SECONDS = 0.05
_DONE_SECONDS = 0.005
# Where jobs are this short, waking a second slot to wait for the next one takes longer than to run the first.
_SHORT_SECONDS = 0.001
_KEPT_SECONDS = 0.02
_KEPT_LATELY_SECONDS = 0.2
_TIDY_SECONDS = 0.01

RunAttempt = Callable[[int, RunningAttempt], Finish]


class Slots:
    """All slots of one engine and the attempts that they hold.

    A slot's way from one job to its next is one commit (``finish_and_begin``), shared by several jobs where they are
    short. Of the idle slots only one waits for work; it hands its place on when it gets some, so a burst wakes as many
    slots as there are jobs. Where jobs are short it keeps the place while it runs one, and ``tidy`` hands it on if that
    one is long after all.

    Args:
        door: where jobs come from and finishes go.
        run_attempt: runs an attempt in the calling slot (its number is given) and says how it ended.
        spool: keeps finishes while the door does not answer.
        clock: for pauses and deadlines.
        settings: the engine's.
        on_begin: told of every attempt that starts.
        on_late_return: told of an attempt whose thread came back after it was given up.
        on_unanswered: given a finish that the door takes in no form, to try again later.
        on_batch: told when something may come to wait for a slot, so that ``tidy`` is called soon.
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
        on_unanswered: Callable[[RunningAttempt, Finish], None],
        on_batch: Callable[[], None],
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
        self._on_unanswered = on_unanswered
        self._on_batch = on_batch
        self._slot_closed = slot_closed
        self._log = log
        self._leader = threading.Lock()
        # Holds one token while a slot that runs a job keeps the place: whoever takes it has the lock.
        self._kept: deque[float] = deque()
        self._kept_last = 0.0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.attempts: dict[tuple[str, int], RunningAttempt] = {}
        self.store_ok = True
        self.finished = 0
        self.idle = 0
        self._ready: deque[RunningAttempt] = deque()
        self._done: deque[Finish] = deque()
        self._done_since = 0.0
        self._aside: set[tuple[str, int]] = set()
        self._mean = 1.0

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
        key = (finish.job_id, finish.fence)
        if self.attempts.pop(key, None) is not None:
            self.finished += 1
        if key in self._aside:
            self._aside.discard(key)
            self._spool.remove(finish)

    def tidy(self) -> float | None:
        """Say what waits too long: finishes whose slot went on to a long job, and jobs that no slot came to.

        Hands on the place of a slot that kept it and runs a long job.

        Called by the monitor, every few milliseconds while short jobs run.

        Returns:
            After how many seconds another look is needed; None when nothing can be waiting.
        """
        now = self._clock.monotonic()
        # First: what comes after it waits for the door, and may fail.
        place_looks_again = self._hand_on_place(now)
        while self._ready and now - self._ready[0].begun_clock > _READY_SECONDS:
            try:
                run = self._ready.popleft()
            except IndexError:
                break
            if run.claim_end():
                # Costs no try: it goes back to the queue as it came.
                self._done.append(Finish(run.id, run.fence, AttemptOutcome.INTERRUPTED, begun=run.begun))
        if self._done and now - self._done_since > _DONE_SECONDS:
            self._tell_or_keep(self._take_done())
        return _TIDY_SECONDS if self._ready or self._done else place_looks_again

    def _hand_on_place(self, now: float) -> float | None:
        """Let another slot wait for work where the one that kept the place is not back; when to look again."""
        try:
            age = now - self._kept[0]
        except IndexError:
            return _KEPT_SECONDS if now - self._kept_last < _KEPT_LATELY_SECONDS else None
        if age < _KEPT_SECONDS:
            return _KEPT_SECONDS - age
        if self._take_place():
            self._leader.release()
        return _KEPT_SECONDS

    def _tell_or_keep(self, finishes: list[Finish]) -> None:
        """Tell the door; while it does not answer they wait on disk, and here for whoever asks next."""
        try:
            self._tell(finishes, 0)
        except StoreUnavailable as error:
            self._store_lost(error)
            for finish in finishes:
                self.put_aside(finish)
            self._done.extendleft(reversed(finishes))

    def _work(self, number: int, enter_thread: Callable[[], None]) -> None:
        enter_thread()
        try:
            while True:
                try:
                    run = self._next()
                except Exception:  # noqa: BLE001 - a slot that dies is one less until the process ends
                    self._log.exception("engine.slot_failed", slot=number)
                    self._stopping.wait(_LONGEST_PAUSE)
                    continue
                if run is None:
                    break
                self._run(number, run)
        finally:
            self._slot_closed(number)

    def _run(self, number: int, run: RunningAttempt) -> None:
        began = self._clock.monotonic()
        run.start(began)
        self._on_begin(run)
        try:
            # A cancel may have come while it waited for a slot.
            finish = stopped(run) if run.stop_reason is not None else self._run_attempt(number, run)
        except Exception as error:  # noqa: BLE001 - whatever it is, the attempt has ended and must be told
            self._log.exception("engine.attempt_failed", job=run.id, fence=run.fence, task=run.begun.task)
            info = error_info(error, python_error(error), code="engine_error", hint=_ENGINE_HINT)
            finish = Finish(run.id, run.fence, AttemptOutcome.FAILED, error=info, begun=run.begun)
        self._mean += _SMOOTHING * (self._clock.monotonic() - began - self._mean)
        if run.claim_end():
            if run.unread_progress is not None:
                finish = replace(finish, progress=run.unread_progress)
            if not self._done:
                self._done_since = self._clock.monotonic()
            self._done.append(finish)
        else:
            # The monitor has reported this attempt already; all that is left to say is that the thread is back.
            self._on_late_return(run)

    def _next(self) -> RunningAttempt | None:
        """The next job of this slot, finishes told on the way; None when the slot should end."""
        run = self._from_ready()
        if run is not None and len(self._done) < _BATCH:
            return run
        finishes = self._take_done()
        if finishes:
            taken = self._exchange(finishes, self._limit() if run is None else 0)
            run = run or taken or self._from_ready()
        if run is not None:
            return run
        self.idle += 1
        try:
            run = self._lead()
        finally:
            self.idle -= 1
        # A slot that stops takes what was begun and not yet run with it.
        return run or self._from_ready()

    def _lead(self) -> RunningAttempt | None:
        """Wait for a job in the one place where an idle slot does; None when the slot should end."""
        if not self._take_place():
            self._leader.acquire()
        keeps = False
        try:
            while not self._stopping.is_set():
                run = self._from_ready() or self._await()
                if run is not None:
                    keeps = self._keeps_place()
                    return run
        finally:
            if not keeps:
                self._leader.release()
        return None

    def _keeps_place(self) -> bool:
        if self._ready or self._mean > _SHORT_SECONDS or self.is_stopping():
            return False
        self._kept_last = self._clock.monotonic()
        self._kept.append(self._kept_last)
        # So that `tidy` looks at it soon.
        self._on_batch()
        return True

    def _take_place(self) -> bool:
        try:
            self._kept.popleft()
        except IndexError:
            return False
        return True

    def _await(self) -> RunningAttempt | None:
        try:
            begun = self._door.await_work(self._idle_limit, self._settings.poll_seconds)
        except StoreUnavailable:
            begun = []
        if begun:
            return self._take_in(self._register(begun))
        limit = self._idle_limit()
        return self._exchange([], limit) if limit else None

    def _idle_limit(self) -> int:
        # For the others that idle, too: they come to the deque next.
        return 0 if self._stopping.is_set() else max(1, self.idle)

    def _limit(self) -> int:
        """How many jobs to take: several only where they are short and every slot has work."""
        if self._stopping.is_set():
            return 0
        if self.idle:
            return 1
        return max(1, min(_BATCH, int(_BATCH_SECONDS / max(self._mean, _BATCH_SECONDS / _BATCH))))

    def _from_ready(self) -> RunningAttempt | None:
        try:
            return self._ready.popleft()
        except IndexError:
            return None

    def _take_done(self) -> list[Finish]:
        finishes: list[Finish] = []
        while True:
            try:
                finishes.append(self._done.popleft())
            except IndexError:
                return finishes

    def _exchange(self, finishes: list[Finish], limit: int) -> RunningAttempt | None:
        """One commit: finishes go out and jobs come in. Keeps trying while the store is away."""
        pause = _FIRST_PAUSE
        while True:
            try:
                begun = self._tell(finishes, limit)
            except StoreUnavailable as error:
                self._store_lost(error)
                on_disk = sum(self.put_aside(finish) for finish in finishes)
                if self._stopping.wait(pause) and on_disk == len(finishes):
                    return None
                pause = min(pause * 2, _LONGEST_PAUSE)
                limit = 0 if self.is_stopping() else limit
                continue
            break
        if not self.store_ok:
            self.store_ok = True
            self._log.info("engine.store_back")
        return self._take_in(begun)

    def _take_in(self, runs: list[RunningAttempt]) -> RunningAttempt | None:
        """The first of these is the caller's, the others wait for whichever slot is free."""
        if len(runs) > 1:
            self._ready.extend(runs[1:])
            self._on_batch()
        return runs[0] if runs else None

    def _register(self, begun: list[Begun]) -> list[RunningAttempt]:
        runs = [RunningAttempt(one, self._door, self._clock, self._on_report) for one in begun]
        for run in runs:
            self.attempts[run.key] = run
        return runs

    def _tell(self, finishes: list[Finish], limit: int) -> list[RunningAttempt]:
        """Tell the door; a finish that it does not take is replaced, and the others told one by one."""
        try:
            answers, begun = self._door.finish_and_begin(finishes, limit)
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - one finish that cannot be stored must end neither the slot nor the others
            if not finishes:
                self._log.exception("engine.begin_refused")
                self._stopping.wait(_LONGEST_PAUSE)
                return []
            for finish in finishes:
                self._tell_one(finish)
            return []
        for finish, answer in zip(finishes, answers, strict=True):
            self._answered(finish, answer)
        return self._register(begun)

    def _tell_one(self, finish: Finish) -> None:
        run = self.attempts.get((finish.job_id, finish.fence))
        if run is None:
            # Answered, in a round that the store's going away broke off.
            return
        try:
            answer = self._door.finish(finish)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise what they like about a value
            self._log.warning("engine.finish_unacceptable", job=finish.job_id, fence=finish.fence, exc_info=True)
            other = unacceptable(finish, error)
            try:
                answer = self._door.finish(other)
            except StoreUnavailable:
                raise
            except Exception:  # noqa: BLE001 - it is kept, and so is the slot
                self._log.exception("engine.finish_waits", job=finish.job_id, fence=finish.fence)
                self.put_aside(other)
                self._on_unanswered(run, other)
                return
        self._answered(finish, answer)

    def _answered(self, finish: Finish, answer: FinishAnswer) -> None:
        self.settle(finish)
        if answer.refused:
            self._log.warning("engine.finish_refused", job=finish.job_id, fence=finish.fence)

    def _store_lost(self, error: StoreUnavailable) -> None:
        if self.store_ok:
            self.store_ok = False
            self._log.warning("engine.store_away", code=error.code, error=error.message)

    def put_aside(self, finish: Finish) -> bool:
        """Write a finish to disk, once, until it is settled; False when it could not be written."""
        key = (finish.job_id, finish.fence)
        if key in self._aside:
            return True
        try:
            self._spool.put(finish)
        except Exception as error:  # noqa: BLE001 - a full disk, or a value that has no JSON
            # The same full disk may be why the store is away: the finish is still held here, and tried again.
            self._log.warning("engine.spool_failed", job=finish.job_id, error=str(error))
            return False
        self._aside.add(key)
        return True


def unacceptable(finish: Finish, error: Exception) -> Finish:
    """A finish that can be stored in place of one that the door did not take.

    The usual reason is a send after the body's return (a chain's next step) to a task that is not registered; another
    is a value that the database cannot hold. Nothing of that finish was stored, so the attempt fails with the reason.
    """
    known = isinstance(error, HeadwayError)
    info = error_info(
        error,
        None if known else python_error(error),
        code=error.code if isinstance(error, HeadwayError) else "engine_error",
        hint=None if known else _UNSTORED_HINT,
    )
    return Finish(
        finish.job_id,
        finish.fence,
        AttemptOutcome.FAILED,
        error=info,
        may_retry=False,
        held=finish.held,
        begun=finish.begun,
    )
