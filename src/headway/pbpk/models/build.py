"""Writes the shipped SBML files from the tables beside it: ``python -m headway.pbpk.models.build``.

The files are kept in the package, so that nothing is generated at run time; a test compares them
with what this script writes. All units are declared, and libsbml's unit check must stay silent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import libsbml

from headway.pbpk.models.drugs import DRUGS, PHYSIOLOGICAL_VARIABILITY, Drug
from headway.pbpk.models.partition import partition_coefficient
from headway.pbpk.models.physiology import (
    ARTERIAL_VOLUME_PER_WEIGHT,
    CARDIAC_OUTPUT_EXPONENT,
    ORGANS,
    REFERENCE_BODY_WEIGHT,
    REFERENCE_CARDIAC_OUTPUT,
    VENOUS_VOLUME_PER_WEIGHT,
    Organ,
)

#: XML namespace of what Headway notes in a model: outputs, doses, bounds, variability.
NAMESPACE = "urn:headway:pbpk:1"

#: Unit definitions: id to (kind, exponent, scale, multiplier) factors.
UNITS: dict[str, tuple[tuple[int, int, int, float], ...]] = {
    "mg": ((libsbml.UNIT_KIND_GRAM, 1, -3, 1.0),),
    "hour": ((libsbml.UNIT_KIND_SECOND, 1, 0, 3600.0),),
    "kg": ((libsbml.UNIT_KIND_KILOGRAM, 1, 0, 1.0),),
    "per_hour": ((libsbml.UNIT_KIND_SECOND, -1, 0, 3600.0),),
    "l_per_hour": ((libsbml.UNIT_KIND_LITRE, 1, 0, 1.0), (libsbml.UNIT_KIND_SECOND, -1, 0, 3600.0)),
    "l_per_hour_kg": (
        (libsbml.UNIT_KIND_LITRE, 1, 0, 1.0),
        (libsbml.UNIT_KIND_SECOND, -1, 0, 3600.0),
        (libsbml.UNIT_KIND_KILOGRAM, -1, 0, 1.0),
    ),
    "l_per_kg": ((libsbml.UNIT_KIND_LITRE, 1, 0, 1.0), (libsbml.UNIT_KIND_KILOGRAM, -1, 0, 1.0)),
    "mg_per_l": ((libsbml.UNIT_KIND_GRAM, 1, -3, 1.0), (libsbml.UNIT_KIND_LITRE, -1, 0, 1.0)),
}

#: Bounds of parameters whose variability does not already give them: (minimum, maximum).
BOUNDS = {"BW": (10.0, 250.0), "fup": (1e-4, 1.0), "Fg": (0.0, 1.0), "fa": (0.0, 1.0), "BP": (0.1, 10.0)}


class _Writer:
    """One SBML model under construction; every call checks libsbml's return code."""

    def __init__(self, drug: Drug) -> None:
        self.drug = drug
        self.document = libsbml.SBMLDocument(3, 1)
        self.model = self.document.createModel()
        _ok(self.model.setId(drug.id))
        _ok(self.model.setName(f"{drug.name}: whole-body PBPK model"))
        _ok(self.model.setTimeUnits("hour"))
        _ok(self.model.setExtentUnits("mg"))
        _ok(self.model.setSubstanceUnits("mg"))
        _ok(self.model.setVolumeUnits("litre"))

    def units(self) -> None:
        for identifier, factors in UNITS.items():
            definition = self.model.createUnitDefinition()
            _ok(definition.setId(identifier))
            for kind, exponent, scale, multiplier in factors:
                unit = definition.createUnit()
                _ok(unit.setKind(kind))
                _ok(unit.setExponent(exponent))
                _ok(unit.setScale(scale))
                _ok(unit.setMultiplier(multiplier))

    def constant(self, identifier: str, name: str, value: float, unit: str) -> None:
        self._parameter(identifier, name, unit, constant=True, value=value)

    def rule(self, identifier: str, name: str, formula: str, unit: str) -> None:
        self._parameter(identifier, name, unit, constant=False, value=None)
        self._assign(identifier, formula)

    def compartment(self, identifier: str, name: str, formula: str) -> None:
        compartment = self.model.createCompartment()
        _ok(compartment.setId(identifier))
        _ok(compartment.setName(name))
        _ok(compartment.setSpatialDimensions(3))
        _ok(compartment.setUnits("litre"))
        _ok(compartment.setConstant(not formula))
        if formula:
            self._assign(identifier, formula)
        else:
            _ok(compartment.setSize(1.0))

    def amount(self, identifier: str, name: str, compartment: str, initial: str = "") -> None:
        species = self.model.createSpecies()
        _ok(species.setId(identifier))
        _ok(species.setName(name))
        _ok(species.setCompartment(compartment))
        _ok(species.setSubstanceUnits("mg"))
        _ok(species.setHasOnlySubstanceUnits(True))
        _ok(species.setBoundaryCondition(False))
        _ok(species.setConstant(False))
        _ok(species.setInitialAmount(0.0))
        if initial:
            assignment = self.model.createInitialAssignment()
            _ok(assignment.setSymbol(identifier))
            _ok(assignment.setMath(_math(initial)))

    def reaction(self, identifier: str, name: str, source: str, target: str, rate: str) -> None:
        reaction = self.model.createReaction()
        _ok(reaction.setId(identifier))
        _ok(reaction.setName(name))
        _ok(reaction.setReversible(False))
        _ok(reaction.setFast(False))
        for species, reference in ((source, reaction.createReactant()), (target, reaction.createProduct())):
            _ok(reference.setSpecies(species))
            _ok(reference.setStoichiometry(1.0))
            _ok(reference.setConstant(True))
        _ok(reaction.createKineticLaw().setMath(_math(rate)))

    def text(self) -> str:
        _ok(self.model.setNotes(_notes(self.drug)))
        _ok(self.model.setAnnotation(_annotation(self.drug)))
        return str(libsbml.writeSBMLToString(self.document))

    def _parameter(self, identifier: str, name: str, unit: str, *, constant: bool, value: float | None) -> None:
        parameter = self.model.createParameter()
        _ok(parameter.setId(identifier))
        _ok(parameter.setName(name))
        _ok(parameter.setUnits(unit))
        _ok(parameter.setConstant(constant))
        if value is not None:
            _ok(parameter.setValue(value))

    def _assign(self, variable: str, formula: str) -> None:
        rule = self.model.createAssignmentRule()
        _ok(rule.setVariable(variable))
        _ok(rule.setMath(_math(formula)))


def build(drug: Drug) -> str:
    """The SBML text (Level 3 Version 1) of the whole-body model of ``drug``."""
    writer = _Writer(drug)
    writer.units()
    _body(writer)
    _drug_parameters(writer)
    _states(writer)
    _transport(writer)
    _fate(writer)
    _outputs(writer)
    return writer.text()


def _body(writer: _Writer) -> None:
    writer.constant("BW", "body weight", REFERENCE_BODY_WEIGHT, "kg")
    writer.constant("BW_ref", "body weight of the reference man", REFERENCE_BODY_WEIGHT, "kg")
    writer.constant("CO_ref", "cardiac output of the reference man", REFERENCE_CARDIAC_OUTPUT, "l_per_hour")
    power = f"pow(BW / BW_ref, {CARDIAC_OUTPUT_EXPONENT} dimensionless)"
    writer.rule("CO", "cardiac output", f"CO_ref * {power}", "l_per_hour")
    writer.constant("FV_art", "arterial blood volume per body weight", ARTERIAL_VOLUME_PER_WEIGHT, "l_per_kg")
    writer.constant("FV_ven", "venous blood volume per body weight", VENOUS_VOLUME_PER_WEIGHT, "l_per_kg")
    writer.compartment("V_art", "arterial blood", "BW * FV_art")
    writer.compartment("V_ven", "venous blood", "BW * FV_ven")
    for organ in ORGANS:
        writer.constant(f"FV_{organ.id}", f"{organ.name}: volume per body weight", organ.volume_per_weight, "l_per_kg")
        writer.compartment(f"V_{organ.id}", organ.name, f"BW * FV_{organ.id}")
    perfused = [organ for organ in ORGANS if organ.flow_fraction is not None]
    for organ in perfused:
        name = f"{organ.name}: arterial blood flow, relative"
        writer.constant(f"FQ_{organ.id}", name, float(organ.flow_fraction or 0.0), "dimensionless")
    total = " + ".join(f"FQ_{organ.id}" for organ in perfused)
    writer.rule("FQ_sum", "sum of the relative flows (each flow is its share of it)", total, "dimensionless")
    for organ in perfused:
        name = f"{organ.name}: arterial blood flow"
        writer.rule(f"Q_{organ.id}", name, f"CO * FQ_{organ.id} / FQ_sum", "l_per_hour")
    drained = " + ".join(f"Q_{organ.id}" for organ in ORGANS if organ.drains_to == "li")
    writer.rule("Q_hv", "blood flow leaving the liver", f"Q_li + {drained}", "l_per_hour")
    writer.compartment("outside", "outside the body (gut lumen, urine, faeces, metabolised)", "")


def _drug_parameters(writer: _Writer) -> None:
    drug = writer.drug
    writer.constant("PODOSE", "oral dose at time zero", drug.oral_dose, "mg")
    writer.constant("IVDOSE", "intravenous dose at time zero, into the venous blood", 0.0, "mg")
    writer.constant("fup", "unbound fraction in plasma", drug.fraction_unbound, "dimensionless")
    writer.constant("BP", "blood to plasma concentration ratio", drug.blood_to_plasma, "dimensionless")
    writer.constant("ka", "absorption rate", drug.absorption_rate, "per_hour")
    writer.constant("fa", "absorbed fraction of the oral dose", drug.fraction_absorbed, "dimensionless")
    writer.constant("Fg", "fraction that passes the gut wall unmetabolised", drug.gut_escape, "dimensionless")
    name = "hepatic intrinsic clearance of unbound drug per body weight"
    writer.constant("CLint", name, _rounded(drug.intrinsic_clearance), "l_per_hour_kg")
    name = "renal clearance from plasma per body weight"
    writer.constant("CLren", name, _rounded(drug.renal_clearance), "l_per_hour_kg")
    for organ in ORGANS:
        value = partition_coefficient(
            organ.composition,
            log_p=drug.log_p,
            fraction_unbound=drug.fraction_unbound,
            pka_base=drug.pka_base,
        )
        name = f"{organ.name}: tissue to plasma concentration ratio"
        writer.constant(f"Kp_{organ.id}", name, _rounded(value), "dimensionless")


def _states(writer: _Writer) -> None:
    name = writer.drug.name.lower()
    writer.amount("A_lumen", f"{name} in the gut lumen", "outside", initial="PODOSE")
    writer.amount("A_ven", f"{name} in venous blood", "V_ven", initial="IVDOSE")
    writer.amount("A_art", f"{name} in arterial blood", "V_art")
    for organ in ORGANS:
        writer.amount(f"A_{organ.id}", f"{name} in {organ.name}", f"V_{organ.id}")
    writer.amount("A_urine", f"{name} in urine, unchanged", "outside")
    writer.amount("A_faeces", f"{name} in faeces, not absorbed", "outside")
    writer.amount("A_met_li", f"{name} metabolised in the liver", "outside")
    writer.amount("A_met_gu", f"{name} metabolised in the gut wall", "outside")
    for identifier, label in (("art", "arterial blood"), ("ven", "venous blood")):
        formula = f"A_{identifier} / V_{identifier}"
        writer.rule(f"C_{identifier}", f"{name}: concentration in {label}", formula, "mg_per_l")
    for organ in ORGANS:
        formula = f"A_{organ.id} / V_{organ.id}"
        writer.rule(f"C_{organ.id}", f"{name}: concentration in {organ.name}", formula, "mg_per_l")


def _transport(writer: _Writer) -> None:
    for organ in ORGANS:
        source, target, flow_in, flow_out = _circulation(organ)
        concentration = f"C_{source}"
        writer.reaction(
            f"in_{organ.id}", f"to {organ.name}", f"A_{source}", f"A_{organ.id}", f"{flow_in} * {concentration}"
        )
        leaving = f"{flow_out} * C_{organ.id} * BP / Kp_{organ.id}"
        writer.reaction(f"out_{organ.id}", f"from {organ.name}", f"A_{organ.id}", f"A_{target}", leaving)


def _circulation(organ: Organ) -> tuple[str, str, str, str]:
    """Where an organ's blood comes from and goes to, and the flows in and out."""
    if organ.flow_fraction is None:
        return "ven", "art", "CO", "CO"
    out = "Q_hv" if organ.id == "li" else f"Q_{organ.id}"
    return "art", organ.drains_to or "ven", f"Q_{organ.id}", out


def _fate(writer: _Writer) -> None:
    writer.reaction("absorption", "absorption through the gut wall", "A_lumen", "A_gu", "ka * fa * Fg * A_lumen")
    wall = "ka * fa * (1 dimensionless - Fg) * A_lumen"
    writer.reaction("gut_wall", "metabolism in the gut wall", "A_lumen", "A_met_gu", wall)
    lost = "ka * (1 dimensionless - fa) * A_lumen"
    writer.reaction("not_absorbed", "passage to the faeces", "A_lumen", "A_faeces", lost)
    hepatic = "CLint * BW * fup * C_li / Kp_li"
    writer.reaction("hepatic", "hepatic metabolism", "A_li", "A_met_li", hepatic)
    writer.reaction("renal", "renal excretion", "A_ki", "A_urine", "CLren * BW * C_ki / Kp_ki")


def _outputs(writer: _Writer) -> None:
    name = writer.drug.name.lower()
    writer.rule("Cp", f"{name}: concentration in venous plasma", "C_ven / BP", "mg_per_l")
    everywhere = ["A_lumen", "A_ven", "A_art", *(f"A_{organ.id}" for organ in ORGANS)]
    everywhere += ["A_urine", "A_faeces", "A_met_li", "A_met_gu"]
    writer.rule("A_total", f"{name}: all of the dose, wherever it is", " + ".join(everywhere), "mg")


def _notes(drug: Drug) -> str:
    lines = [
        (
            f"<p>{escape(drug.name)}, adult man: twelve flow-limited tissues and two pools of blood, oral and intravenous dose, "
            "well-stirred liver, renal excretion. Time in hours, amounts in mg, volumes in litres.</p>"
        ),
        (
            "<p>Physiology: ICRP Publication 89, Ann. ICRP 32 (3-4), 2002. Partition coefficients: "
            "T. Rodgers, M. Rowland, J. Pharm. Sci. 95 (2006) 1238-1257.</p>"
        ),
        "<ul>",
        *(f"<li>{escape(what)}: {escape(source)}</li>" for what, source in drug.sources),
        "</ul>",
        "<p>For research and teaching; not for decisions about patients. Apache-2.0.</p>",
    ]
    return f'<body xmlns="http://www.w3.org/1999/xhtml">{"".join(lines)}</body>'


def _annotation(drug: Drug) -> str:
    everything = (*PHYSIOLOGICAL_VARIABILITY, *drug.variability)
    lines = [
        f'<pbpk:model xmlns:pbpk="{NAMESPACE}" drug={quoteattr(drug.name)} molarMass="{drug.molar_mass}">',
        '<pbpk:output id="Cp" default="true"/>',
        '<pbpk:dose parameter="PODOSE" route="oral"/>',
        '<pbpk:dose parameter="IVDOSE" route="iv"/>',
        *(f'<pbpk:bounds parameter="{key}" min="{low}" max="{high}"/>' for key, (low, high) in BOUNDS.items()),
        *(
            f'<pbpk:variability parameter="{item.parameter}" distribution="lognormal" cv="{item.cv}" '
            f'min="{item.minimum}" max="{item.maximum}"/>'
            for item in everything
        ),
        "</pbpk:model>",
    ]
    return "".join(lines)


def _rounded(value: float) -> float:
    """Four significant digits: what the sources support, and the same on every machine."""
    return float(f"{value:.4g}")


def _math(formula: str) -> Any:
    tree = libsbml.parseL3Formula(formula)
    if tree is None:
        raise ValueError(f"formula {formula!r}: {libsbml.getLastParseL3Error()}")
    return tree


def _ok(code: int) -> None:
    if code != libsbml.LIBSBML_OPERATION_SUCCESS:
        raise ValueError(f"libsbml refused: {libsbml.OperationReturnValue_toString(code)}")


def main() -> None:
    """Write every shipped model beside this script."""
    for drug in DRUGS:
        path = Path(__file__).with_name(f"{drug.id}.xml")
        path.write_text(build(drug), encoding="utf-8")


if __name__ == "__main__":
    main()
