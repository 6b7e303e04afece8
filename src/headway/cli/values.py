"""Words of the command line as values: arguments of tasks, labels, moments."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from headway.model.errors import ErrorKind, HeadwayError
from headway.model.times import from_rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_STEP: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SPAN: Final = re.compile(rf"(?:{_STEP.pattern})+")


class UsageError(HeadwayError):
    """A word of the command line is not what was expected."""

    code: ClassVar[str] = "usage"
    kind: ClassVar[ErrorKind] = ErrorKind.INVALID


def _no_constant(word: str) -> NoReturn:
    raise ValueError(word)


def value_of(text: str) -> Any:
    """The JSON value if the text is JSON (RFC 8259, so not ``NaN``), else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def values_of(texts: Sequence[str]) -> list[Any]:
    """The values of ``--arg``, in order."""
    return [value_of(text) for text in texts]


def pair_of(text: str, option: str) -> tuple[str, str]:
    """``K=V`` as (K, V); V may hold further ``=``."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option}: expected NAME=VALUE, got {text!r}.", hint=f"For example {option} size=100.")
    return name, value


def named_values_of(texts: Sequence[str]) -> dict[str, Any]:
    """The values of ``--kwarg`` by name; a name given twice is refused."""
    found: dict[str, Any] = {}
    for text in texts:
        name, value = pair_of(text, "--kwarg")
        if name in found:
            raise UsageError(f"--kwarg {name} was given twice.", hint="Give each name once; a list is written [1,2].")
        found[name] = value_of(value)
    return found


def moment_of(text: str, now: int, option: str = "--at") -> int:
    """A moment as UTC microseconds: RFC 3339 with a zone, or ``+10m`` from now (s, m, h, d, w, also ``+1h30m``).

    Args:
        text: what was written.
        now: UTC microseconds.
        option: whose value it is, for the message.

    Raises:
        UsageError: neither; a time without a zone is refused, it would mean another moment on another machine.
    """
    if text.startswith("+") and _SPAN.fullmatch(text[1:]):
        return now + _span_of(text[1:], option)
    return _written(text, option, f"a time from now ({option} +10m)")


def past_of(text: str, now: int, option: str) -> int:
    """A moment as UTC microseconds: RFC 3339 with a zone, or how long ago (``10m``; s, m, h, d, w, also ``1h30m``).

    Args and errors are those of ``moment_of``.
    """
    if _SPAN.fullmatch(text):
        return now - _span_of(text, option)
    return _written(text, option, f"how long ago ({option} 10m)")


def _span_of(text: str, option: str) -> int:
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(text))
    if seconds > 100 * 365 * 86_400:
        raise UsageError(f"{option}: {text} is more than a century away.", hint="Choose a moment nearer by.")
    return round(seconds * 1_000_000)


def _written(text: str, option: str, otherwise: str) -> int:
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option}: {error}.", hint=f"Write the zone ({option} 2030-01-31T12:00:00Z, or …+02:00), or {otherwise}."
        ) from None
