"""One simulation: a run of a loaded model with its PK parameters and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headway.pbpk import errors, pk, units
from headway.pbpk.description import UNIT_UNKNOWN, ModelDescription

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headway.pbpk.engine import LoadedModel


@dataclass(frozen=True)
class PkUnits:
    """Units of PK parameters for one output.

    Attributes:
        concentration: of Cmax.
        time: of tmax, half-life and the window.
        auc: of both AUCs.
        rate: of lambda_z.
        clearance: of CL/F, or ``None`` where dose and concentration do not give one.
        volume: of Vz/F, likewise.
        dose_factor: what the dose is multiplied by to come out in those units.
    """

    concentration: str
    time: str
    auc: str
    rate: str
    clearance: str | None
    volume: str | None
    dose_factor: float

    def of(self, name: str) -> str:
        """The unit of one of ``pk.NAMES``."""
        by_name = {
            "cmax": self.concentration,
            "auc_0_t": self.auc,
            "auc_0_inf": self.auc,
            "lambda_z": self.rate,
            "extrapolated_percent": "percent",
            "clearance": self.clearance or UNIT_UNKNOWN,
            "volume": self.volume or UNIT_UNKNOWN,
            "window_points": "dimensionless",
            "r2": "dimensionless",
            "adjusted_r2": "dimensionless",
        }
        return by_name.get(name, self.time)


def pk_units(concentration: str, time: str, dose: str | None, molar_mass: float | None = None) -> PkUnits:
    """Units of the PK parameters of a concentration.

    Args:
        concentration: unit of the output.
        time: the model's time unit.
        dose: unit of the dose, or ``None`` without one.
        molar_mass: g/mol, to relate a dose in grams to a molar concentration, or ``None``.

    Returns:
        The units; no clearance and no volume where the dose does not fit the concentration.
    """
    known = UNIT_UNKNOWN not in {concentration, time}
    numerator, _, denominator = concentration.partition("/")
    auc = f"{numerator}*{time}" + (f"/{denominator}" if denominator else "") if known else UNIT_UNKNOWN
    rate = f"1/{time}" if time != UNIT_UNKNOWN else UNIT_UNKNOWN
    factor = _dose_factor(concentration, dose, molar_mass) if known and dose else None
    return PkUnits(
        concentration=concentration,
        time=time,
        auc=auc,
        rate=rate,
        clearance=f"L/{time}" if factor is not None else None,
        volume="L" if factor is not None else None,
        dose_factor=factor if factor is not None else float("nan"),
    )


def _dose_factor(concentration: str, dose: str, molar_mass: float | None) -> float | None:
    """Litres for one unit of dose over one unit of concentration."""
    if dose == UNIT_UNKNOWN:
        return None
    ratio = units.product((dose, 1), (concentration, -1))
    try:
        return units.convert(1.0, ratio, "L")
    except errors.UnitMismatch:
        if molar_mass is None:
            return None
    for unit, grams in ((f"{ratio}*mol/g", 1.0 / molar_mass), (f"{ratio}*g/mol", molar_mass)):
        try:
            return units.convert(1.0, unit, "L") * grams
        except errors.UnitMismatch:
            continue
    return None


def declared_dose(description: ModelDescription, parameters: Mapping[str, float]) -> tuple[str, float] | None:
    """The dose of a run, if exactly one of the model's dose parameters is above zero.

    Args:
        description: of the model.
        parameters: values that differ from the model's own.

    Returns:
        The parameter's path and its value in its own unit, or ``None`` without a dose, or with several
        (whose AUC does not belong to one route).
    """
    given = []
    for dose in description.doses:
        value = parameters.get(dose.parameter, description.parameter(dose.parameter).value or 0.0)
        if value > 0:
            given.append((dose.parameter, value))
    return given[0] if len(given) == 1 else None


def default_outputs(description: ModelDescription, outputs: Sequence[str]) -> tuple[str, ...]:
    """``outputs``, checked, without repetitions; the model's default output when there are none.

    Raises:
        UnknownOutput: one does not exist, or none was named and the model names no default.
    """
    chosen = tuple(dict.fromkeys(outputs)) or ((description.default_output,) if description.default_output else ())
    if not chosen:
        concentrations = [item.path for item in description.outputs if item.kind == "concentration"][:5]
        raise errors.UnknownOutput(
            "No output was named, and the model names none to show first.",
            hint=f"Name one of its outputs, for example {', '.join(concentrations) or 'from its description'}.",
        )
    return tuple(description.output(path).path for path in chosen)


@dataclass(frozen=True)
class SimulationResult:
    """Profiles of one run.

    Attributes:
        description: of the model.
        times: shape (T,), in the model's time unit.
        outputs: paths.
        series: shape (len(outputs), T).
        pk: PK parameters per output that is a concentration.
        units: their units, per output.
    """

    description: ModelDescription
    times: NDArray[np.float64]
    outputs: tuple[str, ...]
    series: NDArray[np.float64]
    pk: dict[str, pk.PkProfile]
    units: dict[str, PkUnits]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: times, and per output its unit, values and PK parameters with units."""
        rows = []
        for index, path in enumerate(self.outputs):
            output = self.description.output(path)
            row: dict[str, Any] = {**output.to_dict(), "values": self.series[index].tolist()}
            if path in self.pk:
                row["pk"] = pk_dict(self.pk[path], self.units[path])
            rows.append(row)
        return {
            "model": self.description.name,
            "model_hash": self.description.hash,
            "time_unit": self.description.time_unit,
            "times": self.times.tolist(),
            "outputs": rows,
        }


def pk_dict(profile: pk.PkProfile, unit: PkUnits) -> dict[str, Any]:
    """A profile's PK parameters as JSON values, with ``units`` by name."""
    return {**profile.to_dict(), "units": {name: unit.of(name) for name in pk.NAMES}}


def run_simulation(
    model: LoadedModel,
    parameters: Mapping[str, float],
    times: Sequence[float],
    outputs: Sequence[str] = (),
    *,
    auc_method: pk.AucMethod = "linear",
) -> SimulationResult:
    """Run a model once and evaluate its concentrations.

    Args:
        model: loaded.
        parameters: values that differ from the model's own, in the parameters' own units.
        times: increasing, from 0, in the model's time unit.
        outputs: paths; the model's default output when empty.
        auc_method: ``linear`` or ``linear-up-log-down``.

    Raises:
        As ``LoadedModel.simulate``; PkNotEvaluable for an unknown method.
    """
    import numpy as np

    description = model.description
    chosen = default_outputs(description, outputs)
    series = model.simulate(parameters, times, chosen)
    dose = declared_dose(description, parameters)
    dose_unit = description.parameter(dose[0]).unit if dose else None
    profiles, profile_units = {}, {}
    for index, path in enumerate(chosen):
        output = description.output(path)
        if output.kind != "concentration":
            continue
        unit = pk_units(output.unit, description.time_unit, dose_unit, description.molar_mass)
        amount = dose[1] * unit.dose_factor if dose else None
        profiles[path] = pk.pk_parameters(times, series[index], dose=amount, method=auc_method).profile()
        profile_units[path] = unit
    return SimulationResult(description, np.asarray(times, dtype=np.float64), chosen, series, profiles, profile_units)
