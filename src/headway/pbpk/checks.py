"""Whether a value from outside is what its type says: JSON brings truth values, texts and infinities."""

from __future__ import annotations

import math
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite number (a truth value is none)."""
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def is_integer(value: object, low: int, high: int) -> TypeGuard[int]:
    """Whether ``value`` is an integer from ``low`` to ``high``, both included (a truth value is none)."""
    return not isinstance(value, bool) and isinstance(value, int) and low <= value <= high
