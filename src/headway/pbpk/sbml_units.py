"""SBML unit definitions as short text that pint reads: ``mg/L``, ``1/h``, ``L/h/kg``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from headway.pbpk.description import UNIT_UNKNOWN

if TYPE_CHECKING:
    from types import ModuleType

#: SBML base kinds by the names that pint and people use.
_KINDS = {
    "ampere": "A",
    "avogadro": "avogadro_constant",
    "becquerel": "Bq",
    "candela": "cd",
    "coulomb": "C",
    "dimensionless": "dimensionless",
    "farad": "F",
    "gram": "g",
    "gray": "Gy",
    "henry": "H",
    "hertz": "Hz",
    "item": "count",
    "joule": "J",
    "katal": "kat",
    "kelvin": "K",
    "kilogram": "g",
    "liter": "L",
    "litre": "L",
    "lumen": "lm",
    "lux": "lx",
    "meter": "m",
    "metre": "m",
    "mole": "mol",
    "newton": "N",
    "ohm": "ohm",
    "pascal": "Pa",
    "radian": "rad",
    "second": "s",
    "siemens": "S",
    "sievert": "Sv",
    "steradian": "sr",
    "tesla": "T",
    "volt": "V",
    "watt": "W",
    "weber": "Wb",
}

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", -2: "c", -1: "d", 0: "", 3: "k", 6: "M", 9: "G"}

_TIMES = {60.0: "min", 3600.0: "h", 86400.0: "day", 604800.0: "week"}


def unit_text(libsbml: ModuleType, definition: Any) -> str:
    """A libsbml ``UnitDefinition`` as text.

    Args:
        libsbml: the module.
        definition: the definition, or ``None``.

    Returns:
        Text that pint reads; ``dimensionless``; or ``unknown`` where there is no definition, or a factor
        that has no name.
    """
    if definition is None or definition.getNumUnits() == 0:
        return UNIT_UNKNOWN
    above: list[str] = []
    below: list[str] = []
    for index in range(definition.getNumUnits()):
        unit = definition.getUnit(index)
        name = _name(libsbml, unit)
        if name is None:
            return UNIT_UNKNOWN
        exponent = unit.getExponentAsDouble()
        if name == "dimensionless" or exponent == 0:
            continue
        power = abs(exponent)
        text = name if power == 1 else f"{name}**{power:g}"
        (above if exponent > 0 else below).append(text)
    if not above and not below:
        return "dimensionless"
    return "/".join(["*".join(above) or "1", *below])


def _name(libsbml: ModuleType, unit: Any) -> str | None:
    kind = libsbml.UnitKind_toString(unit.getKind())
    base = _KINDS.get(kind)
    factor = float(unit.getMultiplier()) * 10.0 ** unit.getScale()
    if base is None or not factor > 0:
        return None
    if kind == "kilogram":
        factor *= 1000.0
    if base == "dimensionless":
        if math.isclose(factor, 0.01, rel_tol=1e-9):
            return "percent"
        return base if math.isclose(factor, 1.0, rel_tol=1e-9) else None
    if base == "s":
        for seconds, name in _TIMES.items():
            if math.isclose(factor, seconds, rel_tol=1e-9):
                return name
    exponent = round(math.log10(factor))
    if exponent not in _PREFIXES or not math.isclose(factor, 10.0**exponent, rel_tol=1e-9):
        return None
    return _PREFIXES[exponent] + base
