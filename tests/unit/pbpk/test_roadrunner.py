"""The engine: what it promises in `engine.LoadedModel`."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

from headway.pbpk import errors
from headway.pbpk.engine import LoadedModel, SimulationEngine
from headway.pbpk.roadrunner import RoadRunnerEngine
from headway.pbpk.times import dosing_grid, time_grid
from tests.unit.pbpk.sbml_texts import (
    dosed_by_prefixed_initial_assignment,
    dosed_by_rate_rule,
    explosive,
    in_compartments,
    loaded,
    shipped,
)

TIMES = time_grid(24.0, 49)

OTHER_PROCESS = """
import hashlib, sys
from headway.pbpk.catalog import ModelCatalog
from headway.pbpk.roadrunner import RoadRunnerEngine
from headway.pbpk.times import time_grid
model = RoadRunnerEngine().load(ModelCatalog().find("midazolam").read())
series = model.simulate({"BW": 81.0}, time_grid(24.0, 49), ["Cp", "C_li"])
sys.stdout.write(hashlib.sha256(series.tobytes()).hexdigest())
"""


def test_it_is_an_engine() -> None:
    engine = RoadRunnerEngine()
    assert isinstance(engine, SimulationEngine)
    assert isinstance(loaded("caffeine"), LoadedModel)
    assert engine.name == "roadrunner"
    assert engine.version.startswith("2.")


def test_the_same_call_gives_the_same_bits_in_any_order_load_and_process() -> None:
    first = RoadRunnerEngine().load(shipped("midazolam"))
    second = RoadRunnerEngine().load(shipped("midazolam"))
    wanted = {"BW": 81.0}
    one = first.simulate(wanted, TIMES, ["Cp", "C_li"])
    first.simulate({"BW": 50.0, "PODOSE": 100.0, "CLint": 1.0}, TIMES, ["C_br"])
    again = first.simulate(wanted, TIMES, ["Cp", "C_li"])
    other = second.simulate(wanted, TIMES, ["Cp", "C_li"])
    assert one.tobytes() == again.tobytes() == other.tobytes()
    process = subprocess.run([sys.executable, "-c", OTHER_PROCESS], capture_output=True, text=True, check=True)
    assert process.stdout == hashlib.sha256(one.tobytes()).hexdigest()


def test_shape_and_order_follow_the_request() -> None:
    series = loaded("caffeine").simulate({}, dosing_grid(12.0, 31), ["A_lumen", "Cp"])
    assert series.shape == (2, 31)
    assert series[0, 0] == 300.0
    assert series[1, 0] == 0.0
    assert series.flags.c_contiguous


def test_a_dose_under_a_rate_rule_and_an_initial_assignment_both_take_effect() -> None:
    model = RoadRunnerEngine().load(dosed_by_rate_rule())
    series = model.simulate({"PODOSE_x": 10.0, "base": 5.0}, [0.0, 1.0], ["PODOSE_x", "y"])
    np.testing.assert_allclose(series[:, 0], [10.0, 10.0])
    np.testing.assert_allclose(series[:, 1], [10.0 / math.e, 10.0 + 10.0 * (1 - 1 / math.e)], rtol=1e-5)
    np.testing.assert_allclose(model.simulate({}, [0.0, 1.0], ["y"]), [[6.0, 6.0]])


def test_an_initial_assignment_takes_effect_whatever_the_namespace_prefix() -> None:
    model = RoadRunnerEngine().load(dosed_by_prefixed_initial_assignment())
    assert model.initial_values({}, ["A"]) == {"A": 10.0}
    assert model.initial_values({"DOSE": 200.0}, ["A"]) == {"A": 20.0}


def test_a_size_that_is_set_begins_like_a_size_that_is_declared() -> None:
    paths = [path for name in ("amount", "conc", "only", "assigned", "filled", "held") for path in (name, f"[{name}]")]
    model = RoadRunnerEngine().load(in_compartments())
    before = model.initial_values({}, paths)
    declared = RoadRunnerEngine().load(in_compartments(size=20.0, k=6.0)).initial_values({}, paths)
    assert (declared["conc"], declared["[conc]"], declared["[amount]"], declared["[assigned]"]) == (40.0, 2.0, 1.5, 6.0)
    assert model.initial_values({"V": 20.0, "k": 6.0}, paths) == declared
    ended = model.simulate({"V": 20.0, "k": 6.0}, [0.0, 1.0], ["[conc]", "conc", "[assigned]"])[:, -1]
    np.testing.assert_allclose(ended, [2.0, 40.0, 6.0])
    assert model.initial_values({}, paths) == before


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"BW": -5.0}, errors.InvalidParameterValue),
        ({"BW": 5000.0}, errors.InvalidParameterValue),
        ({"CLint": -1.0}, errors.InvalidParameterValue),
        ({"CLint": math.nan}, errors.InvalidParameterValue),
        ({"CLint": math.inf}, errors.InvalidParameterValue),
        ({"CLint": True}, errors.InvalidParameterValue),
        ({"V_li": 2.0}, errors.ParameterSetByRule),
        ({"Cp": 2.0}, errors.ParameterSetByRule),
        ({"bodyweight": 2.0}, errors.UnknownParameter),
    ],
)
def test_bad_parameters_are_refused_by_code(parameters: dict[str, float], error: type[errors.PbpkError]) -> None:
    with pytest.raises(error) as caught:
        loaded("caffeine").simulate(parameters, TIMES, ["Cp"])
    assert caught.value.message
    assert caught.value.hint


def test_unknown_names_come_with_similar_ones() -> None:
    with pytest.raises(errors.UnknownParameter) as caught:
        loaded("caffeine").simulate({"clint": 1.0}, TIMES, ["Cp"])
    assert "CLint" in caught.value.details["near"]
    with pytest.raises(errors.UnknownOutput) as output:
        loaded("caffeine").simulate({}, TIMES, ["C_liver"])
    assert "C_li" in output.value.details["near"]


@pytest.mark.parametrize(
    "times", [[], [0.0], [1.0, 2.0], [0.0, 2.0, 1.0], [0.0, 1.0, 1.0], [0.0, math.nan], [0.0, math.inf]]
)
def test_impossible_times_are_refused(times: list[float]) -> None:
    with pytest.raises(errors.InvalidSimulation):
        loaded("caffeine").simulate({}, times, ["Cp"])


def test_what_does_not_converge_is_a_coded_error_without_noise(capfd: pytest.CaptureFixture[str]) -> None:
    model = RoadRunnerEngine().load(explosive())
    with pytest.raises(errors.SimulationFailed) as caught:
        model.simulate({}, [0.0, 0.5, 2.0], ["x"])
    assert caught.value.details["engine_message"].startswith("CVODE Error: CV_")
    assert capfd.readouterr().err == ""
    # The failure leaves the model usable: 1 / (1 - t) before the pole.
    np.testing.assert_allclose(model.simulate({}, [0.0, 0.5], ["x"]), [[1.0, 2.0]], rtol=1e-4)


def test_too_few_steps_is_a_coded_error() -> None:
    model = RoadRunnerEngine(maximum_steps=3).load(shipped("caffeine"))
    with pytest.raises(errors.SimulationFailed, match="CV_TOO_MUCH_WORK"):
        model.simulate({}, [0.0, 24.0], ["Cp"])


def test_an_invalid_model_does_not_reach_the_native_code() -> None:
    with pytest.raises(errors.InvalidModel):
        RoadRunnerEngine().load(shipped("caffeine").replace('id="BW_ref"', 'id="BW"'))


def test_initial_values_apply_the_rules() -> None:
    values = loaded("caffeine").initial_values({"BW": 100.0}, ["BW", "V_li", "A_lumen"])
    assert values["BW"] == 100.0
    assert values["V_li"] == pytest.approx(2.371)
    assert values["A_lumen"] == 300.0
    with pytest.raises(errors.UnknownParameter):
        loaded("caffeine").initial_values({}, ["nothing"])
