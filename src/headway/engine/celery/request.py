"""A worker's request for one message: what Celery would record when a child dies or is killed is ours to record."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import structlog
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import Reject
from celery.worker import state
from celery.worker.request import Request
from kombu.utils.imports import symbol_by_name

from headway.engine.celery.runner import GIVE_BACK
from headway.engine.embedded.attach import attachment_of

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger("headway.worker")


class ManagedRequest(Request):
    """Mixed in front of a task's own request class.

    The message is acknowledged whatever becomes of its attempt: what must run again is sent again by the relay.
    """

    _given_back = False

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The pool found a time limit over: a hard one is recorded as such before the child is killed."""
        if soft:
            super().on_timeout(soft, timeout)
            return
        worker = worker_of(self.app)
        if worker is not None:
            worker.stop_now([self.id], "timeout")
        state.task_ready(self)
        self.acknowledge()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """A failure that the child has recorded, or the end of a child, which the main process records."""
        error = exc_info.exception
        error = getattr(error, "exc", error)
        if isinstance(error, WorkerLostError | TimeLimitExceeded) or type(error).__name__ == "Terminated":
            state.task_ready(self)
            self.acknowledge()
            if send_failed_event:
                self.send_event("task-failed", exception=repr(error), traceback=None)
            return None
        if isinstance(error, Reject):
            self._given_back = getattr(error, "reason", None) == GIVE_BACK
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def reject(self, requeue: bool = False) -> None:
        """Reject for good, for a dead letter exchange; what goes back to the queue is sent by the relay."""
        if requeue and not self._given_back:
            self.acknowledge()
            self.send_event("task-rejected", requeue=True)
        else:
            super().reject(requeue)


def worker_of(app: Celery | None) -> Any:
    """The managed worker that runs in this process, or None."""
    found = None if app is None else attachment_of(app)
    return getattr(found, "worker", None)


def take_requests(task: Any) -> None:
    """Let messages of a task be our requests, of its own class too."""
    own = task.Request
    base = symbol_by_name(own)
    if not issubclass(base, ManagedRequest):
        with contextlib.suppress(AttributeError):
            task.Request = ManagedRequest if base is Request else type("ManagedRequest", (ManagedRequest, base), {})
