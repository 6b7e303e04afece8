"""Whether a value from outside is what its type says (JSON brings truth values), and whether the extra is there."""

from __future__ import annotations

import importlib.util
import math
from typing import TypeGuard

from headway.pbpk import errors

#: Modules of the extra ``pbpk``.
_EXTRA = ("numpy", "libsbml", "roadrunner", "pint", "matplotlib")


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite number (a truth value is none)."""
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def is_integer(value: object, low: int, high: int) -> TypeGuard[int]:
    """Whether ``value`` is an integer from ``low`` to ``high``, both included (a truth value is none)."""
    return not isinstance(value, bool) and isinstance(value, int) and low <= value <= high


def require_extra() -> None:
    """Look for the packages of the extra ``pbpk`` without importing them.

    Raises:
        PbpkNotInstalled: some are missing; the message names them.
    """
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise errors.PbpkNotInstalled(
            f"PBPK needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed."
        )
