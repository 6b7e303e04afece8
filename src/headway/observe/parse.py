"""What arrives, as evidence: Celery's events, the answers of workers, the entries of a result backend.

Nothing in it is believed: whoever can reach the broker can publish anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from headway.model.evidence import Evidence
from headway.model.observed import ObservedWorker
from headway.model.redact import mask_secrets, storable
from headway.model.sayings import EVENTS, RESULTS, Said
from headway.model.times import from_rfc3339

MAX_ID: Final = 255
_MAX_NAME: Final = 255
_MAX_TRACEBACK: Final = 20_000
_MAX_YEAR: Final = 4_102_444_800.0
_MAX_INT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Privacy:
    """How much is kept of what tasks were given and gave back.

    Attributes:
        arguments: whether arguments and results are kept at all; what looks like a secret is masked in any case.
        max_chars: they are cut after so many characters.
    """

    arguments: bool = True
    max_chars: int = 1024


class Malformed(ValueError):
    """What arrived is not what it should be."""


def moment(value: object) -> int:
    """UTC microseconds of a time in seconds since the epoch. Raises ``Malformed``."""
    seconds = _number(value)
    if seconds is None or not 0 <= seconds < _MAX_YEAR:
        raise Malformed("no time")
    return int(seconds * 1_000_000)


def identity(value: object) -> str:
    """A task's id. Raises ``Malformed``."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        raise Malformed("no id")
    if storable(value) is not value:
        raise Malformed("an id that cannot be stored")
    return value


class Parser:
    """Events to evidence.

    Args:
        privacy: what is kept of arguments and results.
        known_name: the name of the node's host is not needed here; see ``label`` of ``/metrics``.
    """

    def __init__(self, privacy: Privacy) -> None:
        self._privacy = privacy

    def event(self, event: object, seen_at: int) -> Evidence | ObservedWorker | None:
        """What one event says; None for an event that says nothing of tasks or workers.

        Raises:
            Malformed: it is none, or lacks what its kind must have.
        """
        if not isinstance(event, dict):
            raise Malformed("no object")
        kind = event.get("type")
        if not isinstance(kind, str):
            raise Malformed("no type")
        said = EVENTS.get(kind)
        if said is not None:
            return self._task(said, event)
        if kind.startswith("worker-"):
            return _worker_event(kind, event, seen_at)
        return None

    def _task(self, said: Said, event: Mapping[str, Any]) -> Evidence:
        facts: dict[str, Any] = {}
        if said is Said.REJECTED and event.get("requeue"):
            said = Said.REQUEUED
        if said is Said.SENT or said is Said.RECEIVED:
            self._described(event, facts)
        elif said is Said.SUCCEEDED:
            runtime = _number(event.get("runtime"))
            if runtime is not None and runtime >= 0:
                facts["runtime"] = runtime
            self._keep(facts, "result", event.get("result"))
        elif said is Said.FAILED or said is Said.RETRIED:
            facts["error"] = _text(event.get("exception"), 2_000) or "an error without a text"
            facts["traceback"] = _text(event.get("traceback"), _MAX_TRACEBACK)
        elif said is Said.REVOKED:
            facts["error"] = _why_revoked(event)
        worker = _word(event.get("hostname"))
        return Evidence(identity(event.get("uuid")), said, moment(event.get("timestamp")), worker or "", facts)

    def _described(self, event: Mapping[str, Any], facts: dict[str, Any]) -> None:
        facts["name"] = _word(event.get("name"))
        for key in ("args", "kwargs"):
            self._keep(facts, key, event.get(key))
        for key in ("root_id", "parent_id", "queue"):
            value = event.get(key)
            if isinstance(value, str) and 0 < len(value) <= MAX_ID:
                facts[key] = storable(value)
        if facts.get("parent_id") == event.get("uuid"):
            # Celery sends the retry of a task that nobody called with its own id for a parent.
            facts.pop("parent_id", None)
        retries = event.get("retries")
        if isinstance(retries, int) and not isinstance(retries, bool) and 0 <= retries <= _MAX_INT:
            facts["retries"] = retries
        for key in ("eta", "expires"):
            at = _iso(event.get(key))
            if at is not None:
                facts[key] = at

    def _keep(self, facts: dict[str, Any], key: str, value: object) -> None:
        if value is None or not self._privacy.arguments:
            return
        text = value if isinstance(value, str) else _repr(value)
        limit = self._privacy.max_chars
        # Masked before it is cut: half a secret would no longer look like one.
        text = mask_secrets(storable(text[: 4 * limit]))
        facts[key] = text if len(text) <= limit else text[: limit - 1] + "…"

    def request(self, said: Said, request: object, worker: str) -> Evidence:
        """What a worker says of a task that it holds. Raises ``Malformed``."""
        if not isinstance(request, dict):
            raise Malformed("no object")
        inner = request.get("request")
        body = inner if isinstance(inner, dict) else request
        facts: dict[str, Any] = {}
        self._described({**body, "name": body.get("name") or body.get("type")}, facts)
        delivery = body.get("delivery_info")
        if isinstance(delivery, dict) and isinstance(delivery.get("routing_key"), str):
            facts["queue"] = storable(delivery["routing_key"])[:MAX_ID]
        if "eta" in request and facts.get("eta") is None:
            at = _iso(request.get("eta"))
            if at is not None:
                facts["eta"] = at
        started = body.get("time_start")
        at = moment(started) if said is Said.SEEN_RUNNING and started else 0
        return Evidence(identity(body.get("id")), said, at, worker, facts)

    def result(self, meta: object) -> Evidence:
        """What a result backend holds of a task. Raises ``Malformed``."""
        if not isinstance(meta, dict):
            raise Malformed("no object")
        status = meta.get("status")
        if not isinstance(status, str):
            raise Malformed("no status")
        said = RESULTS.get(status, Said.RESULT_STARTED)
        facts: dict[str, Any] = {}
        self._described({**meta, "root_id": None}, facts)
        facts.pop("eta", None)
        parent = meta.get("parent_id")
        if isinstance(parent, str) and parent:
            facts["parent_id"] = storable(parent[:MAX_ID])
        if said is Said.RESULT_SUCCESS:
            self._keep(facts, "result", meta.get("result"))
        elif said in (Said.RESULT_FAILURE, Said.RESULT_RETRY, Said.RESULT_REVOKED):
            facts["error"] = _error_of(meta.get("result")) or said.value
            facts["traceback"] = _text(meta.get("traceback"), _MAX_TRACEBACK)
        done = _iso(meta.get("date_done"))
        worker = _text(meta.get("worker"), 255) or ""
        return Evidence(identity(meta.get("task_id")), said, done or 0, worker, facts)


@lru_cache(4096)
def _cleaned(word: str) -> str:
    return storable(word)[:_MAX_NAME]


def _word(value: object) -> str | None:
    """A name that comes again and again: of a task or of a worker."""
    if not isinstance(value, str) or not value:
        return None
    return _cleaned(value) if len(value) <= 4 * _MAX_NAME else _cleaned(value[:_MAX_NAME])


def _number(value: object) -> float | None:
    """A finite number; JSON knows some that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - nested too deeply, an integer too long, an object of a stranger's
        return "(cannot be shown)"


def _text(value: object, limit: int) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    clean = mask_secrets(storable(value[: 2 * limit]))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _why_revoked(event: Mapping[str, Any]) -> str | None:
    if event.get("expired"):
        return "expired before it was begun"
    signum = event.get("signum")
    if event.get("terminated") and isinstance(signum, int | str):
        return f"terminated while it ran (signal {_text(str(signum)[:20], 20)})"
    if event.get("terminated"):
        return "terminated while it ran"
    return None


def _iso(value: object) -> int | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        # A time without a zone is UTC in Celery's messages.
        parsed = datetime.fromisoformat(value)
        return from_rfc3339((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat())
    except (ValueError, OverflowError):
        return None


def _error_of(result: object) -> str | None:
    """An exception in a result: ``{"exc_type": …, "exc_message": …}`` as JSON, or an exception of Python's."""
    if isinstance(result, BaseException):
        return _text(_repr(result), 2_000)
    if isinstance(result, dict) and "exc_type" in result:
        said = result.get("exc_message")
        parts = said if isinstance(said, list | tuple) else [said]
        kind = result["exc_type"]
        kind = kind if isinstance(kind, str) else _repr(kind)
        return _text(f"{kind}({', '.join(_repr(part) for part in parts)})", 2_000)
    if result is None:
        return None
    return _text(result if isinstance(result, str) else _repr(result), 2_000)


def _worker_event(kind: str, event: Mapping[str, Any], seen_at: int) -> ObservedWorker | None:
    hostname = event.get("hostname")
    if not isinstance(hostname, str) or not 0 < len(hostname) <= MAX_ID:
        raise Malformed("no hostname")
    at = moment(event.get("timestamp"))
    facts: dict[str, Any] = {}
    for key, name in (("active", "active"), ("processed", "processed"), ("pid", "pid")):
        value = event.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            facts[name] = value
    freq = _number(event.get("freq"))
    if freq is not None and 0 < freq < 86_400:
        facts["freq"] = freq
    for key, name in (("sw_ident", "ident"), ("sw_ver", "version"), ("sw_sys", "system")):
        text = _text(event.get(key), 100)
        if text:
            facts[name] = text
    load = event.get("loadavg")
    if isinstance(load, list) and len(load) <= 3 and all(_number(one) is not None for one in load):
        facts["loadavg"] = load
    # Between the worker's clock and ours lies the way of the message too, some milliseconds.
    facts["clock_skew_seconds"] = round((at - seen_at) / 1_000_000, 3)
    offline = seen_at if kind == "worker-offline" else None
    return ObservedWorker(storable(hostname), seen_at, seen_at, at, offline, facts)


def events_of(body: object) -> Iterator[object]:
    """The events of one message: Celery's workers send them one by one or several at once."""
    if isinstance(body, list):
        yield from body
    else:
        yield body
