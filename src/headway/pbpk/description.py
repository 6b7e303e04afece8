"""What a model is made of, as plain values: the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from headway.pbpk import errors
from headway.pbpk.checks import is_number
from headway.pbpk.sampling import Covariate

#: ``unknown`` where the model declares no unit: a state of its own, never read as dimensionless.
UNIT_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Parameter:
    """One number of a model.

    Attributes:
        path: its identifier in the model; what every call names it by.
        name: its name for people, or the path again.
        value: as the model gives it; ``None`` where the model leaves it to a rule.
        unit: readable by pint, or ``unknown``.
        constant: whether the model keeps it constant over time.
        rule: the formula that computes it, or ``None`` where it may be set.
        minimum: least allowed value in its unit, or ``None``.
        maximum: greatest allowed value in its unit, or ``None``.
    """

    path: str
    name: str
    value: float | None
    unit: str
    constant: bool
    rule: str | None = None
    minimum: float | None = None
    maximum: float | None = None

    @property
    def settable(self) -> bool:
        """Whether it may be set: no rule computes it."""
        return self.rule is None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": self.path,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "constant": self.constant,
            "settable": self.settable,
            "rule": self.rule,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }


@dataclass(frozen=True)
class Output:
    """One quantity that a simulation can report over time.

    Attributes:
        path: how a request names it: an identifier, or ``[species]`` for a concentration.
        name: for people, or the path again.
        unit: readable by pint, or ``unknown``.
        kind: ``concentration``, ``amount``, ``volume`` or ``value`` (a parameter).
    """

    path: str
    name: str
    unit: str
    kind: Literal["concentration", "amount", "volume", "value"]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"path": self.path, "name": self.name, "unit": self.unit, "kind": self.kind}


@dataclass(frozen=True)
class Dose:
    """A parameter that holds a dose.

    Attributes:
        parameter: its path.
        route: ``oral``, ``iv`` or ``unknown``.
    """

    parameter: str
    route: str


@dataclass(frozen=True)
class ModelDescription:
    """Everything that can be said of a model without running it.

    Attributes:
        name: identifier of the model, or the name of its file.
        title: its name for people.
        hash: ``sha256:`` and the digest of its canonical text (see ``sbml.model_hash``).
        time_unit: readable by pint, or ``unknown``.
        parameters: in the order of the model.
        outputs: in the order of the model.
        doses: parameters that hold doses.
        default_output: path of the output to show first, or ``None``.
        variability: default differences between people, for populations.
        molar_mass: of the drug, g/mol, or ``None``.
        warnings: what a reader of the model should know (for example, units that are missing).
    """

    name: str
    title: str
    hash: str
    time_unit: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[Output, ...]
    doses: tuple[Dose, ...] = ()
    default_output: str | None = None
    variability: tuple[Covariate, ...] = ()
    molar_mass: float | None = None
    warnings: tuple[str, ...] = ()
    _parameter_index: dict[str, int] = field(init=False, repr=False, compare=False)
    _output_index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parameter_index", {item.path: i for i, item in enumerate(self.parameters)})
        object.__setattr__(self, "_output_index", {item.path: i for i, item in enumerate(self.outputs)})

    def parameter(self, path: str) -> Parameter:
        """The parameter of that path.

        Raises:
            UnknownParameter: there is none; the error names similar ones.
        """
        index = self._parameter_index.get(path)
        if index is None:
            raise errors.unknown_parameter(path, self._parameter_index)
        return self.parameters[index]

    def output(self, path: str) -> Output:
        """The output of that path.

        Raises:
            UnknownOutput: there is none; the error names similar ones.
        """
        index = self._output_index.get(path)
        if index is None:
            raise errors.unknown_output(path, self._output_index)
        return self.outputs[index]

    def checked(self, path: str, value: float) -> float:
        """``value`` (in the parameter's own unit) if the parameter may be set to it.

        Negative values are refused unless the model's own value is negative or its bounds allow them:
        solvers answer a negative weight or volume with an obscure failure.

        Raises:
            UnknownParameter: no such parameter.
            ParameterSetByRule: a rule computes it.
            InvalidParameterValue: not a finite number, negative, or out of the model's bounds.
        """
        parameter = self.parameter(path)
        if parameter.rule is not None:
            raise errors.ParameterSetByRule(
                f"Parameter {path!r} cannot be set: {_why_fixed(parameter.rule)}.",
                parameter=path,
                rule=parameter.rule,
            )
        if not is_number(value):
            raise _refused(parameter, value, "a finite number", bare=True)
        signed = parameter.value is not None and parameter.value < 0
        minimum = parameter.minimum if parameter.minimum is not None or signed else 0.0
        if minimum is not None and value < minimum:
            raise _refused(parameter, value, f"at least {minimum:g}")
        if parameter.maximum is not None and value > parameter.maximum:
            raise _refused(parameter, value, f"at most {parameter.maximum:g}")
        return float(value)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "hash": self.hash,
            "time_unit": self.time_unit,
            "parameters": [item.to_dict() for item in self.parameters],
            "outputs": [item.to_dict() for item in self.outputs],
            "doses": [{"parameter": dose.parameter, "route": dose.route} for dose in self.doses],
            "default_output": self.default_output,
            "variability": [item.to_dict() for item in self.variability],
            "molar_mass": self.molar_mass,
            "warnings": list(self.warnings),
        }


def _refused(parameter: Parameter, value: object, expected: str, *, bare: bool = False) -> errors.InvalidParameterValue:
    unit = "" if parameter.unit in {UNIT_UNKNOWN, "dimensionless"} else f" {parameter.unit}"
    return errors.InvalidParameterValue(
        f"Parameter {parameter.path!r}: expected {expected}{'' if bare else unit}, got {value!r}.",
        hint=f"The model's own value is {parameter.value!r}{unit}.",
        parameter=parameter.path,
        # NaN and infinity are no JSON values, so the refused value travels as text.
        value=str(value),
        minimum=parameter.minimum,
        maximum=parameter.maximum,
    )


def _why_fixed(rule: str) -> str:
    return rule if rule.startswith("the starting value of ") else f"it is computed by the model as {rule}"
