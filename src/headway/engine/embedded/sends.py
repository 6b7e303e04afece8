"""What Celery would put on a broker, as a command: one message becomes one ``SubmitJob`` (or the next attempt)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headway.engine.codec import plain
from headway.engine.embedded.attempt import as_request_id
from headway.model.commands import Resend, SubmitJob

# Headers of a message that the next attempt's request needs back; those at their defaults are not stored.
_CARRIED = (
    *("group", "group_index", "shadow", "replaced_task_nesting", "stamped_headers", "stamps", "ignore_result"),
    *("argsrepr", "kwargsrepr"),
)
# Options of a publish that are a message's properties, and that a task may read.
_PROPERTIES = ("app_id", "message_id", "user_id", "type")
_CELERY_HEADERS = frozenset(
    {
        *_CARRIED,
        *("lang", "task", "id", "eta", "expires", "retries", "timelimit", "root_id", "parent_id"),
        *("origin", "compression"),
    }
)
# What a part of a chord carries for Celery's own questions: the body itself waits in the store.
_IN_CHORD: dict[str, Any] = {
    "task": "headway.chord",
    "args": [],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
    "immutable": False,
}


def command_from_message(
    name: str,
    headers: dict[str, Any],
    body: Any,
    properties: Mapping[str, Any],
    queue: str | None,
    external: Mapping[str, Any] | None = None,
) -> SubmitJob:
    """Read a protocol 2 message.

    Args:
        name: the task.
        headers: the message's headers, custom ones included.
        body: ``(args, kwargs, embed)``.
        properties: options of the publish; ``priority`` is read, and Headway's own ``isolation``, ``labels`` and
            ``idempotency_key``.
        queue: where it was routed, or None.
        external: what is kept of a producer that is not attached; chords of its ``groups`` are not counted here.

    Raises:
        NotSerializable: an argument cannot be stored.
    """
    args, kwargs, embed = body
    limit = (headers.get("timelimit") or (None, None))[0]
    job_id = as_request_id(headers["id"])
    root_id, group_id = headers.get("root_id"), headers.get("group")
    foreign_chord = external is not None and str(group_id) in external["groups"]
    canvas = _canvas(headers, embed, properties, _IN_CHORD if not foreign_chord else embed.get("chord"))
    if external is not None:
        canvas = {**(canvas or {}), "external": dict(external)}
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
        canvas=canvas,
        isolation=properties.get("isolation"),
        labels=properties.get("labels") or {},
        idempotency_key=properties.get("idempotency_key"),
        celery_retries=int(headers.get("retries") or 0),
        group_id=None if group_id is None else as_request_id(group_id),
        join_id=as_request_id(group_id) if group_id is not None and embed.get("chord") and not foreign_chord else None,
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
        waits_for=command.waits_for,
    )


def _canvas(
    headers: Mapping[str, Any], embed: Mapping[str, Any], properties: Mapping[str, Any], in_chord: Any
) -> dict[str, Any] | None:
    canvas: dict[str, Any] = {key: embed[key] for key in ("callbacks", "errbacks", "chain") if embed.get(key)}
    canvas |= {key: headers[key] for key in _CARRIED if headers.get(key)}
    if headers.get("group_index") is not None:
        # The first one has 0.
        canvas["group_index"] = headers["group_index"]
    if embed.get("chord"):
        canvas["chord"] = in_chord
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
    said = {key: properties[key] for key in _PROPERTIES if properties.get(key)}
    if said:
        canvas["properties"] = said
    return plain(canvas) if canvas else None


def _micros(moment: str | None) -> int | None:
    if not moment:
        return None
    parsed = datetime.fromisoformat(moment)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    # Integer arithmetic: a float of microseconds since 1970 loses the last digit.
    since = parsed - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
