"""Times at the faces: RFC 3339 in UTC with ``Z``; inside they are integer microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_IN_UTC = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)
FIRST_MOMENT: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_MOMENT: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_EXPECTED = "expected an RFC 3339 time with a zone, for example 2026-03-01T12:00:00Z"


def to_rfc3339(at: int) -> str:
    """The time as text, for example ``2026-03-01T12:00:00.000000Z``.

    Args:
        at: UTC microseconds since the epoch; outside the years 1 to 9999, which RFC 3339 cannot say, the nearest
            that it can: one row with such a time must not take the list it is in with it.
    """
    within = min(max(at, FIRST_MOMENT), LAST_MOMENT)
    # Integer arithmetic: a float of seconds would lose microseconds.
    moment = _EPOCH_IN_UTC + timedelta(microseconds=within)
    return f"{moment.isoformat(timespec='microseconds')}Z"


def from_rfc3339(text: str) -> int:
    """UTC microseconds of an RFC 3339 time.

    Raises:
        ValueError: not such a time, or one without a zone; the text says what was expected.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{_EXPECTED}, got {text[:80]!r}") from error
    if moment.tzinfo is None:
        raise ValueError(f"{_EXPECTED}, got {text[:80]!r}, which names no zone")
    return (moment - _EPOCH) // _MICROSECOND
