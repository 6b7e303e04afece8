"""PK parameters, against profiles whose answers are known by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.pbpk import errors
from headway.pbpk.pk import NAMES, Reason, pk_parameters


def test_one_exponential_is_exact() -> None:
    times = np.linspace(0.0, 24.0, 49)
    table = pk_parameters(times, 10.0 * np.exp(-0.2 * times), dose=100.0, method="linear-up-log-down")
    values = table.profile().values
    assert values["cmax"] == 10.0
    assert values["tmax"] == 0.0
    assert values["lambda_z"] == pytest.approx(0.2, rel=1e-12)
    assert values["half_life"] == pytest.approx(math.log(2) / 0.2, rel=1e-12)
    assert values["auc_0_t"] == pytest.approx(50.0 * (1 - math.exp(-4.8)), rel=1e-12)
    assert values["auc_0_inf"] == pytest.approx(50.0, rel=1e-12)
    assert values["extrapolated_percent"] == pytest.approx(100 * math.exp(-4.8), rel=1e-9)
    assert values["clearance"] == pytest.approx(2.0, rel=1e-12)
    assert values["volume"] == pytest.approx(10.0, rel=1e-12)
    assert (values["window_start"], values["window_end"], values["window_points"]) == (0.5, 24.0, 48)
    assert values["r2"] == pytest.approx(1.0)
    assert table.profile().status == "derived"
    assert table.profile().messages == []


def test_linear_trapezoids_by_hand() -> None:
    values = pk_parameters([0, 1, 2, 4, 6, 8], [0.0, 4.0, 8.0, 4.0, 2.0, 1.0]).profile().values
    # 2 + 6 + 12 + 6 + 3
    assert values["auc_0_t"] == pytest.approx(29.0)
    assert values["lambda_z"] == pytest.approx(math.log(2) / 2)
    assert values["auc_0_inf"] == pytest.approx(29.0 + 2.0 / math.log(2))
    assert values["clearance"] is None


def test_linear_up_log_down_by_hand() -> None:
    values = pk_parameters([0, 2, 4], [0.0, 8.0, 2.0], method="linear-up-log-down").profile().values
    assert values["auc_0_t"] == pytest.approx(8.0 + 6.0 * 2.0 / math.log(4.0))


def test_two_exponentials_take_the_terminal_one() -> None:
    times = np.linspace(0.0, 48.0, 481)
    profile = pk_parameters(times, 90 * np.exp(-2 * times) + 10 * np.exp(-0.1 * times)).profile()
    assert profile.values["lambda_z"] == pytest.approx(0.1, rel=0.02)
    assert profile.values["window_start"] is not None
    assert profile.values["window_start"] > 1.0
    prescribed = pk_parameters(
        times, 90 * np.exp(-2 * times) + 10 * np.exp(-0.1 * times), window=(20.0, 40.0)
    ).profile()
    assert prescribed.values["lambda_z"] == pytest.approx(0.1, rel=1e-9)
    assert (prescribed.values["window_start"], prescribed.values["window_end"]) == (20.0, 40.0)


def test_what_the_tail_does_not_carry_is_refused() -> None:
    times = np.linspace(0.0, 8.0, 81)
    slow = pk_parameters(times, 10.0 * np.exp(-0.01 * times), dose=1.0).profile()
    assert slow.status == "suppressed"
    assert slow.reasons & Reason.WINDOW_TOO_SHORT
    for name in ("half_life", "lambda_z", "auc_0_inf", "clearance", "volume", "extrapolated_percent"):
        assert slow.values[name] is None
    # What was looked at is still told.
    assert slow.values["window_points"] == 80
    assert slow.values["auc_0_t"] is not None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], Reason.TOO_FEW_POINTS),
        ([0.0, 5.0, 4.0, 3.0, 2.0, 1.0, 4.0, 2.0], Reason.TOO_FEW_POINTS),
        ([5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0], Reason.NOT_DECLINING),
        ([0.0, 100.0, 99.0, 98.0, 97.0, 50.0, 49.9, 1.0], Reason.POOR_FIT),
    ],
)
def test_each_reason_to_refuse(values: list[float], reason: Reason) -> None:
    profile = pk_parameters(range(8), values).profile()
    assert profile.reasons & reason, profile
    assert profile.status == "suppressed"
    assert profile.values["half_life"] is None
    assert profile.messages


def test_warnings_between_good_and_refused() -> None:
    times = np.linspace(0.0, 10.0, 101)
    # 10 h of a half-life of 6 h: 1.65 half-lives, and 31 % extrapolated.
    profile = pk_parameters(times, np.exp(-math.log(2) / 6.0 * times)).profile()
    assert profile.status == "warning"
    assert profile.reasons == Reason.WINDOW_SHORT | Reason.MUCH_EXTRAPOLATED
    assert profile.values["half_life"] == pytest.approx(6.0)


def test_no_exposure_and_failed_individuals() -> None:
    rows = np.array([[0.0, 0.0, 0.0, 0.0], [math.nan] * 4, [4.0, 2.0, 1.0, 0.5]])
    table = pk_parameters([0, 1, 2, 3], rows)
    assert [table.profile(i).status for i in range(3)] == ["not-evaluable", "not-evaluable", "derived"]
    assert table.profile(0).values["cmax"] == 0.0
    assert table.profile(1).values["cmax"] is None
    assert table.profile(1).reasons == Reason.NOT_SIMULATED
    assert len(table) == 3
    assert table.matrix().shape == (3, len(NAMES))


@pytest.mark.parametrize(
    ("times", "values"),
    [([0], [1]), ([0, 0, 1], [1, 1, 1]), ([0, 2, 1], [1, 1, 1]), ([0, 1], [1, math.inf]), ([0, 1, 2], [1, 2])],
)
def test_impossible_profiles_are_refused(times: list[float], values: list[float]) -> None:
    with pytest.raises(errors.PkNotEvaluable):
        pk_parameters(times, values)


@given(
    rate=st.floats(0.02, 2.0),
    start=st.floats(1e-6, 1e6),
    absorption=st.floats(3.0, 30.0),
    scale=st.floats(1e-3, 1e3),
)
def test_one_compartment_with_absorption(rate: float, start: float, absorption: float, scale: float) -> None:
    """C = A (exp(-k t) - exp(-ka t)): AUC A (1/k - 1/ka); scaling concentrations scales them and nothing else."""
    ka = rate * absorption
    times = np.linspace(0.0, 1.0, 2001) ** 2 * 12.0 / rate
    curve = start * (np.exp(-rate * times) - np.exp(-ka * times))
    table = pk_parameters(times, np.stack([curve, scale * curve]), dose=1.0)
    one, other = table.profile(0).values, table.profile(1).values
    assert one["lambda_z"] == pytest.approx(rate, rel=0.02)
    assert one["auc_0_inf"] == pytest.approx(start * (1 / rate - 1 / ka), rel=1e-3)
    assert one["tmax"] == pytest.approx(math.log(absorption) / (ka - rate), rel=0.05)
    assert other["half_life"] == pytest.approx(one["half_life"], rel=1e-6)
    assert other["auc_0_inf"] == pytest.approx(scale * (one["auc_0_inf"] or 0.0), rel=1e-9)


@given(st.lists(st.floats(0.0, 1e3), min_size=3, max_size=40))
def test_any_profile_gives_json_and_sane_numbers(values: list[float]) -> None:
    result = pk_parameters(range(len(values)), values, dose=5.0).profile()
    text = json.dumps(result.to_dict(), allow_nan=False)
    found = json.loads(text)
    assert found["cmax"] == max(values)
    assert found["auc_0_t"] >= 0
    if found["half_life"] is not None:
        assert found["half_life"] > 0
        assert found["adjusted_r2"] >= 0.98
        assert found["window_points"] >= 3
        assert found["status"] in {"derived", "warning", "suppressed"}
    if found["auc_0_inf"] is not None:
        assert found["auc_0_inf"] >= found["auc_0_t"]
        assert found["extrapolated_percent"] <= 50.0


def test_many_profiles_at_once_are_each_alone() -> None:
    times = np.linspace(0.0, 30.0, 61)
    rates = np.linspace(0.05, 1.5, 40)
    curves = np.exp(-np.outer(rates, times)) * 7.0
    together = pk_parameters(times, curves)
    for index in range(len(rates)):
        assert together.profile(index) == pk_parameters(times, curves[index]).profile()
