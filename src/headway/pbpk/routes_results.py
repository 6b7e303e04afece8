"""The documents' paths about results, and our own for plots."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse

from headway.model.errors import JobHasNoResult, ResultGone, ResultNotReady
from headway.model.job import Job
from headway.model.states import TERMINAL_STATES, JobState
from headway.model.times import to_rfc3339
from headway.pbpk import errors, summaries
from headway.pbpk.fields import PkIn, PkOut, PopulationResultsOut, ResultsIn, SimulationResultsOut
from headway.pbpk.names import POPULATION, SIMULATE
from headway.pbpk.places import PLOTS, Kind
from headway.pbpk.ways import Ways, caller

_TASKS: Final[dict[Kind, str]] = {"simulations": SIMULATE, "populations": POPULATION}

# Opened by itself an SVG is a document: its own style may apply, and nothing else may happen in it.
_PLOT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
_PLOT_HEADERS: Final = {"Cache-Control": "private, max-age=300", "Content-Security-Policy": _PLOT_POLICY}


def results_router(ways: Ways) -> APIRouter:
    """``/get_simulation_results``, ``/get_population_results`` and ``/calculate_pk_parameters``."""
    router = APIRouter(tags=["simulations"])

    @router.post("/get_simulation_results")
    async def simulation_results(body: ResultsIn, request: Request) -> SimulationResultsOut:
        """The profiles of one simulation."""
        call = caller(request)
        work = partial(_result, ways, call.context(), body.resultsId, ("simulations",))
        job, result = await call.run(work)
        return await call.run(partial(_simulation, job, result))

    @router.post("/get_population_results")
    async def population_results(body: ResultsIn, request: Request) -> PopulationResultsOut:
        """Percentiles, PK statistics and aggregates of a population."""
        call = caller(request)
        job, result = await call.run(partial(_result, ways, call.context(), body.resultsId, ("populations",)))
        return _population(job, result)

    @router.post("/calculate_pk_parameters")
    async def calculate_pk_parameters(body: PkIn, request: Request) -> PkOut:
        """PK parameters of a result, with units, the window of the half-life, and why something is missing."""
        call = caller(request)
        kinds: tuple[Kind, ...] = ("simulations", "populations")
        job, result = await call.run(partial(_result, ways, call.context(), body.resultsId, kinds))
        return PkOut(
            resultsId=job.id,
            simulationId=result["labels"].get("simulation_id"),
            timeUnit=result["time_unit"],
            metrics=summaries.metrics(result, body.outputPath),
        )

    return router


def plots_router(ways: Ways) -> APIRouter:
    """``/api/v1/populations/{id}/plot.svg`` and its like."""
    router = APIRouter(prefix="/api/v1", tags=["simulations"])
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "the picture", "content": {kind: {} for kind in PLOTS.values()}}
    }

    @router.get("/{kind}/{job_id}/plot.{image}", response_class=FileResponse, responses=answers)
    async def plot(
        request: Request,
        kind: Kind,
        job_id: Annotated[str, Path(min_length=1, max_length=255)],
        image: Literal["svg", "png"],
    ) -> FileResponse:
        """The profile with its band."""
        call = caller(request)

        def find() -> str:
            job = _job(ways, call.context(), job_id, (kind,))
            _check_ended(job)
            file = ways.places.plot(kind, job.id, image)
            if not file.is_file():
                raise ResultGone("The job's plot was removed, or there was nothing to draw.")
            return str(file)

        return FileResponse(await call.run(find), media_type=PLOTS[image], headers=_PLOT_HEADERS)

    return router


def _job(ways: Ways, ctx: Any, job_id: str, kinds: tuple[Kind, ...]) -> Job:
    job = ways.verbs.get_job(ctx, job_id)
    if job.task not in {_TASKS[kind] for kind in kinds}:
        raise errors.NotASimulation(
            f"Job {job_id} is of the task {job.task}, so it has no such result.",
            hint="GET /api/v1/jobs/{id}/result has the result of any job.",
        )
    return job


def _check_ended(job: Job) -> None:
    if job.state not in TERMINAL_STATES:
        raise ResultNotReady(f"the job has not ended, it is {job.state}", state=job.state)
    if job.state is not JobState.SUCCEEDED:
        raise JobHasNoResult(f"the job ended as {job.state}, without a result", state=job.state)


def _result(ways: Ways, ctx: Any, job_id: str, kinds: tuple[Kind, ...]) -> tuple[Job, dict[str, Any]]:
    job = _job(ways, ctx, job_id, kinds)
    result: dict[str, Any] = json.loads(ways.verbs.read_result(ctx, job_id))
    return job, result


def _generated(job: Job) -> str:
    return to_rfc3339(job.finished_at or job.submitted_at)


def _simulation(job: Job, result: dict[str, Any]) -> SimulationResultsOut:
    labels = result["labels"]
    return SimulationResultsOut(
        resultsId=job.id,
        simulationId=labels.get("simulation_id"),
        generatedAt=_generated(job),
        simulationMetadata={
            "model": result["model"],
            "modelHash": result["model_hash"],
            "engine": result["engine"],
            "parameters": result["parameters"],
            "runId": labels.get("run_id"),
        },
        timeUnit=result["time_unit"],
        series=summaries.series(result),
        pk=[{"parameter": row["path"], **row["pk"]} for row in result["outputs"] if row.get("pk")],
        plots=result["plots"],
    )


def _population(job: Job, result: dict[str, Any]) -> PopulationResultsOut:
    labels = result["labels"]
    return PopulationResultsOut(
        resultsId=job.id,
        simulationId=labels.get("simulation_id"),
        generatedAt=_generated(job),
        cohort=result["cohort"],
        aggregates=summaries.aggregates(result, labels.get("aggregates") or ()),
        chunks=[],
        metadata={
            **(labels.get("metadata") or {}),
            "model": result["model"],
            "modelHash": result["model_hash"],
            "engine": result["engine"],
            "parameters": result["parameters"],
        },
        timeUnit=result["time_unit"],
        times=result["times"],
        outputs=result["outputs"],
        failed=result["failed"],
        plots=result["plots"],
    )
