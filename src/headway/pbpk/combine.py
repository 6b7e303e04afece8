"""Puts the chunks of a population together: percentiles per time point, and the PK table.

Percentiles are exact (linear between order statistics, R. J. Hyndman and Y. Fan, *Sample quantiles in
statistical packages*, Am. Stat. 50 (1996) 361-365, type 7) and are taken over all individuals in their
order, so they do not depend on the chunks. Memory is bounded by reading a few time points at a time; for
200,000 individuals that is under 100 MB above the interpreter. Run it in a child all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.pbpk import errors, pk
from headway.pbpk.chunks import ChunkReader
from headway.pbpk.simulation import declared_dose, pk_units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headway.pbpk.description import ModelDescription
    from headway.pbpk.population import PopulationSpec

#: Percentiles of profiles and tables.
PERCENTILES = (5.0, 50.0, 95.0)

#: Bytes of concentrations held at once.
BLOCK_BYTES = 16 * 1024 * 1024

#: A population of which more than this part failed has no result.
MAX_FAILED = 0.05

#: PK parameters of the table; the others (window, r²) are of interest for single profiles.
TABLE = ("cmax", "tmax", "auc_0_t", "auc_0_inf", "half_life", "lambda_z", "extrapolated_percent", "clearance", "volume")


@dataclass(frozen=True)
class Statistics:
    """A PK parameter or covariate over the individuals that have it.

    Attributes:
        n: how many have it.
        not_evaluable: how many do not.
        mean: arithmetic mean.
        sd: standard deviation (n - 1).
        geometric_mean: ``None`` where a value is not positive.
        p5: 5th percentile.
        p50: median.
        p95: 95th percentile.
        unit: of all of them.
    """

    n: int
    not_evaluable: int
    mean: float | None
    sd: float | None
    geometric_mean: float | None
    p5: float | None
    p50: float | None
    p95: float | None
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "n": self.n,
            "not_evaluable": self.not_evaluable,
            "mean": self.mean,
            "sd": self.sd,
            "geometric_mean": self.geometric_mean,
            "p5": self.p5,
            "p50": self.p50,
            "p95": self.p95,
            "unit": self.unit,
        }


@dataclass(frozen=True)
class OutputSummary:
    """One output over the population; arrays of shape (T,).

    Attributes:
        path: of the output.
        name: for people.
        unit: of the concentrations.
        p5: 5th percentile at each time.
        p50: median at each time.
        p95: 95th percentile at each time.
        mean: arithmetic mean at each time.
        pk: statistics by PK parameter; empty where the output is no concentration.
        pk_status: number of individuals by status.
    """

    path: str
    name: str
    unit: str
    p5: NDArray[np.float64]
    p50: NDArray[np.float64]
    p95: NDArray[np.float64]
    mean: NDArray[np.float64]
    pk: dict[str, Statistics]
    pk_status: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": self.path,
            "name": self.name,
            "unit": self.unit,
            "p5": self.p5.tolist(),
            "p50": self.p50.tolist(),
            "p95": self.p95.tolist(),
            "mean": self.mean.tolist(),
            "pk": {name: item.to_dict() for name, item in self.pk.items()},
            "pk_status": self.pk_status,
        }


@dataclass(frozen=True)
class PopulationResult:
    """The result of a population.

    Attributes:
        model: name of the model.
        model_hash: of its text.
        size: individuals asked for.
        failed: how many of them could not be simulated.
        failures: the first messages, (individual, message).
        seed: of the draws.
        time_unit: the model's.
        times: shape (T,).
        outputs: one summary each.
        covariates: statistics of the drawn parameters, by path.
    """

    model: str
    model_hash: str
    size: int
    failed: int
    failures: tuple[tuple[int, str], ...]
    seed: int
    time_unit: str
    times: tuple[float, ...]
    outputs: tuple[OutputSummary, ...]
    covariates: dict[str, Statistics]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: some tens of kilobytes, whatever the size of the population."""
        return {
            "model": self.model,
            "model_hash": self.model_hash,
            "size": self.size,
            "failed": self.failed,
            "failures": [{"individual": index, "message": message} for index, message in self.failures],
            "seed": self.seed,
            "time_unit": self.time_unit,
            "times": list(self.times),
            "outputs": [item.to_dict() for item in self.outputs],
            "covariates": {path: item.to_dict() for path, item in self.covariates.items()},
        }


def combine(
    directory: Path,
    description: ModelDescription,
    spec: PopulationSpec,
    plan: Sequence[tuple[int, int]],
    *,
    on_progress: Callable[[float], None] | None = None,
) -> PopulationResult:
    """Put the chunks of a population together.

    Args:
        directory: where the chunks were written.
        description: of the model.
        spec: the population.
        plan: the chunks' ranges, covering 0 to ``spec.size``.
        on_progress: called with the part done, 0 to 1.

    Raises:
        InvalidSimulation: a chunk is missing, damaged, or of another population.
        SimulationFailed: more than ``MAX_FAILED`` of the individuals failed.
    """
    import numpy as np

    readers = _readers(directory, spec, plan)
    failures = sorted(item for reader in readers for item in reader.failures)
    if len(failures) > MAX_FAILED * spec.size:
        raise errors.SimulationFailed(
            f"{len(failures)} of {spec.size} individuals could not be simulated. First: {failures[0][1]}",
            failed=len(failures),
            individual=failures[0][0],
        )
    alive = np.ones(spec.size, dtype=bool)
    alive[[index for index, _ in failures]] = False
    outputs = []
    for index in range(len(spec.outputs)):
        outputs.append(_summary(readers, description, spec, index, alive))
        if on_progress is not None:
            on_progress((index + 1) / len(spec.outputs))
    drawn = np.empty((spec.size, len(spec.covariates)))
    for reader in readers:
        drawn[reader.start : reader.stop] = reader.array("covariates")
    covariates = {
        item.path: statistics(drawn[:, column], description.parameter(item.path).unit)
        for column, item in enumerate(spec.covariates)
    }
    return PopulationResult(
        model=description.name,
        model_hash=spec.model_hash,
        size=spec.size,
        failed=len(failures),
        failures=tuple(failures[:10]),
        seed=spec.seed,
        time_unit=description.time_unit,
        times=spec.times,
        outputs=tuple(outputs),
        covariates=covariates,
    )


def _readers(directory: Path, spec: PopulationSpec, plan: Sequence[tuple[int, int]]) -> list[ChunkReader]:
    ordered = sorted(plan)
    edges = [0, *(stop for _, stop in ordered)]
    if [start for start, _ in ordered] != edges[:-1] or edges[-1] != spec.size:
        raise errors.InvalidSimulation(f"The chunks do not cover individuals 0 to {spec.size} once.")
    readers = [ChunkReader(directory, start, stop) for start, stop in ordered]
    for reader in readers:
        if reader.fingerprint != spec.fingerprint:
            raise errors.InvalidSimulation(f"Chunk {reader.start} to {reader.stop} belongs to another population.")
    return readers


def _summary(
    readers: Sequence[ChunkReader],
    description: ModelDescription,
    spec: PopulationSpec,
    index: int,
    alive: NDArray[np.bool_],
) -> OutputSummary:
    import numpy as np

    output = description.output(spec.outputs[index])
    bands = np.empty((len(PERCENTILES), len(spec.times)))
    mean = np.empty(len(spec.times))
    step = max(1, BLOCK_BYTES // (4 * spec.size))
    for first in range(0, len(spec.times), step):
        last = min(first + step, len(spec.times))
        block = np.empty((last - first, spec.size), dtype=np.float32)
        for reader in readers:
            block[:, reader.start : reader.stop] = reader.times(index, first, last)
        if not alive.all():
            block = np.ascontiguousarray(block[:, alive])
        # The mean first: taking percentiles reorders the block in place.
        mean[first:last] = block.mean(axis=1, dtype=np.float64)
        bands[:, first:last] = percentiles_in_place(block, PERCENTILES)
    table: dict[str, Statistics] = {}
    status: dict[str, int] = {}
    if output.kind == "concentration":
        table, status = _pk_table(readers, description, spec, index)
    return OutputSummary(output.path, output.name, output.unit, bands[0], bands[1], bands[2], mean, table, status)


def percentiles_in_place(block: NDArray[Any], percentiles: Sequence[float]) -> NDArray[np.float64]:
    """Percentiles over the last axis, type 7; the block is reordered.

    Args:
        block: shape (m, n), no NaN, n at least 1.
        percentiles: 0 to 100.

    Returns:
        Shape (len(percentiles), m).
    """
    import numpy as np

    count = block.shape[-1]
    positions = [(count - 1) * percentile / 100.0 for percentile in percentiles]
    lower = [math.floor(position) for position in positions]
    upper = [min(index + 1, count - 1) for index in lower]
    block.partition(sorted({*lower, *upper}), axis=-1)
    rows = []
    for position, low, high in zip(positions, lower, upper, strict=True):
        below, above = block[..., low].astype(np.float64), block[..., high].astype(np.float64)
        rows.append(below + (above - below) * (position - low))
    return np.array(rows)


def _pk_table(
    readers: Sequence[ChunkReader], description: ModelDescription, spec: PopulationSpec, index: int
) -> tuple[dict[str, Statistics], dict[str, int]]:
    import numpy as np

    dose = declared_dose(description, {**dict(spec.parameters), **{c.path: c.mean or 0.0 for c in spec.covariates}})
    dose_unit = description.parameter(dose[0]).unit if dose else None
    unit = pk_units(
        description.output(spec.outputs[index]).unit, description.time_unit, dose_unit, description.molar_mass
    )
    columns = [pk.NAMES.index(name) for name in TABLE]
    values = np.empty((len(TABLE), spec.size))
    reasons = np.empty(spec.size, dtype=np.int64)
    for reader in readers:
        values[:, reader.start : reader.stop] = reader.array("pk")[index][:, columns].T
        reasons[reader.start : reader.stop] = reader.array("reasons")[index]
    table = {name: statistics(values[row], unit.of(name)) for row, name in enumerate(TABLE)}
    status = dict.fromkeys(("derived", "warning", "suppressed", "not-evaluable"), 0)
    flags, counts = np.unique(reasons, return_counts=True)
    for flag, count in zip(flags, counts, strict=True):
        status[pk.status_of(int(flag))] += int(count)
    return table, status


def statistics(values: NDArray[np.float64], unit: str) -> Statistics:
    """Statistics of the finite ones of ``values``, shape (n,); ``None`` where there are too few."""
    import numpy as np

    finite = values[np.isfinite(values)]
    count = len(finite)
    if count == 0:
        return Statistics(0, len(values), None, None, None, None, None, None, unit)
    mean = float(finite.mean())
    sd = float(finite.std(ddof=1)) if count > 1 else None
    geometric = float(np.exp(np.log(finite).mean())) if (finite > 0).all() else None
    low, middle, high = (float(row) for row in percentiles_in_place(finite, PERCENTILES))
    return Statistics(count, len(values) - count, mean, sd, geometric, low, middle, high, unit)
