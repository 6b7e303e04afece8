"""Reading SBML: what is in a model, and a clear refusal of what is none."""

from __future__ import annotations

from typing import Any

import pint
import pytest

from headway.pbpk import errors, sbml
from headway.pbpk.description import UNIT_UNKNOWN
from tests.unit.pbpk.sbml_texts import HEAD, MATH, dosed_by_rate_rule, explosive, shipped


def test_a_shipped_model_is_described() -> None:
    description = sbml.describe(shipped("caffeine"))
    assert description.name == "caffeine"
    assert description.time_unit == "h"
    assert description.default_output == "Cp"
    assert [(dose.parameter, dose.route) for dose in description.doses] == [("PODOSE", "oral"), ("IVDOSE", "iv")]
    weight = description.parameter("BW")
    assert (weight.value, weight.unit, weight.settable) == (73.0, "kg", True)
    assert (weight.minimum, weight.maximum) == (10.0, 250.0)
    volume = description.parameter("V_li")
    assert not volume.settable
    assert volume.rule == "BW * FV_li"
    assert description.output("Cp").unit == "mg/L"
    assert description.output("[A_li]").kind == "concentration"
    assert description.output("A_li").unit == "mg"
    assert {item.path for item in description.variability} >= {"BW", "CLint", "ka"}
    assert description.molar_mass == pytest.approx(194.19)


def test_every_unit_is_one_that_pint_reads() -> None:
    registry: pint.UnitRegistry[Any] = pint.UnitRegistry()
    for name in ("caffeine", "midazolam"):
        description = sbml.describe(shipped(name))
        for unit in {*(item.unit for item in description.parameters), *(item.unit for item in description.outputs)}:
            registry.Unit(unit)


def test_unknown_units_are_a_state_of_their_own() -> None:
    description = sbml.describe(explosive())
    assert description.parameter("k").unit == UNIT_UNKNOWN
    assert description.time_unit == UNIT_UNKNOWN
    assert "2 of 2 parameters have no unit" in description.warnings[-1]


def test_doses_are_found_by_name_in_models_that_are_not_ours() -> None:
    description = sbml.describe(dosed_by_rate_rule())
    assert [(dose.parameter, dose.route) for dose in description.doses] == [("PODOSE_x", "oral")]
    # A rate rule gives a start that may be set; an initial assignment computes it.
    assert description.parameter("PODOSE_x").settable
    assert not description.parameter("y").settable


def test_units_of_older_levels_and_odd_scales() -> None:
    units = (
        "<listOfUnitDefinitions>"
        "<unitDefinition id='ml_min'><listOfUnits>"
        "<unit kind='litre' exponent='1' scale='-3' multiplier='1'/>"
        "<unit kind='second' exponent='-1' scale='0' multiplier='60'/></listOfUnits></unitDefinition>"
        "<unitDefinition id='dm3'><listOfUnits>"
        "<unit kind='metre' exponent='3' scale='-1' multiplier='1'/></listOfUnits></unitDefinition>"
        "<unitDefinition id='odd'><listOfUnits>"
        "<unit kind='second' exponent='1' scale='0' multiplier='7'/></listOfUnits></unitDefinition>"
        "</listOfUnitDefinitions>"
    )
    parameters = "".join(
        f"<parameter id='p{index}' value='1' units='{unit}' constant='true'/>"
        for index, unit in enumerate(("ml_min", "dm3", "odd", "dimensionless", "mole"))
    )
    text = f"{HEAD}<model id='m'>{units}<listOfParameters>{parameters}</listOfParameters></model></sbml>"
    found = [item.unit for item in sbml.describe(text).parameters]
    assert found == ["mL/min", "dm**3", UNIT_UNKNOWN, "dimensionless", "mol"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml at all",
        "<html><body/></html>",
        HEAD + "</sbml>",
        HEAD + "<model id='m'><listOfParameters><parameter id='a' constant='true'/>",
    ],
)
def test_what_is_no_sbml_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidModel) as caught:
        sbml.describe(text)
    assert caught.value.code == "invalid_model"
    assert caught.value.hint


def test_an_inconsistent_model_is_refused_with_line_and_reason() -> None:
    rule = MATH.format("<ci>missing</ci>")
    text = (
        f"{HEAD}<model id='m'><listOfParameters>\n<parameter id='a' constant='false'/>\n"
        f"<parameter id='a' constant='false'/></listOfParameters>"
        f"<listOfRules><assignmentRule variable='a'>{rule}</assignmentRule></listOfRules></model></sbml>"
    )
    with pytest.raises(errors.InvalidModel) as caught:
        sbml.describe(text)
    problems = caught.value.details["problems"]
    assert problems
    assert all(item["line"] > 0 and item["message"] for item in problems)


def test_entities_are_refused_before_anything_reads_them() -> None:
    bomb = '<!DOCTYPE sbml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + HEAD + "</sbml>"
    with pytest.raises(errors.InvalidModel, match="document type"):
        sbml.describe(bomb)


def test_the_hash_is_of_the_model_and_not_of_its_line_ends() -> None:
    text = shipped("caffeine")
    assert sbml.model_hash(text) == sbml.model_hash("\ufeff" + text.replace("\n", "\r\n") + "\n\n")
    assert sbml.model_hash(text) != sbml.model_hash(text.replace("4.94", "4.95"))
    assert sbml.model_hash(text).startswith("sha256:")


def test_a_description_is_json() -> None:
    import json

    text = json.dumps(sbml.describe(shipped("midazolam")).to_dict(), allow_nan=False)
    assert len(json.loads(text)["parameters"]) > 80
