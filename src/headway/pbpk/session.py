"""A simulation session as plain data: which model, and which parameters were changed.

Sessions live in the store; a job takes a copy of one, so that a run that is recovered after a crash has the
same model (by its hash) and the same parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from headway.pbpk import errors, units
from headway.pbpk.checks import is_number
from headway.pbpk.description import ModelDescription

UpdateMode = Literal["absolute", "relative"]

#: What a session's id looks like.
SIMULATION_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")

_MAX_COMMENT = 1000


@dataclass(frozen=True)
class Override:
    """A parameter that was set.

    Attributes:
        path: the parameter.
        value: in the parameter's own unit.
        unit: the parameter's own unit.
        updated_at: UTC microseconds since the epoch.
        comment: why, in the words of whoever set it.
    """

    path: str
    value: float
    unit: str
    updated_at: int
    comment: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": self.path,
            "value": self.value,
            "unit": self.unit,
            "updated_at": self.updated_at,
            "comment": self.comment,
        }


@dataclass(frozen=True)
class SimulationSession:
    """A model and what was changed in it.

    Attributes:
        simulation_id: 1 to 64 letters, digits, ``_``, ``.`` or ``-``.
        model: the reference it was loaded by: a name, or a path in the catalogue.
        model_hash: of the model's text as it was loaded.
        created_at: UTC microseconds since the epoch.
        overrides: in the order in which the parameters were first set.
    """

    simulation_id: str
    model: str
    model_hash: str
    created_at: int
    overrides: tuple[Override, ...] = field(default=())

    def __post_init__(self) -> None:
        if not SIMULATION_ID.match(self.simulation_id):
            raise errors.InvalidSimulation(
                f"A simulation id has 1 to 64 letters, digits, '_', '.' or '-', got {self.simulation_id!r}."
            )

    @property
    def parameters(self) -> dict[str, float]:
        """The changed values in the parameters' own units, as an engine takes them."""
        return {item.path: item.value for item in self.overrides}

    def override(self, path: str) -> Override | None:
        """What ``path`` was set to, or ``None`` while it has the model's own value."""
        return next((item for item in self.overrides if item.path == path), None)

    def with_parameter(
        self,
        description: ModelDescription,
        path: str,
        value: float,
        *,
        now: int,
        unit: str | None = None,
        mode: str = "absolute",
        comment: str = "",
    ) -> SimulationSession:
        """A copy in which a parameter is set.

        Args:
            description: of this session's model.
            path: the parameter.
            value: the new value, or for ``relative`` what is added to the current one.
            now: UTC microseconds since the epoch.
            unit: of ``value``; ``None`` means the parameter's own.
            mode: ``absolute`` or ``relative`` (added, not multiplied).
            comment: why; at most 1000 characters are kept.

        Raises:
            UnknownParameter: no such parameter.
            ParameterSetByRule: a rule computes it.
            UnitMismatch: the unit does not convert to the parameter's.
            InvalidParameterValue: the resulting value is not finite, negative or out of bounds.
            InvalidSimulation: another mode, or another model's description.
        """
        self._check_model(description)
        if mode not in get_args(UpdateMode):
            raise errors.InvalidSimulation(f"The update mode is one of {get_args(UpdateMode)}, got {mode!r}.")
        parameter = description.parameter(path)
        checked_number(path, value)
        converted = units.convert(value, unit, parameter.unit) if unit is not None else float(value)
        if mode == "relative":
            converted = self.current_value(description, path) + converted
        override = Override(path, description.checked(path, converted), parameter.unit, now, comment[:_MAX_COMMENT])
        others = tuple(override if item.path == path else item for item in self.overrides)
        if self.override(path) is None:
            others = (*others, override)
        return replace(self, overrides=others)

    def without_parameter(self, path: str) -> SimulationSession:
        """A copy in which the parameter has the model's own value again."""
        return replace(self, overrides=tuple(item for item in self.overrides if item.path != path))

    def current_value(self, description: ModelDescription, path: str) -> float:
        """The value that a run would take, in the parameter's own unit.

        Raises:
            UnknownParameter: no such parameter.
            InvalidParameterValue: the model gives it no value and none was set.
        """
        override = self.override(path)
        if override is not None:
            return override.value
        value = description.parameter(path).value
        if value is None:
            raise errors.InvalidParameterValue(
                f"The model gives parameter {path!r} no value.", hint="Set it with an absolute value.", parameter=path
            )
        return value

    def _check_model(self, description: ModelDescription) -> None:
        if description.hash != self.model_hash:
            raise errors.InvalidSimulation(
                f"Session {self.simulation_id!r} was opened on another version of model {self.model!r}.",
                hint="Load the model again.",
                expected=self.model_hash,
                found=description.hash,
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; ``from_dict`` reads them back."""
        return {
            "simulation_id": self.simulation_id,
            "model": self.model,
            "model_hash": self.model_hash,
            "created_at": self.created_at,
            "overrides": [item.to_dict() for item in self.overrides],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SimulationSession:
        """From what ``to_dict`` wrote.

        Raises:
            InvalidSimulation: a field is missing or of the wrong kind.
        """
        try:
            overrides = tuple(
                Override(
                    str(item["path"]),
                    float(item["value"]),
                    str(item["unit"]),
                    int(item["updated_at"]),
                    str(item.get("comment", "")),
                )
                for item in values.get("overrides", ())
            )
            return cls(
                str(values["simulation_id"]),
                str(values["model"]),
                str(values["model_hash"]),
                int(values["created_at"]),
                overrides,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise errors.InvalidSimulation(f"This is no stored session: {error!r}.") from error


def checked_number(path: str, value: object) -> None:
    """Refuse what is no number at all, before a unit converts it.

    Raises:
        InvalidParameterValue: a text, a truth value, nothing, or not finite.
    """
    if not is_number(value):
        raise errors.InvalidParameterValue(
            f"Parameter {path!r}: expected a finite number, got {value!r}.", parameter=path, value=str(value)
        )
