"""Celery's view of results over the job door: ``get``, ``state``, ``info``, ``update_state``, ``forget``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.base import BaseBackend
from celery.canvas import group
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import result_from_tuple
from kombu.exceptions import EncodeError

from headway.engine.codec import dumps, loads
from headway.engine.current import _current
from headway.engine.embedded.attempt import RunningAttempt, as_request_id
from headway.engine.embedded.exceptions import exception_of, python_error
from headway.model.errors import JobNotFound, NotSerializable, ResultGone, TransitionConflict
from headway.model.states import TERMINAL_STATES, VIEW, JobState

if TYPE_CHECKING:
    from celery import Celery

    from headway.model.job import Job
    from headway.ports.jobdoor import JobDoor

# Between two wake-ups a waiter looks at the parents of its result; the end itself comes by signal.
_LOOK_SECONDS = 0.5


class HeadwayBackend(BaseBackend):
    """The ``headway://`` result backend of an attached application.

    An id that nobody knows is PENDING, because Celery's interface has no word for it; every face of Headway says
    *not found*.

    Args:
        app: the attached application.
        door: gives the job door.
    """

    persistent = True
    supports_autoexpire = True

    def __init__(self, app: Celery, door: Callable[[], JobDoor]) -> None:
        super().__init__(app, url="headway://", serializer="json")
        self.thread_safe = True
        self._app = app
        self._door = door

    # -- written by Celery's tracer, inside an attempt ------------------------------------------------------------

    def mark_as_done(
        self, task_id: Any, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """Keep the result for the attempt's finish.

        Raises:
            EncodeError: it cannot be stored; the tracer turns that into the task's failure.
        """
        run = _own_attempt(task_id)
        if run is None:
            return
        run.body_returned = True
        keeps = store_result and not (request is not None and request.ignore_result)
        if keeps or run.begun.join_id is not None:
            try:
                text = dumps(self.prepare_value(result))
            except NotSerializable as error:
                raise EncodeError(error.message) from None
            if keeps:
                run.result_json = text
            else:
                # The body of its chord is given it all the same.
                run.part_json = text
        run.children = _children(request)

    def mark_as_failure(
        self,
        task_id: Any,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Keep the failure for the finish and call the errbacks, unless the job's own rule tries again."""
        run = _own_attempt(task_id)
        if run is None:
            return
        run.body_returned = True
        run.failure = (exc, python_error(exc))
        run.result_json = run.part_json = None
        # What a success had sent does not go out with a failure (a result that cannot be stored, a hook that raised).
        run.sends.clear()
        run.joins.clear()
        run.resend, run.awaits_send = None, False
        run.grown.clear()
        run.children = _children(request)
        if call_errbacks and request is not None and request.errbacks and not run.will_be_retried():
            errbacks: Any = self
            errbacks._call_task_errbacks(request, exc, traceback)  # noqa: SLF001 - of the base class, not in its types

    def mark_as_retry(
        self,
        task_id: Any,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> None:
        """Keep what the retry was for."""
        run = _own_attempt(task_id)
        if run is not None:
            run.body_returned = True
            run.failure = None if exc is None else (exc, python_error(exc))

    def mark_as_revoked(
        self,
        task_id: Any,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """A worker discards a task that was revoked, by its id or its stamps: its job is cancelled."""
        cancel: Any = getattr(self._door(), "cancel", None)
        if cancel is not None:
            with suppress(JobNotFound, TransitionConflict):
                cancel(as_request_id(task_id), reason or "revoked")

    def store_result(
        self, task_id: Any, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """``update_state`` of the running job: a state and meta of the task's own, carried by the next beat.

        The tracer's own states arrive by the ``mark_as_…`` methods; those that other code writes for other ids have
        no job to belong to and are not stored.
        """
        run = _own_attempt(task_id)
        if run is not None and state and state != states.STARTED and not run.body_returned:
            run.set_custom_state(str(state), dumps(self.encode_result(result, state)))
        return result

    # -- read by callers -----------------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: Any) -> dict[str, Any]:
        job_id = as_request_id(task_id)
        job = self._door().get(job_id)
        if job is None:
            return {"task_id": job_id, "status": states.PENDING, "result": None, "traceback": None, "children": []}
        return self._meta(job)

    def _shows_started(self, job: Job) -> bool:
        own: Any = self
        task = own.app.tasks.get(job.task)
        return bool(own.app.conf.task_track_started if task is None else task.track_started)

    def _meta(self, job: Job) -> dict[str, Any]:
        status = VIEW[job.state].celery
        result: Any = None
        if status == states.STARTED and not self._shows_started(job):
            # Celery's own rule: without `task_track_started` a task that runs looks like one that waits.
            status = states.RETRY if job.attempts > 1 else states.PENDING
        if job.state is JobState.RUNNING and job.custom_state:
            status, result = job.custom_state, job.custom_meta
        meta = {
            "task_id": job.id,
            "status": status,
            "result": result,
            "traceback": job.error.traceback if job.error else None,
            "children": job.children,
            "date_done": _iso(job.finished_at),
            "name": job.task,
            "args": job.args,
            "kwargs": job.kwargs,
            "worker": job.worker_id,
            "queue": job.queue,
            "retries": max(job.attempts - 1, 0),
            "parent_id": job.parent_id,
            "group_id": job.group_id,
        }
        if job.state is JobState.SUCCEEDED:
            if job.result_removed_at is not None:
                return _RemovedResult(meta)
            text = self._door().result_json(job.id) if job.has_result else None
            meta["result"] = None if text is None else loads(text)
        elif status in states.EXCEPTION_STATES:
            meta["result"] = exception_of(job)
        return meta

    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = _LOOK_SECONDS,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
        callback: Any = None,
        propagate: bool = True,
    ) -> Any:
        """Wait for the end by signal; a chain's result also ends when a step before it fails."""
        door, job_id = self._door(), as_request_id(result.id)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            pause = _LOOK_SECONDS if deadline is None else min(_LOOK_SECONDS, deadline - time.monotonic())
            waited_for = next((step.id for step in _steps(result) if not _ended(door.get(step.id))), job_id)
            began = time.monotonic()
            job = door.wait(as_request_id(waited_for), max(pause, 0.0))
            if on_interval is not None:
                on_interval()
            if waited_for == job_id and job is not None and _ended(job):
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise CeleryTimeout("The operation timed out.")
            if job is None:
                # Nobody knows the id (yet): a door may answer that at once, and must not be asked in a tight loop.
                time.sleep(max(0.0, min(pause, 0.05) - (time.monotonic() - began)))
        meta = self._meta(job)
        result._maybe_set_cache(meta)  # noqa: SLF001 - the contract between results and backends
        return result.maybe_throw(propagate=propagate, callback=callback)

    def _forget(self, task_id: Any) -> None:
        self._door().forget(as_request_id(task_id))

    # -- chords and groups ---------------------------------------------------------------------------------------

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Pack what the body sends; it is stored with the header, and waits for it."""
        group_id, results = header_result_args
        self._attachment().pack_body(str(group_id), results, body.delay, is_group=isinstance(body, group))

    def set_chord_size(self, group_id: Any, chord_size: int) -> None:
        """Celery has counted a header, just before its last part is sent."""
        self._attachment().sending.header(str(group_id), chord_size)

    def add_to_chord(self, chord_id: Any, result: Any) -> None:
        """The running task's chord has further parts; they count from when they are sent, or from the task's end."""
        run = _current.get()
        if isinstance(run, RunningAttempt):
            run.grown.update((leaf, as_request_id(chord_id)) for leaf in _leaf_ids(result))

    def _save_group(self, group_id: Any, result: Any) -> Any:
        self._door().save_group(as_request_id(group_id), dumps({"result": result.as_tuple()}))
        return result

    def _restore_group(self, group_id: Any) -> dict[str, Any] | None:
        text = self._door().saved_group(as_request_id(group_id))
        if text is None:
            return None
        meta: dict[str, Any] = loads(text)
        meta["result"] = result_from_tuple(meta["result"], self._app)
        return meta

    def _delete_group(self, group_id: Any) -> None:
        self._door().delete_group(as_request_id(group_id))

    def _attachment(self) -> Any:
        return vars(self._app)["_headway"]


class _RemovedResult(dict[str, Any]):
    """The meta of a job whose result was removed: its state can be read, its result says that it is gone."""

    def __getitem__(self, key: str) -> Any:
        if key == "result":
            raise ResultGone(f"The result of job {super().__getitem__('task_id')} was removed.")
        return super().__getitem__(key)


def _children(request: Any) -> list[Any]:
    """What a task sent, as Celery's tuples."""
    return [] if request is None else [child.as_tuple() for child in request.children or ()]


def _leaf_ids(result: Any) -> list[str]:
    inner = getattr(result, "results", None)
    return [as_request_id(result.id)] if inner is None else [leaf for one in inner for leaf in _leaf_ids(one)]


def _own_attempt(task_id: Any) -> RunningAttempt | None:
    run = _current.get()
    return run if isinstance(run, RunningAttempt) and as_request_id(task_id) == run.id else None


def _ended(job: Job | None) -> bool:
    return job is not None and job.state in TERMINAL_STATES


def _steps(result: Any) -> list[Any]:
    """The results a chain's result follows, first step first. A group among them has no id of its own to wait for."""
    steps: list[Any] = []
    node = result.parent
    while node is not None:
        if getattr(node, "results", None) is None:
            steps.append(node)
        node = node.parent
    return steps[::-1]


def _iso(at: int | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000).isoformat()
