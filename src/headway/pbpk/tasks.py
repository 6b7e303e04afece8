"""The tasks of this workload: ordinary tasks, written on the public API as a user's would be.

They run in child processes (``isolation="process"``), so that the service never loads the native libraries: a
model that crashes them ends one attempt. Nothing heavy is imported before a task runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from headway import current_job, task
from headway.pbpk import errors
from headway.pbpk.names import DESCRIBE, POPULATION, SIMULATE
from headway.pbpk.places import Places

#: A child that was lost (killed, out of memory) is tried again so often; what is wrong with a request is not.
JOB_RETRIES: Final = 2

# Set by the service in the environment of its children.
_CHILD_VARIABLE = "CHILD_OF_HEADWAY"


@task(name=DESCRIBE, isolation="process", timeout=300)
def describe_model(model: str = "", *, model_hash: str | None = None) -> dict[str, Any]:
    """Load a model and say what is in it: parameters, outputs, doses, units.

    Args:
        model: its name (``caffeine``), or its path in a folder of HEADWAY_MODEL_PATHS.
        model_hash: of a text that Headway stored; its own when left out.
    """
    from headway.pbpk import runs

    return runs.describe_model(runs.RunRequest(model, model_hash), _places())


@task(name=SIMULATE, isolation="process", job_retries=JOB_RETRIES)
def run_simulation(
    model: str = "",
    *,
    model_hash: str | None = None,
    parameters: dict[str, float] | None = None,
    outputs: list[str] | str | None = None,
    end_time: float | None = None,
    points: int | None = None,
    auc_method: str = "linear",
    labels: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Simulate once: profiles, PK parameters, plots.

    Args:
        model: its name, or its path in a folder of HEADWAY_MODEL_PATHS.
        model_hash: of a text that Headway stored; its own when left out.
        parameters: values that differ from the model's own, in the parameters' own units.
        outputs: paths; the model's default output when left out.
        end_time: in the model's time unit; 48 hours when left out.
        points: of the time grid; 241 when left out.
        auc_method: ``linear`` or ``linear-up-log-down``.
        labels: travel along into the result.
    """
    from headway.pbpk import runs

    request = _request(model, model_hash, parameters, outputs, end_time, points, auc_method, labels)
    return runs.run_simulation(request, _places(), current_job())


@task(name=POPULATION, isolation="process", job_retries=JOB_RETRIES)
def run_population(
    model: str = "",
    *,
    size: int,
    seed: int = 0,
    covariates: list[dict[str, Any]] | None = None,
    workers: int | None = None,
    model_hash: str | None = None,
    parameters: dict[str, float] | None = None,
    outputs: list[str] | str | None = None,
    end_time: float | None = None,
    points: int | None = None,
    auc_method: str = "linear",
    labels: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Simulate a population in worker processes: percentiles, PK table, plots.

    Args:
        model: its name, or its path in a folder of HEADWAY_MODEL_PATHS.
        size: number of individuals.
        seed: of the draws; the same seed gives the same people and the same result.
        covariates: what differs between people; the model's own variability when left out.
        workers: processes that compute; JOB_WORKER_THREADS when left out. It changes nothing in the result.
        model_hash: of a text that Headway stored; its own when left out.
        parameters: values that differ from the model's own for everybody, in the parameters' own units.
        outputs: paths; the model's default output when left out.
        end_time: in the model's time unit; 48 hours when left out.
        points: of the time grid; 241 when left out.
        auc_method: ``linear`` or ``linear-up-log-down``.
        labels: travel along into the result.
    """
    from headway.pbpk import runs

    request = _request(model, model_hash, parameters, outputs, end_time, points, auc_method, labels)
    people = runs.PopulationRequest(size, seed, covariates, workers)
    return runs.run_population(request, people, _places(), current_job())


def _places() -> Places:
    if _CHILD_VARIABLE not in os.environ:
        raise errors.ProcessNeeded("Simulations run in a process of their own, not in a thread of the service.")
    return Places.from_environment()


def _request(
    model: str,
    model_hash: str | None,
    parameters: dict[str, float] | None,
    outputs: list[str] | str | None,
    end_time: float | None,
    points: int | None,
    auc_method: str,
    labels: dict[str, Any] | None,
) -> Any:
    from headway.pbpk import runs

    # Arguments are JSON from anywhere: what the annotations promise is not so until it was looked at.
    named: Any = [outputs] if isinstance(outputs, str) else outputs or []
    travelling: Any = labels or {}
    method: Any = auc_method
    if not isinstance(travelling, Mapping):
        raise errors.InvalidSimulation(f"Labels are an object, got {labels!r}.")
    if not isinstance(named, list) or not all(isinstance(path, str) for path in named):
        raise errors.InvalidSimulation(f"Outputs are a list of paths, got {outputs!r}.")
    return runs.RunRequest(str(model), model_hash, parameters or {}, named, end_time, points, method, travelling)
