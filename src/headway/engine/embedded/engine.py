"""The embedded engine: slots, children and the monitor over one job door."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headway.engine.embedded.attach import attach
from headway.engine.embedded.children import ChildSlot
from headway.engine.embedded.loader import send_worker_init, send_worker_shutdown
from headway.engine.embedded.monitor import Monitor
from headway.engine.embedded.processes import children_folder
from headway.engine.embedded.settings import EngineSettings, EngineStatus
from headway.engine.embedded.slots import Slots
from headway.engine.embedded.spool import Spool, offer_spooled
from headway.engine.embedded.tracer import Tracer
from headway.model.commands import Finish
from headway.model.errors import StoreUnavailable
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from celery import Celery

    from headway.engine.embedded.attempt import RunningAttempt
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor

_COOPERATIVE_SECONDS = 0.5


class EmbeddedEngine:
    """Runs the jobs of a door with the tasks of an application, in this process and its children.

    Args:
        door: where jobs come from.
        app: a Celery application; it is attached to the door.
        clock: for deadlines and log times.
        settings: see ``EngineSettings``.
        log: a structlog logger.
        on_exhausted: called once when so many threads do not return that the process should be restarted: drain, stop,
            start anew.

    Raises:
        EagerModeRefused: the application runs its tasks inline.
    """

    def __init__(
        self,
        door: JobDoor,
        app: Celery,
        *,
        clock: Clock,
        settings: EngineSettings,
        log: Any,
        on_exhausted: Callable[[], None] | None = None,
    ) -> None:
        self._door = door
        self._clock = clock
        self._settings = settings
        self._log = log
        attachment = attach(app, door)
        self._app = attachment.app
        self._tracer = Tracer(self._app, settings.hostname)
        self._spool = Spool(settings.spool_dir)
        children_folder(settings.children_dir)
        self._monitor = Monitor(door, clock, settings, on_exhausted, log)
        self._slots = Slots(
            door,
            self._run_attempt,
            self._spool,
            clock,
            settings,
            on_report=self._monitor.news,
            on_begin=self._monitor.watch,
            on_late_return=self._monitor.late_return,
            on_unanswered=self._monitor.unanswered,
            on_batch=self._monitor.batches,
            slot_closed=self._close_child,
            log=log,
        )
        self._children = [
            ChildSlot(door, clock, settings, self._memory_limit, self._tracer.lost, log)
            for _ in range(settings.threads)
        ]
        self._stopped = threading.Event()

    def start(self) -> None:
        """Offer what an earlier process left in the spool, then begin jobs.

        Call ``reap_orphans`` before, and recover the store after the spool was offered (``offer_spooled``) where this
        process is its only owner.
        """
        try:
            answered = offer_spooled(self._spool, self._door)
            if answered:
                self._log.info("engine.spool_offered", finishes=answered)
        except StoreUnavailable as error:
            self._log.warning("engine.spool_waits", code=error.code)
        send_worker_init(self._app, self)
        self._monitor.start(self._slots)
        self._slots.start(self._enter_thread)

    def drain(self, timeout: float) -> bool:
        """Begin nothing more and let what runs end; what is not done after ``timeout`` seconds is interrupted.

        Interrupted attempts go back to the queue and cost no try: children are killed, a thread is told
        (``cancelled()`` is True) and given up, so the process should exit soon.

        Returns:
            Whether every attempt ended by itself.
        """
        self._slots.stop_beginning()
        ends = self._clock.monotonic() + timeout
        if self._slots.join(timeout):
            return True
        for run in list(self._slots.attempts.values()):
            run.ask_to_stop("drain")
        self._slots.join(max(_COOPERATIVE_SECONDS, ends - self._clock.monotonic()))
        for run in list(self._slots.attempts.values()):
            # A child's slot is collecting its dead process: it reports for itself.
            if not run.in_child and run.claim_end():
                self._interrupt(run)
        return False

    def stop(self) -> None:
        """End the monitor and the children. Attempts still running in threads are abandoned to the process's exit."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._slots.stop_beginning()
        for run in list(self._slots.attempts.values()):
            if run.in_child:
                run.ask_to_stop("drain")
        self._slots.join(self._settings.poll_seconds + _COOPERATIVE_SECONDS)
        self._monitor.stop()
        send_worker_shutdown(self)

    def beat(self) -> None:
        """Renew the lease of all attempts here, at once. Raises ``StoreUnavailable``."""
        self._monitor.beat_now()

    def status(self) -> EngineStatus:
        """What the engine is doing now."""
        runs = list(self._slots.attempts.values())
        return EngineStatus(
            running=sum(not run.ended for run in runs),
            idle_slots=self._slots.idle,
            lost_slots=self._monitor.lost,
            children=sum(child.alive for child in self._children),
            spooled=len(self._spool),
            draining=self._slots.is_stopping(),
            store_ok=self._slots.store_ok,
            finished=self._slots.finished,
        )

    def _run_attempt(self, slot: int, run: RunningAttempt) -> Finish:
        if run.begun.isolation == "process":
            return self._children[slot].run(run)
        return self._tracer.run(run)

    def _enter_thread(self) -> None:
        # Celery keeps the current application per thread; without it `shared_task` would look for another.
        self._app.set_current()

    def _close_child(self, slot: int) -> None:
        self._children[slot].close()

    def _memory_limit(self, task_name: str) -> int | None:
        limit = getattr(self._app.tasks.get(task_name), "memory_limit_mb", None)
        return None if limit is None else int(limit)

    def _interrupt(self, run: RunningAttempt) -> None:
        finish = Finish(run.id, run.fence, AttemptOutcome.INTERRUPTED, begun=run.begun)
        try:
            self._door.finish(finish)
        except StoreUnavailable:
            with contextlib.suppress(OSError):
                self._spool.put(finish)
        except Exception:  # noqa: BLE001 - the process ends; the rescuer gives the job back
            self._log.warning("engine.interrupt_refused", job=run.id, exc_info=True)
        self._slots.settle(finish)
