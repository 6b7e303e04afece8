"""Populations: who is in them, and how a part of one is simulated.

A population is a pure function of its ``PopulationSpec``: individual i has the same parameters and the same
bits in its results whatever the chunks, workers or order. Chunks are run in child processes
(``run_chunk``), written to disk (``chunks.py``), and put together in a child (``combine.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from headway.pbpk import errors, pk, units
from headway.pbpk.checks import is_integer
from headway.pbpk.description import ModelDescription
from headway.pbpk.sampling import MAX_SEED, Covariate, draw
from headway.pbpk.simulation import declared_dose, default_outputs, pk_units
from headway.pbpk.times import checked_times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headway.pbpk.engine import LoadedModel

#: Most individuals of one population.
MAX_SIZE = 10_000_000

#: Individuals per chunk: a fifth of a second of work, so progress moves and a cancel is quick.
CHUNK_SIZE = 100


@dataclass(frozen=True)
class PopulationSpec:
    """A population, complete: a job carries this and the model's text.

    Attributes:
        model_hash: of the model's text.
        size: number of individuals, 1 to ``MAX_SIZE``.
        seed: 0 to 2**64 - 1.
        times: increasing, from 0, in the model's time unit.
        outputs: paths of outputs.
        covariates: parameters that differ between individuals, in the parameters' own units.
        parameters: values that differ from the model's own, the same for all.
        auc_method: ``linear`` or ``linear-up-log-down``.
    """

    model_hash: str
    size: int
    seed: int
    times: tuple[float, ...]
    outputs: tuple[str, ...]
    covariates: tuple[Covariate, ...]
    parameters: tuple[tuple[str, float], ...] = field(default=())
    auc_method: pk.AucMethod = "linear"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; ``from_dict`` reads them back."""
        return {
            "model_hash": self.model_hash,
            "size": self.size,
            "seed": self.seed,
            "times": list(self.times),
            "outputs": list(self.outputs),
            "covariates": [item.to_dict() for item in self.covariates],
            "parameters": dict(self.parameters),
            "auc_method": self.auc_method,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PopulationSpec:
        """From what ``to_dict`` wrote.

        Raises:
            InvalidSimulation: a field is missing or of the wrong kind.
        """
        try:
            return cls(
                model_hash=str(values["model_hash"]),
                size=int(values["size"]),
                seed=int(values["seed"]),
                times=tuple(float(time) for time in values["times"]),
                outputs=tuple(str(path) for path in values["outputs"]),
                covariates=tuple(Covariate.from_dict(item) for item in values["covariates"]),
                parameters=tuple((str(path), float(value)) for path, value in values["parameters"].items()),
                auc_method=values.get("auc_method", "linear"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise errors.InvalidSimulation(f"This is no stored population: {error!r}.") from error

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides the result; chunks of another fingerprint are not used."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def check_cohort(size: int, seed: int) -> None:
    """Refuse a size or a seed that no population can have.

    Raises:
        InvalidSimulation: size is not 1 to ``MAX_SIZE``, or seed not 0 to 2**64 - 1.
    """
    if not is_integer(size, 1, MAX_SIZE):
        raise errors.InvalidSimulation(f"A population has 1 to {MAX_SIZE} individuals, got {size!r}.")
    if not is_integer(seed, 0, MAX_SEED):
        raise errors.InvalidSimulation(f"The seed must be an integer from 0 to 2**64 - 1, got {seed!r}.")


def population_spec(
    description: ModelDescription,
    *,
    size: int,
    seed: int,
    times: Sequence[float],
    outputs: Sequence[str] = (),
    covariates: Sequence[Covariate] | None = None,
    parameters: Mapping[str, float] | None = None,
    auc_method: pk.AucMethod = "linear",
) -> PopulationSpec:
    """A checked population of a model.

    Args:
        description: of the model.
        size: number of individuals.
        seed: decides the draws.
        times: increasing, from 0, in the model's time unit.
        outputs: paths; the model's default output when empty.
        covariates: what differs between individuals; ``None`` takes the model's own variability.
        parameters: values that differ from the model's own, the same for all.
        auc_method: ``linear`` or ``linear-up-log-down``.

    Raises:
        InvalidSimulation: size, seed, times or a covariate is impossible.
        UnknownParameter, ParameterSetByRule, InvalidParameterValue, UnitMismatch: a parameter or covariate.
        UnknownOutput: an output.
    """
    check_cohort(size, seed)
    if auc_method not in {"linear", "linear-up-log-down"}:
        raise errors.InvalidSimulation(f"The AUC method is 'linear' or 'linear-up-log-down', got {auc_method!r}.")
    fixed = {path: description.checked(path, value) for path, value in (parameters or {}).items()}
    chosen = description.variability if covariates is None else tuple(covariates)
    paths = [item.path for item in chosen]
    repeated = sorted({path for path in paths if paths.count(path) > 1})
    if repeated:
        raise errors.InvalidSimulation(f"Covariate {repeated[0]!r} is given more than once.", covariate=repeated[0])
    return PopulationSpec(
        model_hash=description.hash,
        size=size,
        seed=seed,
        times=tuple(checked_times(times)),
        outputs=default_outputs(description, outputs),
        covariates=tuple(_resolved(description, item, fixed) for item in chosen),
        parameters=tuple(fixed.items()),
        auc_method=auc_method,
    )


def _resolved(description: ModelDescription, covariate: Covariate, fixed: Mapping[str, float]) -> Covariate:
    """The covariate in its parameter's own unit with a mean, tried out at its edges and its middle."""
    parameter = description.parameter(covariate.path)
    if not parameter.settable:
        description.checked(covariate.path, 0.0)  # raises, with the rule in its message
    unit = covariate.unit
    if unit is not None and unit != parameter.unit:

        def converted(value: float | None) -> float | None:
            return None if value is None else units.convert(value, unit, parameter.unit)

        covariate = replace(
            covariate,
            mean=converted(covariate.mean),
            sd=converted(covariate.sd),
            minimum=converted(covariate.minimum),
            maximum=converted(covariate.maximum),
        )
    mean = covariate.mean if covariate.mean is not None else fixed.get(covariate.path, parameter.value)
    if mean is None:
        raise errors.InvalidSimulation(
            f"Covariate {covariate.path!r} needs a mean: the model gives the parameter no value.",
            covariate=covariate.path,
        )
    resolved = replace(covariate, mean=mean, unit=parameter.unit)
    for uniform in (1e-7, 0.5, 1.0 - 1e-7):
        description.checked(covariate.path, resolved.quantile(uniform, mean))
    return resolved


def plan_chunks(size: int, chunk_size: int = CHUNK_SIZE) -> list[tuple[int, int]]:
    """Ranges (start, stop) that cover 0 to ``size``, each of at most ``chunk_size`` individuals.

    Raises:
        InvalidSimulation: an argument is below 1.
    """
    if size < 1 or chunk_size < 1:
        raise errors.InvalidSimulation(f"Size and chunk size must be at least 1, got {size} and {chunk_size}.")
    return [(start, min(start + chunk_size, size)) for start in range(0, size, chunk_size)]


@dataclass(frozen=True)
class ChunkResult:
    """Individuals ``start`` to ``stop`` (exclusive); n of them.

    Attributes:
        fingerprint: of the population's spec.
        start: first individual.
        stop: one after the last.
        covariates: drawn values, shape (n, number of covariates).
        series: shape (outputs, T, n), 32-bit; NaN for an individual that failed.
        pk: shape (outputs, n, len(pk.NAMES)); NaN where refused, and for outputs that are no concentration.
        reasons: ``pk.Reason`` flags, shape (outputs, n).
        failures: (individual, message) of each that could not be simulated.
    """

    fingerprint: str
    start: int
    stop: int
    covariates: NDArray[np.float64]
    series: NDArray[np.float32]
    pk: NDArray[np.float64]
    reasons: NDArray[np.int64]
    failures: tuple[tuple[int, str], ...]


def draw_individuals(spec: PopulationSpec, start: int, stop: int) -> NDArray[np.float64]:
    """Covariates of individuals ``start`` to ``stop`` (exclusive), shape (n, number of covariates)."""
    import numpy as np

    columns = [draw(item, item.mean or 0.0, spec.seed, start, stop) for item in spec.covariates]
    return np.column_stack(columns) if columns else np.empty((stop - start, 0))


def run_chunk(
    model: LoadedModel,
    spec: PopulationSpec,
    start: int,
    stop: int,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> ChunkResult:
    """Simulate individuals ``start`` to ``stop`` (exclusive).

    Args:
        model: loaded from the text whose hash the spec carries.
        spec: the population.
        start: first individual, from 0.
        stop: one after the last, at most ``spec.size``.
        on_progress: called with the number done after each individual; what it raises ends the chunk.

    Returns:
        The chunk. An individual whose simulation fails is marked, and does not end it.

    Raises:
        InvalidSimulation: the range is outside the population, or the model is another one.
    """
    import numpy as np

    if model.description.hash != spec.model_hash:
        raise errors.InvalidSimulation(
            "The population was planned for another version of the model.",
            hint="Plan the population again.",
            expected=spec.model_hash,
            found=model.description.hash,
        )
    if not 0 <= start < stop <= spec.size:
        raise errors.InvalidSimulation(f"Individuals {start} to {stop} are not within 0 to {spec.size}.")
    count = stop - start
    drawn = draw_individuals(spec, start, stop)
    profiles = np.full((count, len(spec.outputs), len(spec.times)), np.nan)
    failures = []
    for row in range(count):
        try:
            profiles[row] = model.simulate(_parameters(spec, drawn[row]), spec.times, spec.outputs)
        except errors.SimulationFailed as error:
            failures.append((start + row, error.message))
        if on_progress is not None:
            on_progress(row + 1)
    table, reasons = _evaluate(model.description, spec, drawn, profiles)
    series = np.ascontiguousarray(profiles.transpose(1, 2, 0), dtype=np.float32)
    return ChunkResult(spec.fingerprint, start, stop, drawn, series, table, reasons, tuple(failures))


def _parameters(spec: PopulationSpec, row: NDArray[np.float64]) -> dict[str, float]:
    drawn = {item.path: float(value) for item, value in zip(spec.covariates, row, strict=True)}
    return {**dict(spec.parameters), **drawn}


def _evaluate(
    description: ModelDescription,
    spec: PopulationSpec,
    drawn: NDArray[np.float64],
    profiles: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    import numpy as np

    count = len(profiles)
    table = np.full((len(spec.outputs), count, len(pk.NAMES)), np.nan)
    reasons = np.zeros((len(spec.outputs), count), dtype=np.int64)
    doses = [declared_dose(description, _parameters(spec, row)) for row in drawn]
    known = next((dose for dose in doses if dose is not None), None)
    unit = description.parameter(known[0]).unit if known else None
    for index, path in enumerate(spec.outputs):
        output = description.output(path)
        if output.kind != "concentration":
            continue
        factor = pk_units(output.unit, description.time_unit, unit, description.molar_mass).dose_factor
        amounts = np.array([dose[1] * factor if dose is not None else np.nan for dose in doses])
        result = pk.pk_parameters(spec.times, profiles[:, index], dose=amounts, method=spec.auc_method)
        table[index], reasons[index] = result.matrix(), result.reasons
    return table, reasons
