"""The documents' paths that start runs: one simulation, or a population."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, get_args

from fastapi import APIRouter, Request, Response

from headway.model.commands import SubmitJob
from headway.model.errors import InvalidRequest, SessionNotFound
from headway.model.job import Job
from headway.model.states import VIEW
from headway.pbpk import errors, pk
from headway.pbpk.fields import RunFields, RunPopulationIn, RunSimulationIn, RunSimulationOut, SeriesIn
from headway.pbpk.names import POPULATION, SIMULATE
from headway.pbpk.population import check_cohort
from headway.pbpk.routes_models import find_model, require_installed
from headway.pbpk.sampling import Covariate
from headway.pbpk.stored import StoredSession, read_session
from headway.pbpk.summaries import AGGREGATES
from headway.pbpk.times import check_end, check_points
from headway.pbpk.ways import Ways, caller

_SAMPLING: Final = "random"
_MAX_KEY: Final = 255


def runs_router(ways: Ways) -> APIRouter:
    """``/run_simulation`` and ``/run_population_simulation``."""
    router = APIRouter(tags=["simulations"])

    @router.post("/run_simulation", status_code=202)
    async def run_simulation(body: RunSimulationIn, request: Request, response: Response) -> RunSimulationOut:
        """Run a loaded simulation once, as a job. An `Idempotency-Key` header makes repeating it safe."""
        require_installed(ways)
        call, key = caller(request), _key(request)

        def accept() -> Job:
            ctx = call.context()
            stored = read_session(ways.verbs, ctx, body.simulationId)
            for path in body.outputs:
                stored.description.output(path)
            kwargs = {**_of_session(stored), **_run(body), "outputs": body.outputs}
            kwargs["labels"] = {"simulation_id": body.simulationId, "run_id": body.runId}
            return ways.verbs.submit_job(ctx, _command(SIMULATE, kwargs, body, key))

        return _accepted(await call.run(accept), body.simulationId, response)

    @router.post("/run_population_simulation", status_code=202)
    async def run_population(body: RunPopulationIn, request: Request, response: Response) -> RunSimulationOut:
        """Run a population as a job. An `Idempotency-Key` header makes repeating it safe."""
        require_installed(ways)
        call, key = caller(request), _key(request)
        job = await call.run(partial(_accept_population, ways, call.context(), body, key))
        return _accepted(job, body.simulationId, response)

    return router


def _accept_population(ways: Ways, ctx: Any, body: RunPopulationIn, key: str | None) -> Job:
    cohort = _cohort(body)
    outputs = [_path(item) for item in body.outputs.timeSeries]
    unknown = sorted(set(body.outputs.aggregates) - set(AGGREGATES))
    if unknown:
        raise InvalidRequest(
            f"outputs.aggregates: {unknown[0]!r} is not known.", hint=f"Known: {', '.join(AGGREGATES)}."
        )
    kwargs = {**_model(ways, ctx, body), **cohort, **_run(body), "outputs": outputs}
    kwargs["labels"] = {
        "simulation_id": body.simulationId,
        "metadata": body.metadata,
        "aggregates": body.outputs.aggregates,
    }
    return ways.verbs.submit_job(ctx, _command(POPULATION, kwargs, body, key))


def _model(ways: Ways, ctx: Any, body: RunPopulationIn) -> dict[str, Any]:
    """The loaded simulation with its changes, if there is one; else the model that the path names."""
    try:
        stored = read_session(ways.verbs, ctx, body.simulationId)
    except SessionNotFound as error:
        if body.modelPath is None:
            hint = "Give modelPath, or load the simulation first: POST /load_simulation."
            raise SessionNotFound(error.message, hint=hint) from error
        name, found = find_model(ways, body.modelPath)
        return {"model": name, "model_hash": found}
    if body.modelPath is not None and find_model(ways, body.modelPath)[1] != stored.session.model_hash:
        raise InvalidRequest(
            f"The simulation {body.simulationId!r} was loaded from another model than {body.modelPath!r}.",
            hint="Leave modelPath out to use the loaded simulation, or use another simulationId.",
        )
    for item in body.outputs.timeSeries:
        stored.description.output(_path(item))
    for covariate in _covariates(body) or ():
        stored.description.parameter(covariate.path)
    return _of_session(stored)


def _cohort(body: RunPopulationIn) -> dict[str, Any]:
    cohort = body.cohort
    check_cohort(cohort.size, cohort.seed or 0)
    if cohort.sampling not in {None, _SAMPLING}:
        raise errors.InvalidSimulation(
            f"cohort.sampling is {_SAMPLING!r} (independent draws), got {cohort.sampling!r}.",
            hint="Leave it out; other ways of sampling are not offered.",
        )
    _covariates(body)
    return {"size": cohort.size, "seed": cohort.seed or 0, "covariates": cohort.covariates}


def _covariates(body: RunPopulationIn) -> list[Covariate] | None:
    given = body.cohort.covariates
    return None if given is None else [Covariate.from_dict(item) for item in given]


def _path(item: str | SeriesIn) -> str:
    path = item if isinstance(item, str) else item.path or item.parameter
    if path is None:
        raise InvalidRequest("outputs.timeSeries: an item names no output.", hint='Give its path: {"path": "Cp"}.')
    return path


def _of_session(stored: StoredSession) -> dict[str, Any]:
    session = stored.session
    return {"model": session.model, "model_hash": session.model_hash, "parameters": session.parameters}


def _run(body: RunFields) -> dict[str, Any]:
    methods = get_args(pk.AucMethod)
    if body.aucMethod not in methods:
        raise InvalidRequest(f"aucMethod: expected one of {', '.join(methods)}, got {body.aucMethod!r}.")
    if body.endTime is not None:
        check_end(body.endTime)
    if body.points is not None:
        check_points(body.points)
    return {"end_time": body.endTime, "points": body.points, "auc_method": body.aucMethod}


def _command(task: str, kwargs: dict[str, Any], body: RunPopulationIn | RunSimulationIn, key: str | None) -> SubmitJob:
    return SubmitJob(
        task=task,
        kwargs={name: value for name, value in kwargs.items() if value is not None},
        timeout_seconds=body.timeoutSeconds,
        max_retries=body.maxRetries,
        labels={"simulation": body.simulationId},
        idempotency_key=key,
    )


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _MAX_KEY:
        raise InvalidRequest(f"expected an Idempotency-Key of 1 to {_MAX_KEY} characters, got: {len(key)}")
    return key


def _accepted(job: Job, simulation_id: str, response: Response) -> RunSimulationOut:
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return RunSimulationOut(
        jobId=job.id,
        simulationId=simulation_id,
        status=VIEW[job.state].document,
        queuedAt=job.submitted_at / 1_000_000,
        timeoutSeconds=job.timeout_seconds,
        maxRetries=job.max_retries,
        attempts=job.attempts,
    )
