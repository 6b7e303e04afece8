"""From a command to a row: everything that can be wrong with a job is found before anything is stored."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from headway.model.commands import SubmitJob
from headway.model.errors import InvalidRequest, NotSerializable, PayloadTooLarge, UnknownTask
from headway.model.job import Backoff
from headway.model.states import JobState
from headway.ports.catalog import TaskInfo
from headway.service.context import Context, Services

DEFAULT_QUEUE = "celery"
_TRACE_ID = re.compile(r"^[0-9a-f]{32}$")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
_MAX_LABELS = 32
# What comes after a job, as its canvas names it.
_FOLLOWS = ("callbacks", "errbacks", "chain")
LAST_MOMENT = 253_402_300_799_999_999
"""The end of the year 9999 in UTC microseconds: nothing can be said of a later moment."""
_TEN_YEARS = 315_360_000.0
# Made once: json.dumps with options makes an encoder for every call.
_plain_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_sorted_json = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def encode(services: Services, value: Any) -> str:
    """Compact JSON; what plain JSON does not know goes through Celery's codec."""
    if not value:
        # Most jobs have no args or no kwargs.
        return "[]" if value == [] else "{}" if value == {} else _plain_json(value)
    try:
        return _plain_json(value)
    except TypeError:
        return services.codec.dumps(value)
    except ValueError as error:
        raise NotSerializable(
            f"the arguments cannot be stored: {error}", hint="NaN and infinity are not JSON."
        ) from error


def job_row(ctx: Context, command: SubmitJob, now: int, *, checked: bool = True) -> dict[str, Any]:
    """The complete row of a new job.

    Args:
        ctx: of the caller.
        command: what is asked for.
        now: UTC microseconds.
        checked: False for a job that will never run, whose task and arguments nobody need know.

    Raises:
        UnknownTask, BadArguments, InvalidRequest, NotSerializable, PayloadTooLarge: nothing is stored.
    """
    services = ctx.services
    limits = services.limits
    info = _task(services, command) if checked else None
    args, kwargs = encode(services, command.args), encode(services, command.kwargs)
    if checked:
        _check_size(services, command.task, len(args) + len(kwargs))
        if services.catalog is not None and info is not None:
            services.catalog.check_arguments(command.task, command.args, command.kwargs)
        _check_fields(command)
    job_id = command.job_id or services.ids.new_id()
    scheduled = command.waits_for is not None or (command.run_at is not None and command.run_at > now)
    max_retries, timeout, backoff = command.max_retries, command.timeout_seconds, command.backoff
    if info is not None:
        max_retries = info.max_retries if max_retries is None else max_retries
        timeout = info.timeout_seconds if timeout is None else timeout
        backoff = backoff or info.backoff
    traceparent = command.traceparent or ctx.traceparent
    row: dict[str, Any] = _EMPTY_ROW | {
        "id": job_id,
        "task": command.task,
        "state": str(JobState.SCHEDULED if scheduled else JobState.QUEUED),
        "queue": command.queue or (info.queue if info else None) or DEFAULT_QUEUE,
        "priority": command.priority,
        "args": args,
        "kwargs": kwargs,
        "canvas": encode(services, command.canvas) if command.canvas else None,
        "fence": 0,
        "attempts": 0,
        "rescues": 0,
        "retries_used": 0,
        "celery_retries": command.celery_retries,
        "max_retries": limits.default_max_retries if max_retries is None else max_retries,
        "backoff": json.dumps(asdict(backoff)) if backoff else None,
        "timeout_seconds": (limits.default_timeout if timeout is None else timeout) or None,
        "isolation": command.isolation or (info.isolation if info else None) or limits.default_isolation,
        "submitted_at": now,
        "queued_at": None if scheduled else now,
        # No time makes ready what waits for others.
        "run_at": command.run_at if command.waits_for is None else None,
        "expires_at": command.expires_at,
        "retry_of": command.retry_of,
        "root_id": command.root_id or job_id,
        "parent_id": command.parent_id,
        "labels": json.dumps(dict(command.labels)) if command.labels else None,
        "origin": command.origin,
        "actor": ctx.actor.name,
        "traceparent": traceparent if traceparent and _TRACEPARENT.match(traceparent) else _new_trace(job_id),
        "group_id": command.group_id,
        "join_id": command.join_id,
        "waits_for": command.waits_for,
        "fingerprint": fingerprint(command, args, kwargs),
    }
    if command.idempotency_key is not None:
        # A key is the caller's own, for one task: two callers, or two tasks, never meet.
        row["idempotency_scope"] = f"{_caller(ctx)}\n{command.task}"
        row["idempotency_key"] = command.idempotency_key
    return row


_EMPTY = (
    "next_task",
    "next_args",
    "next_kwargs",
    "started_at",
    "finished_at",
    "heartbeat_at",
    "worker_id",
    "held_by",
    "cancel_requested_at",
    "progress_done",
    "progress_total",
    "progress_message",
    "custom_state",
    "custom_meta",
    "error",
    "result",
    "result_blob",
    "result_removed_at",
    "idempotency_scope",
    "idempotency_key",
    "schedule_id",
    "slot",
    "children",
)


_EMPTY_ROW: dict[str, Any] = dict.fromkeys(_EMPTY)


def _caller(ctx: Context) -> str:
    # What a task sends must be the same caller's after a restart, when its worker has another name.
    name = ctx.actor.name
    return "worker" if name.startswith("worker:") else name


def fingerprint(command: SubmitJob, args: str, kwargs: str) -> str:
    """SHA-256 over what the caller asked for, so that the same request is recognised and another one refused."""
    if len(command.kwargs) > 1:
        kwargs = _sorted_json(json.loads(kwargs))
    asked: tuple[Any, ...] = (
        command.queue,
        command.priority,
        command.run_at,
        command.expires_at,
        command.timeout_seconds,
        command.max_retries,
        command.backoff,
        command.isolation,
        sorted(command.labels.items()) if command.labels else None,
        command.retry_of,
    )
    if command.join_id is not None:
        # The same id in another chord is another request: that chord would wait for it without end.
        asked = (*asked, command.join_id)
    if command.waits_for is not None:
        asked = (*asked, "after", command.waits_for)
    follows = {name: command.canvas[name] for name in _FOLLOWS if command.canvas.get(name)} if command.canvas else None
    if follows:
        # What was to follow would be dropped in silence, too.
        asked = (*asked, _sorted_json(follows))
    return hashlib.sha256(f"{command.task}\n{args}\n{kwargs}\n{asked!r}".encode()).hexdigest()


def _task(services: Services, command: SubmitJob) -> TaskInfo | None:
    if services.catalog is None:
        return None
    info = services.catalog.lookup(command.task)
    if info is None:
        near = difflib.get_close_matches(command.task, services.catalog.names(), n=3, cutoff=0.5)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownTask(f"no task is named {command.task!r}.{meant}", near=near)
    return info


def _check_size(services: Services, task: str, size: int) -> None:
    allowed = services.limits.max_payload_bytes
    if size > allowed:
        raise PayloadTooLarge(f"the arguments of {task} take {size:,} bytes, and {allowed:,} are allowed for a job")


def _check_fields(command: SubmitJob) -> None:
    wrong = list(
        _wrong_options(
            command.task,
            command.queue,
            command.priority,
            command.timeout_seconds,
            command.max_retries,
            command.isolation,
            command.backoff,
        )
    )
    # Annotated, but a caller in Python may give anything.
    for kind, shape, given in (
        (list, "args to be a list", command.args),
        (Mapping, "kwargs to be an object", command.kwargs),
    ):
        if not isinstance(given, kind):
            wrong.append(f"expected {shape}, got: {type(given).__name__}")
    for name in ("job_id", "idempotency_key", "group_id", "join_id", "waits_for"):
        value = getattr(command, name)
        if value is not None and not _is_name(value):
            wrong.append(f"expected {name} to have 1 to 255 printable characters, got: {value!r}")
    for name in ("run_at", "expires_at"):
        moment = getattr(command, name)
        if moment is not None and not 0 <= moment <= LAST_MOMENT:
            wrong.append(f"expected {name} to lie between the years 1970 and 9999, got: {moment} microseconds")
    if command.labels:
        wrong += _wrong_labels(command.labels)
    if wrong:
        raise InvalidRequest("; ".join(wrong), hint="Correct these fields and submit again; nothing was stored.")


def _is_name(value: str) -> bool:
    return 0 < len(value) <= 255 and value.isprintable()


def _wrong_labels(labels: Mapping[str, str]) -> list[str]:
    wrong = []
    if len(labels) > _MAX_LABELS:
        wrong.append(f"expected at most {_MAX_LABELS} labels, got: {len(labels)}")
    for name, value in labels.items():
        if not (0 < len(name) <= 63 and len(value) <= 255 and name.isprintable() and value.isprintable()):
            wrong.append(f"expected printable labels of at most 63 and 255 characters, got: {name!r}: {value!r}")
    return wrong


@functools.lru_cache(maxsize=512)
def _wrong_options(
    task: str,
    queue: str | None,
    priority: int,
    timeout_seconds: float | None,
    max_retries: int | None,
    isolation: str | None,
    backoff: Backoff | None,
) -> tuple[str, ...]:
    """What is wrong with the options of a job; remembered, because the jobs of a batch share them."""
    wrong: list[str] = []

    def expect(good: bool, what: str, got: object) -> None:
        if not good:
            wrong.append(f"expected {what}, got: {got!r}")

    expect(_is_name(task), "task to have 1 to 255 printable characters", task[:300])
    expect(queue is None or _is_name(queue), "queue to have 1 to 255 printable characters", queue)
    expect(0 <= priority <= 9, "priority to be 0 to 9", priority)
    expect(
        timeout_seconds is None or 0 <= timeout_seconds <= _TEN_YEARS,
        "timeout_seconds to be 0 (none) to ten years",
        timeout_seconds,
    )
    expect(max_retries is None or 0 <= max_retries <= 10_000, "max_retries to be 0 to 10000", max_retries)
    expect(isolation in (None, "thread", "process"), "isolation to be thread or process", isolation)
    _check_backoff(backoff, expect)
    return tuple(wrong)


def _check_backoff(backoff: Backoff | None, expect: Any) -> None:
    if backoff is None:
        return
    expect(
        backoff.kind in ("none", "fixed", "exponential"), "backoff.kind to be none, fixed or exponential", backoff.kind
    )
    for name in ("base_seconds", "cap_seconds"):
        value = getattr(backoff, name)
        expect(0 <= value <= _TEN_YEARS, f"backoff.{name} to be 0 to ten years", value)
    expect(0 <= backoff.jitter <= 1, "backoff.jitter to be 0 to 1", backoff.jitter)


def _new_trace(job_id: str) -> str | None:
    # The job's own id is a fine trace id, and makes the two easy to match; a caller's odd id is hashed.
    digits = job_id.replace("-", "")
    if not _TRACE_ID.match(digits):
        digits = hashlib.sha256(job_id.encode()).hexdigest()[:32]
    return f"00-{digits}-{digits[-16:]}-01"
