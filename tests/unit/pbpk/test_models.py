"""The shipped models: as their script writes them, sound in units and mass, and near to published studies."""

from __future__ import annotations

import re

import libsbml
import numpy as np
import pytest

from headway.pbpk import sbml
from headway.pbpk.models.build import build
from headway.pbpk.models.drugs import CAFFEINE, DRUGS, Drug
from headway.pbpk.models.partition import TISSUES, partition_coefficient
from headway.pbpk.models.physiology import ORGANS
from headway.pbpk.simulation import run_simulation
from headway.pbpk.times import dosing_grid
from tests.unit.pbpk.sbml_texts import loaded, shipped

NAMES = [drug.id for drug in DRUGS]

# (model, dose parameters, body weight, quantity, published mean, its unit as a factor of mg/L, source)
PUBLISHED = [
    # M. M. Hammami et al., Trials 11 (2010) 110, Table 4: 300 mg by mouth, 22 volunteers (described as caffeine).
    ("caffeine", {"PODOSE": 300.0}, "cmax", 7.2),
    ("caffeine", {"PODOSE": 300.0}, "auc_0_inf", 82.8),
    ("caffeine", {"PODOSE": 300.0}, "half_life", 6.3),
    # J. Blanchard, S. J. A. Sawers, Eur. J. Clin. Pharmacol. 24 (1983) 93-98: 5 mg/kg by mouth, 10 men.
    ("caffeine", {"PODOSE": 5.0 * 73.0}, "cmax", 10.0),
    # S. Palovaara et al., Br. J. Clin. Pharmacol. 50 (2000) 333-337, Table 1: 7.5 mg by mouth, 9 women, placebo phase.
    ("midazolam", {"PODOSE": 7.5}, "cmax", 0.031),
    ("midazolam", {"PODOSE": 7.5}, "auc_0_inf", 0.060),
    # L. Schrier et al., Br. J. Clin. Pharmacol. 83 (2017) 721-731, Table 1: 2.5 mg intravenously.
    ("midazolam", {"PODOSE": 0.0, "IVDOSE": 2.5}, "auc_0_inf", 0.0939),
    # R. Schwagmeier, S. Alincic, H. W. Striebel, Br. J. Clin. Pharmacol. 46 (1998) 203-206: 5 mg intravenously.
    ("midazolam", {"PODOSE": 0.0, "IVDOSE": 5.0}, "auc_0_inf", 15.016 / 60.0),
]


@pytest.mark.parametrize("drug", DRUGS, ids=NAMES)
def test_the_file_is_what_the_script_writes(drug: Drug) -> None:
    assert shipped(drug.id) == build(drug)


@pytest.mark.parametrize("name", NAMES)
def test_libsbml_finds_nothing_not_even_in_the_units(name: str) -> None:
    document = libsbml.readSBMLFromString(shipped(name))
    document.setConsistencyChecks(libsbml.LIBSBML_CAT_UNITS_CONSISTENCY, True)
    assert document.checkConsistency() == 0, document.getErrorLog().toString()
    assert sbml.problems(shipped(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_unit_and_every_flow_arrives(name: str) -> None:
    model = loaded(name)
    assert {item.unit for item in model.description.parameters} >= {"kg", "L/h", "mg", "1/h"}
    assert not [item.path for item in model.description.parameters if item.unit == "unknown"]
    flows = [f"Q_{organ.id}" for organ in ORGANS if organ.flow_fraction is not None]
    values = model.initial_values({"BW": 90.0, "FQ_gu": 0.25}, [*flows, "CO", "V_li", "Q_hv"])
    assert sum(values[flow] for flow in flows) == pytest.approx(values["CO"], rel=1e-12)
    assert values["CO"] == pytest.approx(390.0 * (90.0 / 73.0) ** 0.75)
    assert values["V_li"] == pytest.approx(90.0 * 0.02371)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_or_made(name: str) -> None:
    times = dosing_grid(72.0, 300)
    series = loaded(name).simulate({"PODOSE": 100.0, "IVDOSE": 40.0, "Fg": 0.6, "fa": 0.9}, times, ["A_total"])
    np.testing.assert_allclose(series, 140.0, rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_dose_is_twice_the_concentration(name: str) -> None:
    times = dosing_grid(24.0, 100)
    once = loaded(name).simulate({"PODOSE": 10.0}, times, ["Cp"])
    twice = loaded(name).simulate({"PODOSE": 20.0}, times, ["Cp"])
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(("name", "dose", "quantity", "published"), PUBLISHED)
def test_within_two_fold_of_published_studies(
    name: str, dose: dict[str, float], quantity: str, published: float
) -> None:
    result = run_simulation(loaded(name), dose, dosing_grid(72.0, 721))
    value = result.pk["Cp"].values[quantity]
    assert value is not None
    assert 0.5 < value / published < 2.0, f"{quantity} {value:.4g} against {published:.4g}"


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    # Smith et al. 1981: 0.36 (sd 0.09). Blanchard and Sawers 1983: complete.
    [("midazolam", 0.36, 0.10), ("caffeine", 1.0, 0.10)],
)
def test_bioavailability_is_as_published(name: str, published: float, tolerance: float) -> None:
    times = dosing_grid(96.0, 961)
    model = loaded(name)
    oral = run_simulation(model, {"PODOSE": 5.0}, times).pk["Cp"].values["auc_0_inf"]
    venous = run_simulation(model, {"PODOSE": 0.0, "IVDOSE": 5.0}, times).pk["Cp"].values["auc_0_inf"]
    assert oral is not None
    assert venous is not None
    assert oral / venous == pytest.approx(published, abs=tolerance)


def test_partition_coefficients_by_hand() -> None:
    # A drug of log P 0 that is neither ionised nor bound: water, lipid and nothing else.
    value = partition_coefficient("muscle", log_p=0.0, fraction_unbound=1.0, pka_base=None)
    assert value == pytest.approx(0.118 + 0.630 + 0.0100 + 0.0072)
    # Adipose of a lipophilic drug is its neutral lipid times the oil to water coefficient, nearly.
    oil = 10 ** (1.115 * 4.0 - 1.35)
    adipose = partition_coefficient("adipose", log_p=4.0, fraction_unbound=1.0, pka_base=None)
    assert adipose == pytest.approx(0.853 * oil, rel=0.01)


@pytest.mark.parametrize("tissue", TISSUES)
def test_a_very_weak_base_is_as_if_not_ionised(tissue: str) -> None:
    drug = {"log_p": CAFFEINE.log_p, "fraction_unbound": CAFFEINE.fraction_unbound}
    as_base = partition_coefficient(tissue, pka_base=1.4, **drug)
    assert as_base == pytest.approx(partition_coefficient(tissue, pka_base=CAFFEINE.pka_base, **drug), rel=1e-5)


def test_albumin_holds_as_much_of_caffeine_as_the_reference_page_says() -> None:
    bound = 1.0 / CAFFEINE.fraction_unbound - 1.0
    octanol = 10.0**CAFFEINE.log_p
    in_lipid = octanol * 0.0023 + (0.3 * octanol + 0.7) * 0.0013
    shares = {
        tissue: CAFFEINE.fraction_unbound
        * (bound - in_lipid)
        * body.albumin_ratio
        / partition_coefficient(
            tissue, log_p=CAFFEINE.log_p, fraction_unbound=CAFFEINE.fraction_unbound, pka_base=CAFFEINE.pka_base
        )
        for tissue, body in TISSUES.items()
    }
    assert min(shares, key=lambda tissue: shares[tissue]) == "brain"
    assert max(shares, key=lambda tissue: shares[tissue]) == "skin"
    found = [round(shares[tissue], 2) for tissue in ("brain", "muscle", "skin")]
    assert found == [0.03, 0.04, 0.16]


@pytest.mark.parametrize("name", NAMES)
def test_the_notes_name_the_sources(name: str) -> None:
    text = shipped(name)
    assert "ICRP Publication 89" in text
    assert len(re.findall(r"<li>", text)) >= 5
