"""Runs one begun job by Celery's own tracer and turns what happened into a ``Finish``."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import states
from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.app import trace
from celery.app.task import Context
from celery.exceptions import ChordError, NotRegistered
from kombu.exceptions import EncodeError

from headway.engine.codec import dumps, loads
from headway.engine.current import _current
from headway.engine.embedded.exceptions import error_info, exception_of_error, python_error
from headway.model.commands import Finish
from headway.model.errors import ErrorKind, HeadwayError
from headway.model.job import ErrorInfo
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from celery import Celery

    from headway.engine.embedded.attempt import RunningAttempt
    from headway.model.commands import Begun

_log = logging.getLogger(__name__)

TraceFunction = Callable[[str, Any, Any, dict[str, Any]], Any]

_PERMANENT = frozenset({ErrorKind.INVALID, ErrorKind.NOT_FOUND, ErrorKind.SETUP, ErrorKind.TOO_LARGE})
_NO_MESSAGE: Mapping[str, Any] = MappingProxyType({})
_RESERVED = frozenset(
    {
        "callbacks",
        "errbacks",
        "chain",
        "headers",
        "broken",
        "countdown",
        "expires_after",
        "run_at",
        "group_body",
        "properties",
        "external",
    }
)


def failed_trace(error: BaseException) -> Any:
    """What Celery's tracer would answer for an error that it did not see itself."""
    try:
        raise error
    except type(error):
        tuples: Any = trace
        return tuples.trace_ok_t(ExceptionInfo(), tuples.TraceInfo(states.FAILURE, error), 0.0, None)


class Tracer:
    """Runs attempts of one application; thread-safe.

    Args:
        app: an attached application.
        hostname: what ``self.request.hostname`` says.
    """

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._tasks = app.tasks
        self._hostname = hostname
        self._traces: dict[str, tuple[Any, TraceFunction]] = {}
        self._building = threading.Lock()

    def run(self, run: RunningAttempt) -> Finish:
        """Run the attempt's task in this thread, to its end, and say how it ended. Never raises."""
        return self.trace(run)[0]

    def trace(self, run: RunningAttempt, message: Mapping[str, Any] = _NO_MESSAGE) -> tuple[Finish, Any]:
        """As ``run``, and what Celery's tracer answered, as a worker's pool wants it.

        Args:
            run: the attempt.
            message: what the message that brought it says; the record wins.
        """
        begun = run.begun
        task = self._tasks.get(begun.task)
        if task is None:
            finish = self._unknown(begun)
            assert finish.error is not None
            return finish, failed_trace(NotRegistered(finish.error.message))
        # Celery's stacks of current tasks are per thread, `current_job()` is per context: both are undone here.
        token = _current.set(run)
        try:
            if begun.canvas_json is not None and '"broken"' in begun.canvas_json:
                canvas = loads(begun.canvas_json)
                if canvas.get("broken") is not None:
                    finish = self._broken(run, canvas["broken"], in_group=bool(canvas.get("group_body")))
                    assert finish.error is not None
                    return finish, failed_trace(ChordError(finish.error.message))
            found = self._traces.get(begun.task)
            trace_function = found[1] if found is not None and found[0] is task else self._build(begun.task, task)
            request = self.request(begun, message)
            ended = trace_function(begun.job_id, loads(begun.args_json), loads(begun.kwargs_json), request)
        except Exception as error:  # noqa: BLE001 - the tracer's own failures are failures of the attempt
            return _failed(run, error, python_error(error)), failed_trace(error)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a task ends the attempt, not the server
            return _exited(run, error), failed_trace(RuntimeError(f"the task left Python by {type(error).__name__}"))
        finally:
            _current.reset(token)
        return _finish(run, ended), ended

    def _broken(self, run: RunningAttempt, broken: dict[str, Any], *, in_group: bool) -> Finish:
        """Fail an attempt whose header failed, as the end of that header does in Celery: its body does not run."""
        begun = run.begun
        cause = exception_of_error(ErrorInfo(**broken["error"]))
        error: BaseException = cause
        if not in_group:
            error = ChordError(f"Dependency {broken['job_id']} raised {cause!r}")
            error.__cause__ = cause
        run.broken = run.body_returned = True
        arguments = {"args": loads(begun.args_json), "kwargs": loads(begun.kwargs_json)}
        request = Context(self.request(begun), **arguments, called_directly=False)
        backend: Any = self._app.backend
        task: Any = self._tasks[begun.task]
        # Errbacks are children of what they are told of.
        _task_stack.push(task)
        task.request_stack.push(request)
        try:
            raise error
        except BaseException as raised:  # noqa: BLE001 - whatever the part raised is told to the errbacks
            backend.mark_as_failure(begun.job_id, raised, raised.__traceback__, request=request)
            sent: Any = request.children or ()
            run.children = [child.as_tuple() for child in sent]
        finally:
            task.request_stack.pop()
            _task_stack.pop()
        exc, text = run.failure or (error, python_error(error))
        return replace(_failed(run, exc, text, code="chord_broken"), may_retry=False)

    def lost(self, run: RunningAttempt, finish: Finish) -> Finish:
        """The finish of an attempt that its child did not live to report, with what its errbacks send.

        As in Celery, the parent calls the errbacks of what it killed or lost: not when the job's own rule tries again.
        """
        begun = run.begun
        ends = finish.outcome in {AttemptOutcome.FAILED, AttemptOutcome.TIMEOUT}
        if not ends or run.will_be_retried() or not begun.canvas_json or begun.task not in self._tasks:
            return finish
        request = Context(self.request(begun), args=loads(begun.args_json), kwargs=loads(begun.kwargs_json))
        if not request.errbacks or finish.error is None:
            return finish
        run.body_returned = True
        token = _current.set(run)
        try:
            backend: Any = self._app.backend
            backend._call_task_errbacks(request, WorkerLostError(finish.error.message), None)  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - an errback's own failure does not change how the attempt ended
            _log.warning("errback of job %s failed: %s", begun.job_id, error)
        finally:
            _current.reset(token)
        return replace(finish, sends=tuple(run.sends), joins=tuple(run.joins))

    def request(self, begun: Begun, message: Mapping[str, Any] = _NO_MESSAGE) -> dict[str, Any]:
        """What the attempt's task sees as its request: the record, and what the message says of its delivery."""
        job_id = begun.job_id
        request: dict[str, Any] = {
            "id": job_id,
            "task": begun.task,
            "retries": begun.celery_retries,
            "root_id": begun.root_id or job_id,
            "parent_id": begun.parent_id,
            "correlation_id": job_id,
            "hostname": self._hostname,
            "is_eager": False,
            "lang": "py",
            # An anonymous exchange and the queue's name: what a retry needs to be routed the same way.
            "delivery_info": {
                "exchange": "",
                "routing_key": begun.queue,
                "priority": begun.priority,
                "redelivered": False,
            },
            # Not None: Celery would otherwise build the set of all its own header names for every request.
            "headers": {} if begun.traceparent is None else {"traceparent": begun.traceparent},
        }
        if message:
            # How it was really delivered is the broker's to say; that it was begun before, and not to be tried again
            # by a rule, is a redelivery to the task.
            info = {**message["delivery_info"], "priority": begun.priority}
            info["redelivered"] = info.get("redelivered") or begun.fence > 1 + begun.celery_retries + begun.retries_used
            request = {**message, **request, "delivery_info": info}
        if begun.canvas_json:
            canvas = loads(begun.canvas_json)
            request.update((key, value) for key, value in canvas.items() if key not in _RESERVED)
            request["callbacks"] = canvas.get("callbacks")
            request["errbacks"] = canvas.get("errbacks")
            request["chain"] = canvas.get("chain")
            request["headers"] |= canvas.get("headers") or {}
            if canvas.get("properties"):
                request["properties"] = {**(request.get("properties") or {}), **canvas["properties"]}
        return request

    def _build(self, name: str, task: Any) -> TraceFunction:
        with self._building:
            body = _marking(name, task.run)
            own = task.__dict__.get("run")
            # Celery binds `task.run` while it builds, so ours needs to be there only for that moment. A task with a
            # `__call__` of its own (Flask's recipe) looks `run` up every time: there it has to stay.
            task.run = body
            try:
                # By the module's name: tracing libraries put their own `build_tracer` there.
                function: TraceFunction = trace.build_tracer(name, task, app=self._app, hostname=self._hostname)
            finally:
                if not trace.task_has_custom(task, "__call__"):
                    if own is None:
                        del task.run
                    else:
                        task.run = own
            self._traces[name] = (task, function)
            return function

    def _unknown(self, begun: Begun) -> Finish:
        known = sorted(name for name in self._tasks if not name.startswith("celery."))
        error = ErrorInfo(
            code="unknown_task",
            message=f"No task named {begun.task} is registered in the application that runs here "
            f"(it knows {len(known)}).",
            hint="Start Headway with -A naming the application that defines it, then run the job again.",
        )
        return Finish(begun.job_id, begun.fence, AttemptOutcome.FAILED, error=error, may_retry=False, begun=begun)


def _marking(name: str, run_body: Callable[..., Any]) -> Callable[..., Any]:
    """The body, noting when it has returned: what is sent after that belongs to the finish."""

    def body(*args: Any, **kwargs: Any) -> Any:
        run: Any = _current.get()
        if run is None or run.begun.task != name:
            return run_body(*args, **kwargs)
        # A task may call itself directly; only the outermost return is the attempt's.
        run.body_depth += 1
        try:
            return run_body(*args, **kwargs)
        finally:
            run.body_depth -= 1
            run.body_returned = run.body_depth == 0

    body.__wrapped__ = run_body  # type: ignore[attr-defined]
    return body


def _finish(run: RunningAttempt, ended: Any) -> Finish:
    again = run.resend is not None or run.awaits_send
    if run.saw_stop and run.stop_reason != "superseded" and not again:
        return stopped(run)
    if again:
        return _resent(run)
    finish = _own_end(run, ended.info)
    return replace(finish, grows=dict(Counter(run.grown.values()))) if run.grown else finish


def _own_end(run: RunningAttempt, info: Any) -> Finish:
    begun, sends, joins = run.begun, tuple(run.sends), tuple(run.joins)
    if info is None:
        return Finish(
            begun.job_id,
            begun.fence,
            AttemptOutcome.SUCCEEDED,
            result_json=run.result_json,
            sends=sends,
            begun=begun,
            joins=joins,
            part_json=run.part_json,
            children_json=_children(run),
        )
    if info.state == states.IGNORED:
        return Finish(begun.job_id, begun.fence, AttemptOutcome.IGNORED, sends=sends, begun=begun, joins=joins)
    if info.state == states.REJECTED:
        return _rejected(run, info.retval)
    if info.state == states.RETRY:
        text = "The task raised Retry itself, so no next try was arranged; self.retry() both arranges and raises it."
        error = ErrorInfo(code="retry_not_sent", message=text, exc_type="celery.exceptions.Retry")
        return Finish(begun.job_id, begun.fence, AttemptOutcome.FAILED, error=error, may_retry=False, begun=begun)
    exc, text = run.failure or (info.retval, python_error(info.retval))
    return _failed(run, exc, text)


def _children(run: RunningAttempt) -> str | None:
    return dumps(run.children) if run.children else None


def _failed(run: RunningAttempt, exc: BaseException, text: str, *, code: str = "task_failed") -> Finish:
    begun = run.begun
    if isinstance(exc, EncodeError):
        code, hint, may_retry = "result_not_serializable", "Return JSON values, or a reference to the object.", False
    else:
        # A task that has used retries of its own has had its say about trying again.
        code = exc.code if isinstance(exc, HeadwayError) else code
        # What Headway says is wrong with the request itself stays wrong.
        permanent = isinstance(exc, HeadwayError) and exc.kind in _PERMANENT
        hint, may_retry = None, begun.celery_retries == 0 and not permanent
    return Finish(
        begun.job_id,
        begun.fence,
        AttemptOutcome.FAILED,
        error=error_info(exc, text, code=code, hint=hint),
        sends=tuple(run.sends),
        may_retry=may_retry,
        begun=begun,
        joins=tuple(run.joins),
        children_json=_children(run),
    )


def _resent(run: RunningAttempt) -> Finish:
    begun, resend = run.begun, run.resend
    replaced = resend is None or resend.waits_for is not None or resend.celery_retries == begun.celery_retries
    # What a retry's return sent would go out twice, because the next attempt carries chain and callbacks on; what
    # stands for a replaced job has not been sent yet.
    stands = resend is None or resend.waits_for is not None
    error = None if run.failure is None else error_info(*run.failure)
    return Finish(
        begun.job_id,
        begun.fence,
        AttemptOutcome.REPLACED if replaced else AttemptOutcome.RETRIED,
        error=error,
        sends=tuple(run.sends) if stands else (),
        joins=tuple(run.joins) if stands else (),
        awaits_send=resend is None,
        grows=dict(Counter(run.grown.values())) if replaced else {},
        resend=resend,
        begun=begun,
    )


def _rejected(run: RunningAttempt, exc: Any) -> Finish:
    begun = run.begun
    reason = exc.reason
    error = error_info(reason, None) if isinstance(reason, BaseException) else None
    text = error.message if error else str(reason or "no reason given")
    info = ErrorInfo(
        code="task_rejected", message=f"The task rejected its message: {text}", exc_type="celery.exceptions.Reject"
    )
    return Finish(
        begun.job_id,
        begun.fence,
        AttemptOutcome.REJECTED,
        error=info,
        requeue=bool(exc.requeue),
        may_retry=False,
        begun=begun,
    )


def _exited(run: RunningAttempt, exc: BaseException) -> Finish:
    begun = run.begun
    # A pool that enforces a time limit too may end its child gently, and before we kill it.
    if run.cancelled() and run.stop_reason != "superseded":
        return stopped(run)
    error = error_info(
        exc, python_error(exc), code="task_exited", hint="Return from the task instead of leaving Python."
    )
    return Finish(begun.job_id, begun.fence, AttemptOutcome.FAILED, error=error, begun=begun)


def stopped(run: RunningAttempt, *, held: bool = False) -> Finish:
    """The finish of an attempt that was stopped: ``cancelled``, ``timeout``, or ``interrupted`` by a shutdown.

    Args:
        run: the attempt; its stop reason decides.
        held: its thread still runs.
    """
    begun = run.begun
    if run.stop_reason == "timeout":
        # None: the limit is the task's or the application's own, and no part of the request.
        limit = "its time limit" if begun.timeout_seconds is None else f"its timeout of {begun.timeout_seconds:g} s"
        text = f"The attempt ran longer than {limit}."
        error = ErrorInfo(code="timeout", message=text, hint="Raise the task's timeout, or make the work smaller.")
        return Finish(begun.job_id, begun.fence, AttemptOutcome.TIMEOUT, error=error, held=held, begun=begun)
    if run.stop_reason == "drain":
        return Finish(begun.job_id, begun.fence, AttemptOutcome.INTERRUPTED, begun=begun)
    error = ErrorInfo(code="cancelled", message="The job was cancelled while it ran.")
    return Finish(begun.job_id, begun.fence, AttemptOutcome.CANCELLED, error=error, held=held, begun=begun)
