"""Units at the edge: pint reads and converts them, plain floats go inside."""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any

from headway.pbpk import errors
from headway.pbpk.description import UNIT_UNKNOWN

if TYPE_CHECKING:
    import pint


#: Longest unit that is read. pint multiplies out what it reads, so towers of powers are kept from it.
_MAX_LENGTH = 64
_TOWER = re.compile(r"(\^|\*\*)[^a-zA-Zµμ%]*(\^|\*\*)|(\^|\*\*)[\s(+-]*\d{3}|\d{13}")


@functools.cache
def registry() -> pint.UnitRegistry[Any]:
    """The unit registry of pint, made once (it takes a moment)."""
    try:
        import pint
    except ImportError as error:
        raise errors.PbpkNotInstalled("Units need the package pint, which is not installed.") from error
    return pint.UnitRegistry()


def convert(value: float, unit: str, target: str) -> float:
    """``value`` in ``unit``, expressed in ``target``.

    Args:
        value: a number.
        unit: of the value, as pint reads it (``mg``, ``ng/ml``, ``1/h``).
        target: the unit to express it in.

    Returns:
        The converted number; unchanged where the two units are written alike.

    Raises:
        UnitMismatch: a unit is unknown, or they measure different things.
    """
    if unit == target:
        return value
    if UNIT_UNKNOWN in {unit, target}:
        raise errors.UnitMismatch(
            f"Cannot convert from {unit!r} to {target!r}: the model does not say which unit it means.",
            hint="Leave the unit out to give the value as the model takes it.",
            unit=unit,
            expected=target,
        )
    if len(unit) > _MAX_LENGTH or _TOWER.search(unit):
        raise errors.UnitMismatch(f"Unit {unit[:_MAX_LENGTH]!r} is not read.", unit=unit[:_MAX_LENGTH], expected=target)
    units = registry()
    import pint

    try:
        converted = float(units.Quantity(float(value), unit).to(target).magnitude)
    except pint.UndefinedUnitError as error:
        raise errors.UnitMismatch(
            f"Unit {unit!r} is not known.", hint=f"Give a unit that converts to {target!r}.", unit=unit, expected=target
        ) from error
    except Exception as error:  # pint's reader also raises assertions and token errors
        raise errors.UnitMismatch(
            f"Unit {unit!r} does not convert to {target!r}.",
            hint=f"Give a unit that converts to {target!r}.",
            unit=unit,
            expected=target,
        ) from error
    if not math.isfinite(converted) and math.isfinite(value):
        raise errors.UnitMismatch(f"{value!r} {unit} is out of range in {target!r}.", unit=unit, expected=target)
    return converted


def product(*factors: tuple[str, int]) -> str:
    """The unit of a product of powers, for example ``mg/L`` and ``h`` to ``h * mg/L``.

    Args:
        factors: pairs of a unit and its exponent.

    Returns:
        A unit that pint reads, in short form (``L/h``); ``unknown`` if one of them is unknown.
    """
    if any(unit == UNIT_UNKNOWN for unit, _ in factors):
        return UNIT_UNKNOWN
    units = registry()
    result = units.Unit("dimensionless")
    for unit, exponent in factors:
        result = result * units.Unit(unit) ** exponent
    # pint writes the litre small; labels and models here write it large.
    return re.sub(r"\bl\b", "L", f"{result:~C}") or "dimensionless"


def same_dimension(unit: str, other: str) -> bool:
    """Whether both units are known and measure the same thing."""
    if UNIT_UNKNOWN in {unit, other}:
        return False
    units = registry()
    return bool(units.Unit(unit).dimensionality == units.Unit(other).dimensionality)
