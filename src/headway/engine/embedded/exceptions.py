"""Exceptions as stored errors, and stored errors as the exceptions that Celery users catch."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

from billiard.exceptions import WorkerLostError
from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.utils.serialization import ensure_serializable

from headway.engine.codec import dumps, loads
from headway.model.errors import HeadwayError, JobFailed
from headway.model.job import ErrorInfo
from headway.model.redact import mask_secrets, storable
from headway.model.states import JobState

if TYPE_CHECKING:
    from headway.model.job import Job

MAX_MESSAGE = 4_000
MAX_TRACEBACK = 16_000
_OUR_FRAMES = ("/celery/app/trace.py", "/headway/engine/embedded/tracer.py")


def python_error(exc: BaseException) -> str:
    """The traceback as text, from the task's first frame on: the tracer's own frames say nothing about the task."""
    return "".join(traceback.format_exception(type(exc), exc, _task_frames(exc.__traceback__), limit=-60))


def error_info(
    exc: BaseException, trace: str | None, *, code: str = "task_failed", hint: str | None = None
) -> ErrorInfo:
    """An exception as it is stored: secrets masked, the message cut at its end and the traceback at its beginning.

    Args:
        exc: what was raised.
        trace: its traceback as text, or None.
        code: machine-readable reason; an error of Headway brings its own.
        hint: what to do about it.
    """
    message = exc.message if isinstance(exc, HeadwayError) else _message(exc)
    kind = type(exc)
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return ErrorInfo(
        code=code,
        message=_cut(storable(mask_secrets(message)), MAX_MESSAGE),
        traceback=None if trace is None else _last(storable(mask_secrets(trace)), MAX_TRACEBACK),
        exc_type=storable(f"{where}{kind.__qualname__}"),
        hint=hint or (exc.hint or None if isinstance(exc, HeadwayError) else None),
        exc_args=_arguments(exc),
    )


def _arguments(exc: BaseException) -> list[Any] | None:
    """What the exception was made with, as JSON values; None where its message says as much, or it would be too much."""
    args = getattr(exc, "args", ())
    if isinstance(exc, HeadwayError) or not isinstance(args, tuple) or (len(args) == 1 and isinstance(args[0], str)):
        return None
    kept = ensure_serializable(list(args), dumps)
    text = storable(mask_secrets(dumps(kept)))
    return list(loads(text)) if kept and len(text) <= MAX_MESSAGE else None


def exception_of(job: Job) -> BaseException | None:
    """The exception that ``AsyncResult.get()`` raises for a job.

    The type is looked up among the modules that are loaded, never imported by name; a type that is not there becomes
    ``JobFailed``. Lost children are ``WorkerLostError``, timeouts ``TimeLimitExceeded``, cancels ``TaskRevokedError``.
    """
    error = job.error
    if job.state is JobState.CANCELLED:
        return TaskRevokedError(error.message if error else "cancelled")
    if error is None:
        return None if job.state is JobState.RETRY_SCHEDULED else JobFailed(f"Job {job.id} failed.", state=job.state)
    if job.state is JobState.TIMEOUT:
        return TimeLimitExceeded(job.timeout_seconds)
    return exception_of_error(error, state=str(job.state))


def exception_of_error(error: ErrorInfo, *, state: str = "failed") -> BaseException:
    """The exception that a stored error was; see ``exception_of``."""
    if error.code in {"child_crashed", "child_exited", "worker_lost", "memory_limit"}:
        return WorkerLostError(error.message)
    kind = _loaded_type(error.exc_type)
    if kind is not None:
        try:
            return kind(*error.exc_args) if error.exc_args else kind(error.message)
        except Exception:  # noqa: BLE001 - any constructor may refuse one text; the message must get through
            kind = None
    return JobFailed(error.message, state=state, error_code=error.code, exc_type=error.exc_type)


def _loaded_type(name: str | None) -> type[BaseException] | None:
    if not name:
        return None
    parts = name.split(".") if "." in name else ["builtins", name]
    for cut in range(len(parts) - 1, 0, -1):
        found: object = sys.modules.get(".".join(parts[:cut]))
        if found is None:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found if isinstance(found, type) and issubclass(found, Exception) else None
    return None


def _message(exc: BaseException) -> str:
    try:
        # str(KeyError("x")) is "'x'", which would be quoted again when the exception is made anew.
        text = str(exc.args[0]) if isinstance(exc, KeyError) and len(exc.args) == 1 else str(exc)
    except Exception:  # noqa: BLE001 - __str__ is the task's code
        text = ""
    return text or type(exc).__name__


def _task_frames(trace: TracebackType | None) -> TracebackType | None:
    found = trace
    while found is not None and found.tb_frame.f_code.co_filename.endswith(_OUR_FRAMES):
        found = found.tb_next
    return found or trace


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters)"


def _last(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"({len(text) - limit} characters before) …{text[-limit:]}"
