"""Times between the inside (UTC microseconds), Python's datetimes and the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from headway.model.errors import InvalidRequest
from headway.model.times import from_rfc3339, to_rfc3339

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


def as_datetime(micros: int) -> datetime:
    """UTC microseconds since the epoch as an aware datetime."""
    return _EPOCH + timedelta(microseconds=micros)


def as_micros(moment: datetime) -> int:
    """An aware datetime as UTC microseconds; raises ``InvalidRequest`` for one without a zone."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidRequest(
            f"The time {moment.isoformat()} names no zone, so nobody can know which moment it is.",
            hint="Give it one, for example datetime.now(UTC) or 2030-01-31T12:00:00Z.",
        )
    return (moment - _EPOCH) // _MICRO


def to_wire(micros: int | None) -> str | None:
    """UTC microseconds as RFC 3339 text; None stays None."""
    return None if micros is None else to_rfc3339(micros)


def from_wire(text: str | None) -> int | None:
    """RFC 3339 text as UTC microseconds; None stays None."""
    return None if text is None else from_rfc3339(text)
