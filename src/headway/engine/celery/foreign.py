"""Jobs whose messages came from a process that is not attached: their ends are told where that process looks.

Such a producer reads results from the application's own result backend, and its chords are counted there. The record
stays Headway's; this is a second, weaker telling of it, which may fail without harm to the job.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import states
from celery.app import trace
from celery.app.task import Context
from celery.backends.base import DisabledBackend
from celery.exceptions import TimeLimitExceeded
from celery.result import result_from_tuple

from headway.engine.codec import loads
from headway.engine.embedded.exceptions import exception_of, exception_of_error
from headway.engine.embedded.sends import command_from_message
from headway.model.job import ErrorInfo
from headway.model.states import TERMINAL_STATES, AttemptOutcome, JobState

if TYPE_CHECKING:
    from headway.engine.celery.attach import ManagedAttachment
    from headway.engine.embedded.attempt import RunningAttempt
    from headway.model.commands import Begun, Finish, FinishAnswer, SubmitJob
    from headway.model.job import Job

log = structlog.get_logger("headway.worker")

# What a message of the protocol says of itself beside its delivery.
_HEADERS: Final = (
    *("id", "group", "group_index", "shadow", "replaced_task_nesting", "stamped_headers", "stamps", "ignore_result"),
    *("eta", "expires", "retries", "timelimit", "root_id", "parent_id", "traceparent"),
)
_EMBEDDED: Final = ("callbacks", "errbacks", "chain", "chord")


def adopted(task: str, args: Any, kwargs: Any, request: Mapping[str, Any]) -> SubmitJob:
    """A message that nobody recorded, as a submit.

    Args:
        task: its name.
        args: positional arguments.
        kwargs: keyword arguments.
        request: what the message says.

    Raises:
        NotSerializable: an argument cannot be stored.
    """
    embed = {key: request.get(key) for key in _EMBEDDED}
    info = request["delivery_info"]
    queue = info.get("routing_key") if not info.get("exchange") else None
    headers = {key: request[key] for key in _HEADERS if request.get(key) is not None}
    external = mark_of_request(request)
    command = command_from_message(task, headers, (args, kwargs, embed), {}, queue, external)
    # It has waited where it came from: what is left of its eta is over.
    return dataclasses.replace(command, origin="external", run_at=None)


def mark_of_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a job keeps of the producer of a message, given what that message says."""
    embed = {key: request.get(key) for key in _EMBEDDED}
    said = {key: request[key] for key in ("reply_to", "correlation_id") if request.get(key)}
    return {"groups": sorted(_groups(request.get("group"), embed)), **said}


def _groups(group: Any, embed: Mapping[str, Any]) -> set[str]:
    """Ids of the chords that the producer counts, of which this message or what it carries is a part."""
    found = set()
    if group and embed.get("chord"):
        found.add(str(group))
    waiting = [signature for part in embed.values() for signature in (part if isinstance(part, list) else [part])]
    while waiting:
        signature = waiting.pop()
        if not isinstance(signature, Mapping):
            continue
        options = signature.get("options") or {}
        if options.get("group_id") and options.get("chord"):
            found.add(str(options["group_id"]))
        for key in ("chord", "link", "link_error"):
            value = options.get(key)
            waiting += value if isinstance(value, list) else [value]
    return found


def mark_of(begun: Begun | None) -> dict[str, Any] | None:
    """What an attempt's job says of the producer that waits for it; None for a job of an attached process."""
    if begun is None or begun.canvas_json is None or '"external"' not in begun.canvas_json:
        return None
    found: dict[str, Any] | None = loads(begun.canvas_json).get("external")
    return found


class ForeignEnds:
    """Tells the application's own result backend; thread-safe.

    Args:
        attachment: of the application.
    """

    def __init__(self, attachment: ManagedAttachment) -> None:
        self._attachment = attachment

    def ended(
        self,
        run: RunningAttempt,
        request: Mapping[str, Any],
        ended: Sequence[Any],
        finish: Finish,
        answer: FinishAnswer,
    ) -> None:
        """An attempt's end was recorded in the process that ran it.

        Args:
            run: the attempt.
            request: as its task saw it.
            ended: what Celery's tracer answered.
            finish: what was recorded.
            answer: what became of that.
        """
        mark = mark_of(run.begun)
        if mark is None or answer.refused or answer.state not in TERMINAL_STATES:
            return
        if finish.outcome is AttemptOutcome.SUCCEEDED:
            self._tell(run.begun, request, mark, run.children, answer.state, ended[0], None)
        elif answer.state is not JobState.SUCCEEDED:
            error, text = run.failure or (None, None)
            self._tell(run.begun, request, mark, run.children, answer.state, error or _raised(finish), text)

    def stopped(self, begun: Begun, request: Mapping[str, Any], finish: Finish, answer: FinishAnswer) -> None:
        """The main process recorded the end of an attempt that it killed: told by a thread, for leases do not wait."""
        mark = mark_of(begun)
        if mark is None or answer.refused or answer.state not in TERMINAL_STATES:
            return
        told = partial(self._tell, begun, request, mark, [], answer.state, _raised(finish), None)
        threading.Thread(target=told, name="headway-tell", daemon=True).start()

    def again(self, job: Job, request: Mapping[str, Any], result_json: str | None) -> None:
        """A message came for a job that has ended: whoever ended it may not have lived to tell.

        Args:
            job: the record.
            request: what the message says.
            result_json: its result, if it has one.
        """
        if job.origin != "external" or job.state not in TERMINAL_STATES:
            return
        mark = mark_of_request(request)
        value: Any = exception_of(job)
        text = job.error.traceback if job.error else None
        if job.state is JobState.SUCCEEDED:
            value, text = None if result_json is None else loads(result_json), None
        try:
            known = self._attachment.own_backend.get_state(job.id)
        except Exception as error:  # noqa: BLE001 - a backend's client raises what it likes
            log.warning("worker.foreign_result_lost", job=job.id, error=repr(error))
            return
        if known not in states.READY_STATES:
            self._tell(None, {**request, "id": job.id, "task": job.task}, mark, job.children, job.state, value, text)

    def _tell(
        self,
        begun: Begun | None,
        request: Mapping[str, Any],
        mark: Mapping[str, Any],
        children: Sequence[Any],
        state: JobState,
        value: Any,
        traceback: str | None,
    ) -> None:
        backend, app = self._attachment.own_backend, self._attachment.app
        if isinstance(backend, DisabledBackend):
            return
        context: Any = Context(dict(request))
        context.update({key: mark[key] for key in ("reply_to", "correlation_id") if key in mark})
        context.update(_children=[result_from_tuple(child, app) for child in children])
        if str(context.group) not in mark["groups"]:
            # It is a part of a chord that was made here, or of none.
            context.chord = None
        if begun is not None:
            context.args, context.kwargs = loads(begun.args_json), loads(begun.kwargs_json)
        job_id = str(request["id"])
        task: Any = app.tasks.get(str(request["task"]))
        asked: Any = trace
        stores = task is None or not asked.get_actual_ignore_result(task, context)
        try:
            # What the end of a chord sends is as foreign as its parts.
            with self._attachment.telling(mark):
                if state is JobState.SUCCEEDED:
                    backend.mark_as_done(job_id, value, context, stores)
                elif state is JobState.CANCELLED:
                    backend.mark_as_revoked(job_id, str(value or "cancelled"), context, stores)
                else:
                    stores = stores or bool(task is not None and task.store_errors_even_if_ignored)
                    # Its errbacks were called when it failed.
                    backend.mark_as_failure(job_id, value, traceback, context, stores, call_errbacks=False)
        except Exception as error:  # noqa: BLE001 - the job has ended as recorded, whatever becomes of this
            log.warning("worker.foreign_result_lost", job=job_id, error=repr(error))


def _raised(finish: Finish) -> BaseException:
    if finish.outcome is AttemptOutcome.TIMEOUT:
        return TimeLimitExceeded(finish.begun.timeout_seconds if finish.begun is not None else None)
    return exception_of_error(finish.error or ErrorInfo(code="task_failed", message="the attempt was stopped"))
