"""Small SBML models for tests, written by hand."""

from __future__ import annotations

from functools import cache

from headway.pbpk.catalog import ModelCatalog
from headway.pbpk.roadrunner import RoadRunnerEngine, RoadRunnerModel

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1">'
MATH = '<math xmlns="http://www.w3.org/1998/Math/MathML">{}</math>'


def shipped(name: str) -> str:
    return ModelCatalog().find(name).read()


@cache
def loaded(name: str) -> RoadRunnerModel:
    """A shipped model, compiled once for all tests (a run starts anew each time, which other tests hold)."""
    return RoadRunnerEngine().load(shipped(name))


def explosive() -> str:
    """x' = k x^2 from x = 1: infinite at time 1/k, so no solver gets past it."""
    square = "<apply><times/><ci>k</ci><apply><power/><ci>x</ci><cn>2</cn></apply></apply>"
    return (
        f"{HEAD}<model id='explosive'><listOfParameters>"
        "<parameter id='x' value='1' constant='false'/><parameter id='k' value='1' constant='true'/>"
        f"</listOfParameters><listOfRules><rateRule variable='x'>{MATH.format(square)}</rateRule></listOfRules>"
        "</model></sbml>"
    )


def dosed_by_rate_rule() -> str:
    """A dose that is a parameter under a rate rule (it dissolves), and a start set by an initial assignment."""
    loss = "<apply><minus/><apply><times/><ci>k</ci><ci>PODOSE_x</ci></apply></apply>"
    gain = "<apply><times/><ci>k</ci><ci>PODOSE_x</ci></apply>"
    start = "<apply><times/><cn>2</cn><ci>base</ci></apply>"
    return (
        f"{HEAD}<model id='rated'><listOfParameters>"
        "<parameter id='PODOSE_x' value='0' constant='false'/><parameter id='k' value='1' constant='true'/>"
        "<parameter id='base' value='3' constant='true'/><parameter id='y' value='0' constant='false'/>"
        "</listOfParameters><listOfInitialAssignments>"
        f"<initialAssignment symbol='y'>{MATH.format(start)}</initialAssignment></listOfInitialAssignments>"
        f"<listOfRules><rateRule variable='PODOSE_x'>{MATH.format(loss)}</rateRule>"
        f"<rateRule variable='y'>{MATH.format(gain)}</rateRule></listOfRules></model></sbml>"
    )


def dosed_by_prefixed_initial_assignment() -> str:
    """A = DOSE / 10 at the start, in a document whose elements all carry a namespace prefix."""
    start = (
        '<m:math xmlns:m="http://www.w3.org/1998/Math/MathML">'
        "<m:apply><m:divide/><m:ci>DOSE</m:ci><m:cn>10</m:cn></m:apply></m:math>"
    )
    return (
        '<s:sbml xmlns:s="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1"><s:model id="prefixed">'
        '<s:listOfCompartments><s:compartment id="V" spatialDimensions="3" size="1" constant="true"/>'
        '</s:listOfCompartments><s:listOfSpecies><s:species id="A" compartment="V" initialAmount="0" '
        'hasOnlySubstanceUnits="true" boundaryCondition="false" constant="false"/></s:listOfSpecies>'
        '<s:listOfParameters><s:parameter id="DOSE" value="100" constant="true"/></s:listOfParameters>'
        f'<s:listOfInitialAssignments><s:initialAssignment symbol="A">{start}</s:initialAssignment>'
        "</s:listOfInitialAssignments></s:model></s:sbml>"
    )


def in_compartments(size: float = 10.0, k: float = 5.0) -> str:
    """Species of all the ways to begin in ``V``: amount, concentration, held, counted in amounts, assigned from ``k``."""
    ways = {
        "amount": "initialAmount='30' hasOnlySubstanceUnits='false' boundaryCondition='false' constant='false'",
        "conc": "initialConcentration='2' hasOnlySubstanceUnits='false' boundaryCondition='false' constant='false'",
        "only": "initialConcentration='2' hasOnlySubstanceUnits='true' boundaryCondition='false' constant='false'",
        "assigned": "initialConcentration='7' hasOnlySubstanceUnits='false' boundaryCondition='false' constant='false'",
        "filled": "hasOnlySubstanceUnits='true' boundaryCondition='false' constant='false'",
        "held": "initialConcentration='2' hasOnlySubstanceUnits='false' boundaryCondition='true' constant='true'",
    }
    species = "".join(f"<species id='{name}' compartment='V' {way}/>" for name, way in ways.items())
    return (
        f"{HEAD}<model id='sized'><listOfCompartments>"
        f"<compartment id='V' spatialDimensions='3' size='{size}' constant='true'/></listOfCompartments>"
        f"<listOfSpecies>{species}</listOfSpecies>"
        f"<listOfParameters><parameter id='k' value='{k}' constant='true'/></listOfParameters>"
        f"<listOfInitialAssignments><initialAssignment symbol='assigned'>{MATH.format('<ci>k</ci>')}"
        f"</initialAssignment><initialAssignment symbol='filled'>{MATH.format('<ci>V</ci>')}"
        "</initialAssignment></listOfInitialAssignments></model></sbml>"
    )
