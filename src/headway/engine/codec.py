"""Arguments and results as JSON text, by the encoding that Celery users already rely on."""

from __future__ import annotations

import json
import math
from typing import Any

from kombu.utils.json import JSONEncoder, object_hook

from headway.model.errors import NotSerializable

_MARKER = '"__type__"'
_EMPTY: dict[str, type[Any]] = {"[]": list, "{}": dict}
_ATOMS = (str, int, float, bool, type(None))
# NaN and infinity are not JSON: a browser could not read what was stored.
_encode = JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_encode_atom = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class KombuCodec:
    """The ``Codec`` port by kombu's JSON: dates, UUIDs, Decimals and bytes survive."""

    def dumps(self, value: Any) -> str:
        """Compact JSON text.

        Raises:
            NotSerializable: a value inside cannot be written as JSON; the message names its type.
        """
        return dumps(value)

    def loads(self, text: str) -> Any:
        """The value that ``dumps`` was given (tuples come back as lists)."""
        return loads(text)


def dumps(value: Any) -> str:
    """The value as compact JSON text; raises ``NotSerializable``."""
    try:
        return _encode_atom(value) if type(value) in _ATOMS else _encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise NotSerializable(
            f"A value of type {type(value).__qualname__} cannot be stored as JSON: {error}."
        ) from None


def loads(text: str) -> Any:
    """The value of a JSON text. The hook is only paid for where a marked value may be inside."""
    if len(text) == 2 and text in _EMPTY:
        # What most jobs have for args or kwargs; made anew, because a task may change it.
        return _EMPTY[text]()
    if _MARKER in text:
        return json.loads(text, object_hook=object_hook)
    return json.loads(text)


def plain(value: Any) -> Any:
    """The value made of JSON types only, marked ones (dates and so on) as the dictionaries that ``dumps`` writes.

    A store that knows nothing of kombu can write it, and ``loads`` gives the original values back.

    Raises:
        NotSerializable: a value inside cannot be written as JSON.
    """
    return value if _is_plain(value, 0) else json.loads(dumps(value))


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return kind is not float or math.isfinite(value)
    if depth > 20:
        return False
    if kind is list:
        return all(_is_plain(item, depth + 1) for item in value)
    if kind is dict:
        return all(type(key) is str and _is_plain(item, depth + 1) for key, item in value.items())
    return False
