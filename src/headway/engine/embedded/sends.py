"""What Celery would put on a broker, as a command: one message becomes one ``SubmitJob`` (or the next attempt)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headway.engine.codec import plain
from headway.engine.embedded.attempt import RunningAttempt, as_request_id
from headway.model.commands import Resend, SubmitJob
from headway.model.errors import CanvasNotSupported

# Headers of a message that the next attempt's request needs back; those at their defaults are not stored.
_CARRIED = ("group", "group_index", "shadow", "replaced_task_nesting", "stamped_headers", "stamps", "ignore_result")
_CELERY_HEADERS = frozenset(
    {
        *_CARRIED,
        *("lang", "task", "id", "eta", "expires", "retries", "timelimit", "root_id", "parent_id"),
        *("argsrepr", "kwargsrepr", "origin", "compression"),
    }
)
_JOINS = frozenset({"celery.chord", "celery.chord_unlock"})


def command_from_message(
    name: str, headers: dict[str, Any], body: Any, properties: Mapping[str, Any], queue: str | None
) -> SubmitJob:
    """Read a protocol 2 message.

    Args:
        name: the task.
        headers: the message's headers, custom ones included.
        body: ``(args, kwargs, embed)``.
        properties: options of the publish; ``priority`` is read, and Headway's own ``isolation``, ``labels`` and
            ``idempotency_key``.
        queue: where it was routed, or None.

    Raises:
        CanvasNotSupported: it needs a join.
        NotSerializable: an argument cannot be stored.
    """
    args, kwargs, embed = body
    _refuse_joins(name, embed)
    limit = (headers.get("timelimit") or (None, None))[0]
    job_id = as_request_id(headers["id"])
    root_id = headers.get("root_id")
    return SubmitJob(
        task=name,
        args=plain(list(args)),
        kwargs=plain(dict(kwargs)),
        job_id=job_id,
        queue=queue,
        priority=int(properties.get("priority") or 0),
        run_at=_micros(headers.get("eta")),
        expires_at=_micros(headers.get("expires")),
        timeout_seconds=None if limit is None else float(limit),
        root_id=None if root_id is None else as_request_id(root_id),
        parent_id=headers.get("parent_id"),
        origin="celery",
        traceparent=headers.get("traceparent"),
        canvas=_canvas(headers, embed),
        isolation=properties.get("isolation"),
        labels=properties.get("labels") or {},
        idempotency_key=properties.get("idempotency_key"),
        celery_retries=int(headers.get("retries") or 0),
    )


def resend_of(command: SubmitJob) -> Resend:
    """The command as the next attempt of the job that is running."""
    return Resend(
        task=command.task,
        args=command.args,
        kwargs=command.kwargs,
        due_at=command.run_at,
        celery_retries=command.celery_retries,
        canvas=command.canvas,
    )


def refuse_replace_by_canvas(run: RunningAttempt, nesting: int, headers: Mapping[str, Any], job_id: str) -> None:
    """Refuse the first message of a ``replace`` by a chain: the replaced id would ride in the chain's tail.

    Args:
        run: the attempt whose body sends.
        nesting: how often the running task itself is a replacement.
        headers: of the message.
        job_id: the id that the message would get.

    Raises:
        CanvasNotSupported: the send belongs to a ``replace``, but does not carry the running attempt's id.
    """
    if job_id != run.id and int(headers.get("replaced_task_nesting") or 0) > nesting:
        raise CanvasNotSupported(
            f"Task {run.begun.task} was to be replaced by a chain or a group; nothing of it was sent.",
            hint="Replace by one task, or send the chain with apply_async and return.",
        )


def is_join(name: str) -> bool:
    """Whether a task of Celery's own exists only to join the parts of a chord."""
    return name in _JOINS


def _canvas(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> dict[str, Any] | None:
    canvas: dict[str, Any] = {key: embed[key] for key in ("callbacks", "errbacks", "chain") if embed.get(key)}
    canvas |= {key: headers[key] for key in _CARRIED if headers.get(key)}
    if headers.get("expires"):
        canvas["expires"] = headers["expires"]
    if any(headers.get("timelimit") or ()):
        canvas["timelimit"] = list(headers["timelimit"])
    own = {key: value for key, value in headers.items() if value is not None and key not in _CELERY_HEADERS}
    own.pop("traceparent", None)
    # Stamps are repeated among the headers by name; the stamps themselves are carried above.
    for stamp in headers.get("stamped_headers") or ():
        own.pop(stamp, None)
    if own:
        canvas["headers"] = own
    return plain(canvas) if canvas else None


def _refuse_joins(name: str, embed: Mapping[str, Any]) -> None:
    waiting = [step for key in ("callbacks", "errbacks", "chain") for step in embed.get(key) or ()]
    if embed.get("chord") or name in _JOINS or any(_needs_join(step) for step in waiting):
        raise CanvasNotSupported(
            f"Task {name} is part of a chord (a group followed by a task is one too); nothing of it was sent."
        )


def _needs_join(step: Any) -> bool:
    """Whether running this signature would need the results of a group together."""
    if not isinstance(step, Mapping):
        return False
    if step.get("task") in _JOINS or step.get("subtask_type") == "chord":
        return True
    options = step.get("options") or {}
    linked = [*_listed(options.get("link")), *_listed(options.get("link_error"))]
    parts = _listed((step.get("kwargs") or {}).get("tasks")) if step.get("subtask_type") in {"chain", "group"} else []
    inner_group = step.get("subtask_type") == "chain" and any(
        isinstance(part, Mapping) and part.get("subtask_type") == "group" for part in parts[:-1]
    )
    return inner_group or any(_needs_join(part) for part in (*linked, *parts))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _micros(moment: str | None) -> int | None:
    if not moment:
        return None
    parsed = datetime.fromisoformat(moment)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    # Integer arithmetic: a float of microseconds since 1970 loses the last digit.
    since = parsed - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
