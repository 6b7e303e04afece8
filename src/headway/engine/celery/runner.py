"""What a managed worker does with one message: begin the job, run its task by Celery's tracer, record its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from billiard.einfo import ExceptionInfo
from celery import states
from celery.app import trace
from celery.exceptions import Ignore, Reject

from headway.engine.celery.attach import opted_out
from headway.engine.celery.foreign import ForeignEnds, adopted, mark_of
from headway.engine.embedded.slots import unacceptable
from headway.model.errors import HeadwayError, StoreUnavailable
from headway.ports.workerdoor import NotBegun

if TYPE_CHECKING:
    from headway.engine.celery.attach import ManagedAttachment
    from headway.engine.embedded.attempt import RunningAttempt
    from headway.engine.embedded.spool import Spool
    from headway.engine.embedded.tracer import Tracer
    from headway.model.commands import Begun, Finish, FinishAnswer
    from headway.ports.clock import Clock
    from headway.ports.workerdoor import WorkerDoor

log = structlog.get_logger("headway.worker")

GIVE_BACK: Final = "headway: not begun"
"""The reason of a ``Reject`` that gives a message back to its broker, where the worker ends before it could begin."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of one managed worker.

    Attributes:
        worker_id: under which it begins attempts.
        spool_dir: where finishes wait on disk while the database does not answer.
        heartbeat_seconds: between two beats of all attempts.
        cancel_grace_seconds: what a cancelled attempt gets before it is killed.
        drain_seconds: what running attempts get when the worker is asked to end; then they are given back. None is
            for ever, as Celery has it.
        facts: what the worker's row says of it.
    """

    worker_id: str
    spool_dir: Path
    heartbeat_seconds: float = 2.0
    cancel_grace_seconds: float = 10.0
    drain_seconds: float | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


class Place(Protocol):
    """Where an attempt runs: what the rest of the worker is told of it."""

    def enter(self, begun: Begun, timeout: float | None) -> RunningAttempt:
        """An attempt has begun here."""
        ...

    def body_ended(self, run: RunningAttempt) -> bool:
        """Its body has returned; False where somebody else has said how it ended."""
        ...

    def leave(self, run: RunningAttempt, finish: Finish) -> None:
        """Its end is recorded."""
        ...

    @property
    def ending(self) -> bool:
        """Whether the worker begins nothing more."""
        ...


class Runner:
    """Takes the place of ``task.__trace__`` in a worker; thread-safe.

    Args:
        attachment: of the application.
        door: of this worker.
        tracer: runs the tasks.
        place: where.
        spool: keeps finishes while the door does not answer.
        clock: for pauses.
    """

    def __init__(
        self,
        attachment: ManagedAttachment,
        door: WorkerDoor,
        tracer: Tracer,
        place: Place,
        spool: Spool,
        clock: Clock,
    ) -> None:
        self._attachment = attachment
        self._app = attachment.app
        self._foreign = ForeignEnds(attachment)
        self._door = door
        self._tracer = tracer
        self._place = place
        self._spool = spool
        self._clock = clock

    def take_over(self) -> None:
        """Let every task of the application that has not opted out be run by this."""
        for name, task in list(self._app.tasks.items()):
            plain = task.__trace__
            if not opted_out(task) and getattr(plain, "headway", None) is not self:
                task.__trace__ = self._trace_of(name, task, plain)

    def _trace_of(self, name: str, task: Any, plain: Callable[..., Any]) -> Callable[..., Any]:
        plain = getattr(plain, "plain", plain)

        def traced(uuid: str, args: Any, kwargs: Any, request: dict[str, Any]) -> Any:
            try:
                begun = self._begin(uuid, name, args, kwargs, request)
            except HeadwayError as error:
                # Somebody who is not attached sent what cannot be stored: it is run as if Headway were not there.
                log.warning("worker.unrecorded", task=name, job=uuid, code=error.code, error=error.message)
                with self._attachment.unrecorded():
                    return plain(uuid, args, kwargs, request)
            if begun is None:
                return _ignored()
            return self._run(begun, task, request)

        traced.headway = self  # type: ignore[attr-defined]
        traced.plain = plain  # type: ignore[attr-defined]
        return traced

    def _begin(self, uuid: str, name: str, args: Any, kwargs: Any, request: Mapping[str, Any]) -> Begun | None:
        pause = _FIRST_PAUSE
        while True:
            try:
                begun = self._door.begin_job(uuid, lambda: adopted(name, args, kwargs, request))
            except StoreUnavailable as error:
                if self._place.ending:
                    raise Reject(GIVE_BACK, requeue=True) from error
                log.warning("worker.begin_waits", job=uuid, code=error.code)
                self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            if begun is NotBegun.DUPLICATE:
                self._tell_again(uuid, request)
            return None if isinstance(begun, NotBegun) else begun

    def _tell_again(self, uuid: str, request: Mapping[str, Any]) -> None:
        with contextlib.suppress(StoreUnavailable):
            job = self._door.get(uuid)
            if job is not None:
                self._foreign.again(job, request, self._door.result_json(uuid) if job.has_result else None)

    def _run(self, begun: Begun, task: Any, request: dict[str, Any]) -> Any:
        if task.name != begun.task:
            # The message is older than the job's last retry or replacement.
            task = self._app.tasks.get(begun.task, task)
        timeout = begun.timeout_seconds or task.time_limit or self._app.conf.task_time_limit
        run = self._place.enter(begun, timeout)
        finish, ended = self._tracer.trace(run, request)
        if self._place.body_ended(run):
            answer = self.record(run, finish)
            if mark_of(begun) is not None:
                self._foreign.ended(run, self._tracer.request(begun, request), ended, finish, answer)
        elif mark_of(begun) is not None:
            # The monitor has ended it, whose beats cannot wait for anybody's result backend.
            self._tell_again(begun.job_id, self._tracer.request(begun, request))
        return ended

    def record(self, run: RunningAttempt, finish: Finish) -> FinishAnswer:
        """Tell the door how an attempt ended, until it answers; meanwhile the end is on disk."""
        pause, kept = _FIRST_PAUSE, False
        while True:
            try:
                answer = self._door.finish(finish)
            except StoreUnavailable as error:
                if not kept:
                    log.warning("worker.finish_waits", job=finish.job_id, fence=finish.fence, code=error.code)
                    with contextlib.suppress(OSError):
                        self._spool.put(finish)
                        kept = True
                self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            except Exception as error:  # noqa: BLE001 - drivers raise what they like about a value
                log.warning("worker.finish_unacceptable", job=finish.job_id, fence=finish.fence, error=str(error))
                finish = unacceptable(finish, error)
                continue
            break
        if kept:
            self._spool.remove(finish)
        self._place.leave(run, finish)
        return answer


def _ignored() -> Any:
    """What Celery's tracer answers for a task that is neither a success nor a failure: acknowledged, and no more."""
    try:
        raise Ignore
    except Ignore as ignore:
        tuples: Any = trace
        return tuples.trace_ok_t(ExceptionInfo(internal=True), tuples.TraceInfo(states.IGNORED, ignore), 0.0, None)


class NewsCarrier:
    """Carries progress and custom states of the attempts of one process; its thread starts with the first of them.

    Args:
        door: takes them.
    """

    def __init__(self, door: WorkerDoor) -> None:
        self._door = door
        self._rest = threading.Event()
        self._runs: dict[tuple[str, int], RunningAttempt] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def watch(self, run: RunningAttempt) -> None:
        """An attempt that may have news."""
        self._runs[run.key] = run
        run.on_news(self._news)

    def forget(self, run: RunningAttempt) -> None:
        """The attempt has ended."""
        self._runs.pop(run.key, None)

    def _news(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._carry, name="headway-news", daemon=True)
                self._thread.start()
        self._wake.set()

    def _carry(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            runs = [run for run in list(self._runs.values()) if run.has_news()]
            if runs:
                try:
                    self._door.beat([run.beat_report() for run in runs])
                except Exception as error:  # noqa: BLE001 - the next news are tried again; the task must not suffer
                    log.debug("worker.news_lost", error=str(error))
            self._rest.wait(_NEWS_SECONDS)


_NEWS_SECONDS: Final = 0.25
