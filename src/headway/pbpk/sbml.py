"""Reads SBML with libsbml alone: validates it, and says what is in it, without running it."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Literal

from headway.pbpk import errors
from headway.pbpk.description import UNIT_UNKNOWN, Dose, ModelDescription, Output, Parameter
from headway.pbpk.sampling import Covariate
from headway.pbpk.sbml_units import unit_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

#: Namespace of Headway's annotation (see docs/reference/pbpk-models.md).
NAMESPACE = "urn:headway:pbpk:1"

#: At most so many findings are reported of one file.
MAX_PROBLEMS = 50

_DOSE_NAME = re.compile(r"^(PO|ORAL|IV|SC|IM)?_?DOSE(?:_|$)", re.IGNORECASE)
_CONCENTRATION = re.compile(r"^\w*(g|mol)/(\w*L|\w*m\*\*3)$")


def libsbml_module() -> ModuleType:
    """The module ``libsbml``.

    Raises:
        PbpkNotInstalled: the package python-libsbml is missing.
    """
    try:
        import libsbml
    except ImportError as error:
        raise errors.PbpkNotInstalled("SBML models need the package python-libsbml, which is not installed.") from error
    module: ModuleType = libsbml
    return module


def canonical_text(sbml: str) -> str:
    """The text that is hashed and stored: line ends as LF, no byte order mark, one LF at the end."""
    return sbml.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").strip() + "\n"


def model_hash(sbml: str) -> str:
    """``sha256:`` and the hexadecimal digest of the canonical text."""
    return "sha256:" + hashlib.sha256(canonical_text(sbml).encode()).hexdigest()


def describe(sbml: str, name: str = "") -> ModelDescription:
    """Validate a model and say what is in it.

    Args:
        sbml: the text of an SBML document, any level.
        name: what to call it; the model's own identifier when empty.

    Returns:
        Its parameters, outputs, doses, units and hash.

    Raises:
        InvalidModel: not SBML, or libsbml finds errors in it; ``problems`` lists them.
        PbpkNotInstalled: libsbml is missing.
    """
    libsbml = libsbml_module()
    document, warnings = _validated(libsbml, sbml)
    model = document.getModel()
    note = _Annotation(model)
    parameters = tuple(_parameters(libsbml, model, note))
    outputs = tuple(_outputs(libsbml, model))
    unknown = sum(item.unit == UNIT_UNKNOWN for item in parameters)
    if unknown:
        warnings.append(f"{unknown} of {len(parameters)} parameters have no unit that is known.")
    settable = {item.path for item in parameters if item.settable}
    return ModelDescription(
        name=name or model.getId() or "model",
        title=model.getName() or model.getId() or name or "model",
        hash=model_hash(sbml),
        time_unit=_time_unit(libsbml, model),
        parameters=parameters,
        outputs=outputs,
        doses=note.doses() or _named_doses(settable),
        default_output=note.default_output(),
        variability=note.variability(),
        molar_mass=note.molar_mass(),
        warnings=tuple(warnings),
    )


def problems(sbml: str) -> list[dict[str, Any]]:
    """What libsbml finds wrong, errors and warnings, without raising.

    Returns:
        Findings with ``line``, ``severity``, ``code`` and ``message``; empty for a clean model.
    """
    libsbml = libsbml_module()
    document = libsbml.readSBMLFromString(canonical_text(sbml))
    if not document.getNumErrors(libsbml.LIBSBML_SEV_ERROR) and not document.getNumErrors(libsbml.LIBSBML_SEV_FATAL):
        document.checkConsistency()
    return list(_findings(document))


def starting_concentrations(sbml: str) -> dict[str, tuple[str, ...]]:
    """Species that start with a concentration, whatever the size of their compartment.

    Args:
        sbml: the text of a valid model.

    Returns:
        By compartment its species with an initial concentration, or an initial assignment of one.

    Raises:
        PbpkNotInstalled: libsbml is missing.
    """
    document = libsbml_module().readSBMLFromString(canonical_text(sbml))
    model = document.getModel()
    found: dict[str, list[str]] = {}
    for index in range(model.getNumSpecies()):
        item = model.getSpecies(index)
        assigned = model.getInitialAssignmentBySymbol(item.getId()) is not None
        ruled = model.getAssignmentRuleByVariable(item.getId()) is not None
        by_concentration = not item.getHasOnlySubstanceUnits() if assigned else item.isSetInitialConcentration()
        if by_concentration and not ruled:
            found.setdefault(item.getCompartment(), []).append(item.getId())
    return {compartment: tuple(species) for compartment, species in found.items()}


def _validated(libsbml: ModuleType, sbml: str) -> tuple[Any, list[str]]:
    text = canonical_text(sbml)
    # A document type brings entities, which can name files or grow without end; SBML needs none.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise errors.InvalidModel(
            "The file declares a document type or entities, which SBML does not use.", problems=[]
        )
    document = libsbml.readSBMLFromString(text)
    document.setConsistencyChecks(libsbml.LIBSBML_CAT_MODELING_PRACTICE, False)
    serious = _serious(libsbml, document)
    if not serious:
        document.checkConsistency()
        serious = _serious(libsbml, document)
    found = list(_findings(document))
    if serious or document.getModel() is None:
        grave = [item for item in found if item["severity"] in {"Error", "Fatal"}][:MAX_PROBLEMS]
        first = f"line {grave[0]['line']}: {grave[0]['message']}" if grave else "it has no model"
        raise errors.InvalidModel(
            f"The model is not valid SBML ({max(serious, 1)} errors). First, {first}", problems=grave
        )
    return document, [item["message"] for item in found if item["severity"] == "Warning"][:MAX_PROBLEMS]


def _serious(libsbml: ModuleType, document: Any) -> int:
    count: int = document.getNumErrors(libsbml.LIBSBML_SEV_ERROR) + document.getNumErrors(libsbml.LIBSBML_SEV_FATAL)
    return count


def _findings(document: Any) -> Iterator[dict[str, Any]]:
    for index in range(document.getNumErrors()):
        finding = document.getError(index)
        yield {
            "line": finding.getLine(),
            "severity": finding.getSeverityAsString(),
            "code": finding.getErrorId(),
            "message": " ".join(finding.getMessage().split())[:500],
        }


def _time_unit(libsbml: ModuleType, model: Any) -> str:
    if model.getLevel() < 3 and not model.getUnitDefinition("time"):
        return "s"
    identifier = model.getTimeUnits() if model.getLevel() >= 3 else "time"
    definition = model.getUnitDefinition(identifier)
    if definition is not None:
        return unit_text(libsbml, definition)
    return "s" if identifier == "second" else UNIT_UNKNOWN


def _rules(libsbml: ModuleType, model: Any) -> dict[str, str]:
    """Formulas of everything that the model computes, by identifier."""
    formulas = {}
    for index in range(model.getNumRules()):
        rule = model.getRule(index)
        if rule.isAssignment():
            formulas[rule.getVariable()] = libsbml.formulaToL3String(rule.getMath())
    for index in range(model.getNumInitialAssignments()):
        assignment = model.getInitialAssignment(index)
        formulas.setdefault(assignment.getSymbol(), libsbml.formulaToL3String(assignment.getMath()))
    for symbol, names in _frozen(libsbml, model).items():
        for name in names:
            formulas.setdefault(name, f"the starting value of {symbol} is computed from it once")
    return formulas


def _frozen(libsbml: ModuleType, model: Any) -> dict[str, set[str]]:
    """What the starting values of parameters and compartments are computed from, by their ids.

    libroadrunner computes such a value when it loads the model and not again when what it depends on is set: the run
    would go on with a number that belongs to other values. So these cannot be set.
    """
    found: dict[str, set[str]] = {}
    for index in range(model.getNumInitialAssignments()):
        assignment = model.getInitialAssignment(index)
        symbol = assignment.getSymbol()
        if model.getSpecies(symbol) is not None or model.getRateRuleByVariable(symbol) is not None:
            continue
        todo, names = _names(libsbml, assignment.getMath()), set[str]()
        while todo:
            name = todo.pop()
            rule = model.getAssignmentRuleByVariable(name)
            if rule is not None and name not in names:
                todo |= _names(libsbml, rule.getMath())
            names.add(name)
        found[symbol] = names - {symbol}
    return found


def _names(libsbml: ModuleType, node: Any) -> set[str]:
    if node is None:
        return set()
    own = {node.getName()} if node.getType() == libsbml.AST_NAME else set()
    return own.union(*(_names(libsbml, node.getChild(place)) for place in range(node.getNumChildren())))


def _parameters(libsbml: ModuleType, model: Any, note: _Annotation) -> Iterator[Parameter]:
    formulas = _rules(libsbml, model)
    bounds = note.bounds()
    for index in range(model.getNumParameters()):
        item = model.getParameter(index)
        minimum, maximum = bounds.get(item.getId(), (None, None))
        yield Parameter(
            path=item.getId(),
            name=item.getName() or item.getId(),
            value=_number(item.getValue(), known=item.isSetValue()),
            unit=unit_text(libsbml, item.getDerivedUnitDefinition()) if item.isSetUnits() else UNIT_UNKNOWN,
            constant=item.getConstant(),
            rule=formulas.get(item.getId()),
            minimum=minimum,
            maximum=maximum,
        )
    for index in range(model.getNumCompartments()):
        item = model.getCompartment(index)
        yield Parameter(
            path=item.getId(),
            name=item.getName() or item.getId(),
            value=_number(item.getSize(), known=item.isSetSize()),
            unit=unit_text(libsbml, item.getDerivedUnitDefinition()),
            constant=item.getConstant(),
            rule=formulas.get(item.getId()),
        )


def _number(value: float, *, known: bool) -> float | None:
    # An SBML number may be NaN, which JSON has no word for and no one can mean as a value.
    return float(value) if known and value == value else None  # noqa: PLR0124


def _outputs(libsbml: ModuleType, model: Any) -> Iterator[Output]:
    for index in range(model.getNumParameters()):
        item = model.getParameter(index)
        if item.getConstant():
            continue
        unit = unit_text(libsbml, item.getDerivedUnitDefinition()) if item.isSetUnits() else UNIT_UNKNOWN
        kind: Literal["concentration", "value"] = "concentration" if _CONCENTRATION.match(unit) else "value"
        yield Output(item.getId(), item.getName() or item.getId(), unit, kind)
    for index in range(model.getNumSpecies()):
        item = model.getSpecies(index)
        name = item.getName() or item.getId()
        yield Output(
            f"[{item.getId()}]", f"{name}, concentration", _concentration_unit(libsbml, model, item), "concentration"
        )
        yield Output(item.getId(), f"{name}, amount", _substance_unit(libsbml, model, item), "amount")
    for index in range(model.getNumCompartments()):
        item = model.getCompartment(index)
        if not item.getConstant():
            unit = unit_text(libsbml, item.getDerivedUnitDefinition())
            yield Output(item.getId(), item.getName() or item.getId(), unit, "volume")


def _substance_unit(libsbml: ModuleType, model: Any, species: Any) -> str:
    identifier = species.getSubstanceUnits() or (model.getSubstanceUnits() if model.getLevel() >= 3 else "substance")
    definition = model.getUnitDefinition(identifier)
    if definition is not None:
        return unit_text(libsbml, definition)
    kinds = {"mole": "mol", "gram": "g", "kilogram": "kg", "item": "count", "dimensionless": "dimensionless"}
    default = "mol" if model.getLevel() < 3 else UNIT_UNKNOWN
    return kinds.get(identifier, default)


def _concentration_unit(libsbml: ModuleType, model: Any, species: Any) -> str:
    substance = _substance_unit(libsbml, model, species)
    compartment = model.getCompartment(species.getCompartment())
    volume = unit_text(libsbml, compartment.getDerivedUnitDefinition())
    if UNIT_UNKNOWN in {substance, volume} or "/" in volume or "*" in volume.replace("**", ""):
        return UNIT_UNKNOWN
    return substance if volume == "dimensionless" else f"{substance}/{volume}"


def _named_doses(settable: set[str]) -> tuple[Dose, ...]:
    """Doses of a model without our annotation, by the usual names (PODOSE_x, IVDOSE, dose)."""
    found = []
    for path in sorted(settable):
        match = _DOSE_NAME.match(path)
        if match:
            prefix = (match.group(1) or "").lower()
            found.append(Dose(path, {"po": "oral", "oral": "oral", "iv": "iv"}.get(prefix, "unknown")))
    return tuple(found)


class _Annotation:
    """Headway's own notes in a model, if it has any; what is malformed is left out."""

    def __init__(self, model: Any) -> None:
        self._root: Any = None
        annotation = model.getAnnotation()
        for index in range(annotation.getNumChildren() if annotation is not None else 0):
            child = annotation.getChild(index)
            if child.getURI() == NAMESPACE and child.getName() == "model":
                self._root = child

    def _children(self, name: str) -> Iterator[Any]:
        for index in range(self._root.getNumChildren() if self._root is not None else 0):
            child = self._root.getChild(index)
            if child.getName() == name:
                yield child

    def doses(self) -> tuple[Dose, ...]:
        return tuple(
            Dose(item.getAttrValue("parameter"), item.getAttrValue("route") or "unknown")
            for item in self._children("dose")
        )

    def default_output(self) -> str | None:
        for item in self._children("output"):
            if item.getAttrValue("default") == "true":
                return str(item.getAttrValue("id"))
        return None

    def molar_mass(self) -> float | None:
        return _attribute(self._root, "molarMass") if self._root is not None else None

    def bounds(self) -> dict[str, tuple[float | None, float | None]]:
        return {
            item.getAttrValue("parameter"): (_attribute(item, "min"), _attribute(item, "max"))
            for item in self._children("bounds")
        }

    def variability(self) -> tuple[Covariate, ...]:
        found = []
        for item in self._children("variability"):
            values = {key: _attribute(item, key) for key in ("mean", "cv", "sd", "min", "max")}
            known = {key: value for key, value in values.items() if value is not None}
            distribution = item.getAttrValue("distribution") or "lognormal"
            found.append(
                Covariate.from_dict({"path": item.getAttrValue("parameter"), "distribution": distribution, **known})
            )
        return tuple(found)


def _attribute(item: Any, name: str) -> float | None:
    try:
        return float(item.getAttrValue(name))
    except ValueError:
        return None
