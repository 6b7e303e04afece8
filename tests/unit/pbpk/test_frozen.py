"""Values that a starting value is computed from once."""

from __future__ import annotations

import pytest

from headway.pbpk import sbml
from headway.pbpk.errors import ParameterSetByRule
from tests.unit.pbpk.sbml_texts import HEAD, MATH, shipped


def _model() -> str:
    product = MATH.format("<apply><times/><ci>k2</ci><ci>V</ci></apply>")
    double = MATH.format("<apply><times/><cn>2</cn><ci>k</ci></apply>")
    return (
        f"{HEAD}<model id='frozen'><listOfCompartments>"
        "<compartment id='V' size='10' constant='true' spatialDimensions='3'/></listOfCompartments>"
        "<listOfSpecies><species id='A' compartment='V' initialAmount='1' hasOnlySubstanceUnits='true'"
        " boundaryCondition='false' constant='false'/></listOfSpecies>"
        "<listOfParameters><parameter id='k' value='5' constant='true'/><parameter id='free' value='1' constant='true'/>"
        "<parameter id='k2' constant='false'/><parameter id='p' value='1' constant='false'/></listOfParameters>"
        f"<listOfInitialAssignments><initialAssignment symbol='p'>{product}</initialAssignment>"
        "</listOfInitialAssignments>"
        f"<listOfRules><assignmentRule variable='k2'>{double}</assignmentRule></listOfRules></model></sbml>"
    )


@pytest.mark.parametrize("path", ["k", "V", "k2", "p"])
def test_what_a_starting_value_was_computed_from_cannot_be_set(path: str) -> None:
    description = sbml.describe(_model())
    with pytest.raises(ParameterSetByRule, match="cannot be set"):
        description.checked(path, 6.0)


def test_what_it_was_not_computed_from_can_be() -> None:
    assert sbml.describe(_model()).checked("free", 6.0) == 6.0


@pytest.mark.parametrize("name", ["caffeine", "midazolam"])
def test_the_shipped_models_have_nothing_of_the_kind(name: str) -> None:
    rules = [parameter.rule or "" for parameter in sbml.describe(shipped(name)).parameters]
    assert not any(rule.startswith("the starting value of ") for rule in rules)
