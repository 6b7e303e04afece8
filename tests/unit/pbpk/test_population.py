"""Populations: who is in them, and that the result is a pure function of the request."""

from __future__ import annotations

import concurrent.futures
import json
import math
import multiprocessing
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.pbpk import chunks, errors
from headway.pbpk.combine import combine, percentiles_in_place
from headway.pbpk.description import ModelDescription
from headway.pbpk.population import (
    ChunkResult,
    PopulationSpec,
    draw_individuals,
    plan_chunks,
    population_spec,
    run_chunk,
)
from headway.pbpk.roadrunner import RoadRunnerEngine
from headway.pbpk.sampling import Covariate, draw, uniforms
from headway.pbpk.simulation import run_simulation
from headway.pbpk.times import dosing_grid
from tests.unit.pbpk.sbml_texts import explosive, loaded, shipped

TIMES = dosing_grid(36.0, 41)


def spec_of(name: str, size: int, **changes: Any) -> PopulationSpec:
    return population_spec(loaded(name).description, size=size, seed=11, times=TIMES, **changes)


def written(directory: Path, spec: PopulationSpec, chunk_size: int, name: str = "midazolam") -> str:
    """The result of a population run in chunks, as JSON."""
    plan = plan_chunks(spec.size, chunk_size)
    for start, stop in plan:
        chunks.save_chunk(directory, run_chunk(loaded(name), spec, start, stop))
    result = combine(directory, loaded(name).description, spec, plan)
    return json.dumps(result.to_dict(), allow_nan=False)


def chunk_in_a_child(spec: dict[str, Any], start: int, stop: int, directory: str) -> None:
    model = RoadRunnerEngine().load(shipped("midazolam"))
    chunks.save_chunk(Path(directory), run_chunk(model, PopulationSpec.from_dict(spec), start, stop))


def test_the_result_does_not_depend_on_chunks_or_workers(tmp_path: Path) -> None:
    spec = spec_of("midazolam", 60, outputs=["Cp", "A_li"])
    results = []
    for chunk_size in (60, 7):
        folder = tmp_path / str(chunk_size)
        folder.mkdir()
        results.append(written(folder, spec, chunk_size))
    folder = tmp_path / "children"
    folder.mkdir()
    plan = plan_chunks(60, 20)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [pool.submit(chunk_in_a_child, spec.to_dict(), *edges, str(folder)) for edges in reversed(plan)]
        for job in jobs:
            job.result(timeout=100)
    results.append(json.dumps(combine(folder, loaded("midazolam").description, spec, plan).to_dict()))
    assert results[0] == results[1] == results[2]


def test_an_individual_is_the_same_in_a_larger_population_and_beside_other_covariates() -> None:
    small = draw_individuals(spec_of("caffeine", 10), 0, 10)
    large = spec_of("caffeine", 5000)
    np.testing.assert_array_equal(small, draw_individuals(large, 0, 10))
    np.testing.assert_array_equal(draw_individuals(large, 4990, 5000), draw_individuals(large, 4900, 5000)[90:])
    fewer = replace(large, covariates=large.covariates[3:])
    np.testing.assert_array_equal(draw_individuals(large, 0, 9)[:, 3:], draw_individuals(fewer, 0, 9))
    assert not np.array_equal(small, draw_individuals(replace(large, seed=12), 0, 10))


def test_percentiles_and_table_are_those_of_all_individuals(tmp_path: Path) -> None:
    spec = spec_of("caffeine", 40)
    values = json.loads(written(tmp_path, spec, 13, "caffeine"))
    whole = run_chunk(loaded("caffeine"), spec, 0, 40)
    series = whole.series[0].astype(np.float64)
    row = values["outputs"][0]
    for name, percentile in (("p5", 5), ("p50", 50), ("p95", 95)):
        np.testing.assert_allclose(row[name], np.percentile(series, percentile, axis=1), rtol=1e-6)
    np.testing.assert_allclose(row["mean"], series.mean(axis=1), rtol=1e-6)
    peaks = [
        run_simulation(loaded("caffeine"), dict(zip([c.path for c in spec.covariates], person, strict=True)), TIMES)
        .pk["Cp"]
        .values["cmax"]
        for person in whole.covariates
    ]
    known = [peak for peak in peaks if peak is not None]
    assert row["pk"]["cmax"]["mean"] == pytest.approx(statistics.fmean(known))
    assert row["pk"]["cmax"]["sd"] == pytest.approx(statistics.stdev(known))
    assert row["pk"]["cmax"]["geometric_mean"] == pytest.approx(statistics.geometric_mean(known))
    assert row["pk"]["cmax"]["n"] == 40
    assert row["pk"]["clearance"]["unit"] == "L/h"
    assert row["pk"]["auc_0_inf"]["unit"] == "mg*h/L"
    assert sum(row["pk_status"].values()) == 40
    assert values["covariates"]["BW"]["unit"] == "kg"


def test_a_spec_survives_json_and_its_fingerprint_sees_every_change() -> None:
    spec = spec_of("midazolam", 5, parameters={"PODOSE": 15.0})
    assert PopulationSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert replace(spec, seed=12).fingerprint != spec.fingerprint
    assert replace(spec, times=(*TIMES[:-1], 37.0)).fingerprint != spec.fingerprint
    with pytest.raises(errors.InvalidSimulation):
        PopulationSpec.from_dict({"size": 3})


def test_covariates_are_taken_in_their_own_units() -> None:
    covariates = [Covariate("BW", "uniform", minimum=110.0, maximum=220.0, unit="lb"), Covariate("ka", cv=0.3)]
    spec = spec_of("caffeine", 200, covariates=covariates)
    weights = draw_individuals(spec, 0, 200)[:, 0]
    assert weights.min() > 49.8
    assert weights.max() < 99.9
    assert spec.covariates[1].mean == 4.94


@pytest.mark.parametrize(
    ("covariate", "error"),
    [
        (Covariate("nothing", cv=0.1), errors.UnknownParameter),
        (Covariate("V_li", cv=0.1), errors.ParameterSetByRule),
        (Covariate("BW", "normal", mean=70.0, sd=40.0), errors.InvalidParameterValue),
        (Covariate("BW", "fixed", mean=5000.0), errors.InvalidParameterValue),
        (Covariate("BW", cv=0.1, unit="mg/L", mean=3.0), errors.UnitMismatch),
        (Covariate("IVDOSE", cv=0.1, mean=-1.0), errors.InvalidSimulation),
        (Covariate("BW", cv=0.01, mean=70.0, minimum=200.0, maximum=210.0), errors.InvalidSimulation),
    ],
)
def test_impossible_covariates_are_refused_before_a_run(covariate: Covariate, error: type[errors.PbpkError]) -> None:
    with pytest.raises(error):
        spec_of("caffeine", 10, covariates=[covariate])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"path": "BW", "cv": "a"},
        {"path": "BW", "cv": 0.1, "sd": 3.0},
        {"path": "BW", "distribution": "gamma", "cv": 0.1},
        {"path": "BW", "cv": -0.1},
        {"path": "BW", "distribution": "uniform", "min": 1.0},
        {"path": "BW", "cv": 0.1, "min": 5.0, "max": 4.0},
        {"path": "BW", "cv": math.nan},
        {"path": "BW", "cv": 0.1, "variance": 3.0},
    ],
)
def test_malformed_covariates_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidSimulation):
        Covariate.from_dict(values)


@pytest.mark.parametrize("changes", [{"size": 0}, {"size": 1.5}, {"size": True}, {"seed": -1}, {"seed": 2**64}])
def test_impossible_populations_are_refused(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"size": 5, "seed": 1, "times": TIMES, **changes}
    with pytest.raises(errors.InvalidSimulation):
        population_spec(loaded("caffeine").description, **arguments)
    with pytest.raises(errors.InvalidSimulation, match="more than once"):
        spec_of("caffeine", 5, covariates=[Covariate("BW", cv=0.1), Covariate("BW", cv=0.2)])


@pytest.mark.parametrize(("distribution", "cv"), [("lognormal", 0.3), ("normal", 0.2)])
def test_distributions_have_the_mean_and_spread_they_say(distribution: Any, cv: float) -> None:
    values = draw(Covariate("x", distribution, mean=40.0, cv=cv), 0.0, 5, 0, 20_000)
    assert values.mean() == pytest.approx(40.0, rel=0.01)
    assert values.std() / values.mean() == pytest.approx(cv, rel=0.03)


@given(
    seed=st.integers(0, 2**64 - 1),
    cv=st.floats(0.01, 2.0),
    mean=st.floats(1e-3, 1e3),
    start=st.integers(0, 10**9),
)
def test_draws_stay_within_their_bounds_and_do_not_depend_on_the_range(
    seed: int, cv: float, mean: float, start: int
) -> None:
    covariate = Covariate("x", "lognormal", mean=mean, cv=cv, minimum=0.5 * mean, maximum=1.5 * mean)
    values = draw(covariate, 0.0, seed, start, start + 20)
    assert values.min() >= 0.5 * mean
    assert values.max() <= 1.5 * mean
    np.testing.assert_array_equal(values[7:9], draw(covariate, 0.0, seed, start + 7, start + 9))


def test_uniform_numbers_are_uniform_and_independent() -> None:
    first, second = uniforms(3, "a", 0, 50_000), uniforms(3, "b", 0, 50_000)
    assert 0 < first.min() < first.max() < 1
    np.testing.assert_allclose(np.histogram(first, 10, (0, 1))[0], 5000, atol=300)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.02


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values: list[float], percentile: float) -> None:
    expected = np.percentile(np.array(values, dtype=np.float64), percentile)
    found = percentiles_in_place(np.array([values], dtype=np.float32), [percentile])[0, 0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


class Explosive:
    """The real engine on a model that blows up at time 1 / k, for individuals with a large k."""

    def __init__(self) -> None:
        self._model = RoadRunnerEngine().load(explosive())

    @property
    def description(self) -> ModelDescription:
        return self._model.description

    def simulate(
        self, parameters: Mapping[str, float], times: Sequence[float], outputs: Sequence[str]
    ) -> NDArray[np.float64]:
        return self._model.simulate(parameters, times, outputs)

    def initial_values(self, parameters: Mapping[str, float], paths: Sequence[str]) -> dict[str, float]:
        return self._model.initial_values(parameters, paths)


def exploding(size: int, most: float) -> tuple[Explosive, PopulationSpec]:
    model = Explosive()
    covariates = [Covariate("k", "uniform", minimum=0.1, maximum=most)]
    times = [0.0, 0.25, 0.5]
    return model, population_spec(
        model.description, size=size, seed=1, times=times, outputs=["x"], covariates=covariates
    )


def test_an_individual_that_fails_is_marked_and_counted(tmp_path: Path) -> None:
    model, spec = exploding(100, 2.03)
    chunk = run_chunk(model, spec, 0, 100)
    failed = [index for index, _ in chunk.failures]
    assert failed == [index for index, k in enumerate(chunk.covariates[:, 0]) if k > 1.99] != []
    chunks.save_chunk(tmp_path, chunk)
    result = combine(tmp_path, model.description, spec, [(0, 100)])
    assert result.failed == len(failed)
    assert "CV_" in result.failures[0][1]
    assert np.isfinite(result.outputs[0].p95).all()
    alive = np.delete(chunk.series[0].astype(np.float64), failed, axis=1)
    np.testing.assert_allclose(result.outputs[0].p50, np.median(alive, axis=1), rtol=1e-6)


def test_a_population_of_which_much_failed_has_no_result(tmp_path: Path) -> None:
    model, spec = exploding(40, 20.0)
    chunks.save_chunk(tmp_path, run_chunk(model, spec, 0, 40))
    with pytest.raises(errors.SimulationFailed, match="of 40 individuals"):
        combine(tmp_path, model.description, spec, [(0, 40)])


def test_progress_counts_and_may_end_a_chunk() -> None:
    spec = spec_of("caffeine", 9)
    seen: list[int] = []
    run_chunk(loaded("caffeine"), spec, 2, 6, on_progress=seen.append)
    assert seen == [1, 2, 3, 4]

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_chunk(loaded("caffeine"), spec, 0, 9, on_progress=stop)


def test_only_whole_chunks_of_this_population_count(tmp_path: Path) -> None:
    spec = spec_of("caffeine", 20)
    description = loaded("caffeine").description
    chunk = run_chunk(loaded("caffeine"), spec, 0, 10)
    chunks.save_chunk(tmp_path, chunk)
    assert chunks.is_complete(tmp_path, 0, 10, spec.fingerprint)
    assert not chunks.is_complete(tmp_path, 10, 20, spec.fingerprint)
    assert not chunks.is_complete(tmp_path, 0, 10, replace(spec, seed=1).fingerprint)
    with pytest.raises(errors.InvalidSimulation, match="cover"):
        combine(tmp_path, description, spec, [(0, 10)])
    with pytest.raises(errors.InvalidSimulation, match="missing"):
        combine(tmp_path, description, spec, [(0, 10), (10, 20)])
    chunks.save_chunk(tmp_path, replace(chunk, start=10, stop=20, fingerprint="other"))
    with pytest.raises(errors.InvalidSimulation, match="another population"):
        combine(tmp_path, description, spec, [(0, 10), (10, 20)])
    # A file cut short, as a full disk leaves it, is no chunk.
    series = chunks.series_path(tmp_path, 0, 10)
    series.write_bytes(series.read_bytes()[:-4])
    assert not chunks.is_complete(tmp_path, 0, 10, spec.fingerprint)
    table = chunks.table_path(tmp_path, 10, 20)
    table.write_bytes(table.read_bytes()[:100])
    assert not chunks.is_complete(tmp_path, 10, 20, "other")
    chunks.remove_chunks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_of_another_model_or_range_is_refused() -> None:
    spec = spec_of("caffeine", 5)
    with pytest.raises(errors.InvalidSimulation, match="another version"):
        run_chunk(loaded("midazolam"), spec, 0, 5)
    for start, stop in ((0, 6), (3, 3), (-1, 2)):
        with pytest.raises(errors.InvalidSimulation, match="not within"):
            run_chunk(loaded("caffeine"), spec, start, stop)


@given(st.integers(1, 5000), st.integers(1, 600))
def test_a_plan_covers_everyone_once(size: int, chunk_size: int) -> None:
    plan = plan_chunks(size, chunk_size)
    assert [index for start, stop in plan for index in range(start, stop)] == list(range(size))
    assert all(stop - start <= chunk_size for start, stop in plan)


COMBINE = """
import sys
from pathlib import Path
from headway.pbpk import sbml
from headway.pbpk.catalog import ModelCatalog
from headway.pbpk.combine import combine
from headway.pbpk.population import plan_chunks, population_spec
description = sbml.describe(ModelCatalog().find("caffeine").read())
spec = population_spec(description, size=200_000, seed=1, times=[float(i) for i in range(41)])
result = combine(Path(sys.argv[1]), description, spec, plan_chunks(200_000, 1000))
# VmHWM and not ru_maxrss, which a program inherits from the process that started it.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) // 1024, result.outputs[0].p50[3])
"""


def test_two_hundred_thousand_people_are_combined_in_little_memory(tmp_path: Path) -> None:
    description = loaded("caffeine").description
    spec = population_spec(description, size=200_000, seed=1, times=[float(i) for i in range(41)])
    generator = np.random.default_rng(1)
    for start, stop in plan_chunks(200_000, 1000):
        count = stop - start
        chunks.save_chunk(
            tmp_path,
            ChunkResult(
                spec.fingerprint,
                start,
                stop,
                generator.random((count, len(spec.covariates))),
                generator.random((1, 41, count), dtype=np.float32),
                generator.random((1, count, 14)),
                np.zeros((1, count), dtype=np.int64),
                (),
            ),
        )
    done = subprocess.run([sys.executable, "-c", COMBINE, str(tmp_path)], capture_output=True, text=True, check=True)
    megabytes, median = done.stdout.split()
    assert int(megabytes) <= 250
    assert float(median) == pytest.approx(0.5, abs=0.01)
