"""What can be wrong with a model, a parameter, a simulation or its evaluation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from headway.model.errors import ErrorKind, HeadwayError


class PbpkError(HeadwayError):
    """Base of every error of the PBPK library."""

    code = "pbpk_error"


class PbpkNotInstalled(PbpkError):
    """The packages of the extra ``pbpk`` are not installed."""

    code = "pbpk_not_installed"
    kind = ErrorKind.SETUP
    default_hint = "Install them: pip install 'headway[pbpk]'"


class InvalidModel(PbpkError):
    """The text is no valid SBML model; ``problems`` lists line, severity and message of each finding."""

    code = "invalid_model"
    kind = ErrorKind.INVALID
    default_hint = "Correct the file and load it again; `problems` says where it is wrong."


class ModelNotFound(PbpkError):
    """No model of that name is shipped or lies in a search path."""

    code = "model_not_found"
    kind = ErrorKind.NOT_FOUND


class UnknownParameter(PbpkError):
    """The model has no parameter of that name; ``near`` lists similar ones."""

    code = "unknown_parameter"
    kind = ErrorKind.NOT_FOUND


class UnknownOutput(PbpkError):
    """The model has no output of that name; ``near`` lists similar ones."""

    code = "unknown_output"
    kind = ErrorKind.NOT_FOUND


class ParameterSetByRule(PbpkError):
    """A rule of the model computes this parameter, so it cannot be set by hand."""

    code = "parameter_set_by_rule"
    kind = ErrorKind.INVALID
    default_hint = "Set the parameters that the rule depends on."


class InvalidParameterValue(PbpkError):
    """The value is not a finite number, is negative, or lies outside the model's bounds."""

    code = "invalid_parameter_value"
    kind = ErrorKind.INVALID


class UnitMismatch(PbpkError):
    """The unit is unknown, or does not convert to the unit of the parameter."""

    code = "unit_mismatch"
    kind = ErrorKind.INVALID


class InvalidSimulation(PbpkError):
    """The request asks for an impossible time grid, cohort or covariate."""

    code = "invalid_simulation"
    kind = ErrorKind.INVALID


class SimulationFailed(PbpkError):
    """The engine could not solve the model with these parameters; ``engine_message`` is its own word."""

    code = "simulation_failed"
    kind = ErrorKind.FAILED
    default_hint = "Check the parameters that differ from the model's own, or relax the tolerances."


class WorkerFailed(PbpkError):
    """A worker process of a population could not do its part: it died again and again, or could not write."""

    code = "population_worker_failed"
    kind = ErrorKind.FAILED
    default_hint = "The job's log may say more; `headway jobs rerun ID` runs it again as a new job."


class NotEnoughDisk(PbpkError):
    """The files of a population would not fit on the disk of the data directory."""

    code = "population_not_enough_disk"
    kind = ErrorKind.FAILED
    default_hint = "Free space, or ask for fewer individuals, times or outputs."


class ProcessNeeded(PbpkError):
    """The task was submitted to run in a thread of the service, which its libraries could take down."""

    code = "process_isolation_needed"
    kind = ErrorKind.INVALID
    default_hint = "Leave isolation out: the task's own is 'process'."


class NoSuchModel(PbpkError):
    """A request's body names a model that is not there."""

    code = "no_such_model"
    kind = ErrorKind.INVALID
    default_hint = "Name a shipped model, or a file in a folder of HEADWAY_MODEL_PATHS."


class ModelNotLoaded(PbpkError):
    """The model could not be loaded, and not because libsbml found it invalid: it may have crashed its reader."""

    code = "model_not_loaded"
    kind = ErrorKind.INVALID
    default_hint = "The attempts and the log of the job say more."


class NotASimulation(PbpkError):
    """The job exists, and is of another task than the path is about."""

    code = "not_such_a_result"
    kind = ErrorKind.NOT_FOUND
    default_hint = "GET /api/v1/jobs/{id}/result has the result of any job."


class PkNotEvaluable(PbpkError):
    """The profile does not allow PK parameters at all (no points, not finite, or unordered times)."""

    code = "pk_not_evaluable"
    kind = ErrorKind.INVALID
    default_hint = "Give at least two points with increasing times and finite concentrations."


def near(name: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """Names like ``name``, best first, upper and lower case treated alike.

    Args:
        name: what was asked for.
        known: the names that exist.
        limit: how many at most.

    Returns:
        Up to ``limit`` existing names, perhaps none.
    """
    by_lower: dict[str, str] = {}
    for item in known:
        by_lower.setdefault(item.lower(), item)
    matches = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.5)
    return [by_lower[match] for match in matches]


def unknown_parameter(name: str, known: Iterable[str]) -> UnknownParameter:
    """The error for a parameter that does not exist, naming similar ones."""
    similar = near(name, known)
    hint = f"Did you mean {', '.join(similar)}?" if similar else "List the model's parameters to see their names."
    return UnknownParameter(f"The model has no parameter {name!r}.", hint=hint, parameter=name, near=similar)


def unknown_output(name: str, known: Iterable[str]) -> UnknownOutput:
    """The error for an output that does not exist, naming similar ones."""
    similar = near(name, known)
    hint = f"Did you mean {', '.join(similar)}?" if similar else "The model's description lists its outputs."
    return UnknownOutput(f"The model has no output {name!r}.", hint=hint, output=name, near=similar)


def from_dict(values: Mapping[str, Any]) -> PbpkError:
    """The error that another process wrote with ``to_dict``; one of a code that is not known is a ``WorkerFailed``."""
    kinds = {kind.code: kind for kind in PbpkError.__subclasses__()}
    kind = kinds.get(str(values.get("code")), WorkerFailed)
    details = {str(name): value for name, value in values.items() if name not in {"code", "message", "hint"}}
    return kind(str(values.get("message", "")), hint=str(values.get("hint", "")), **details)
