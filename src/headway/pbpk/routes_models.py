"""The documents' paths about models and their parameters: load, list, get, set."""

from __future__ import annotations

import fnmatch
import json
from functools import partial
from typing import Any, Final

import anyio
from fastapi import APIRouter, Request

from headway.model.commands import SubmitJob
from headway.model.errors import HeadwayError, SessionConflict, SessionNotFound, WaitTimeout
from headway.model.job import ErrorInfo, Job
from headway.model.states import TERMINAL_STATES, JobState
from headway.model.times import to_rfc3339
from headway.pbpk import errors
from headway.pbpk.description import ModelDescription, Parameter
from headway.pbpk.fields import (
    GetParameterIn,
    ListParametersIn,
    ListParametersOut,
    LoadSimulationIn,
    LoadSimulationOut,
    ParameterItem,
    ParameterOut,
    ParameterValue,
    SetParameterIn,
    SimulationMetadata,
)
from headway.pbpk.names import DESCRIBE
from headway.pbpk.session import SimulationSession
from headway.pbpk.stored import KIND, StoredSession, body_of, change_session, description_from_dict, read_session
from headway.pbpk.ways import Caller, Ways, caller

#: How long a request waits for its model to be loaded; a child's first start and a large model take seconds.
LOAD_SECONDS: Final = 90.0
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.25
_URGENT: Final = 9


def models_router(ways: Ways) -> APIRouter:
    """``/load_simulation``, ``/list_parameters``, ``/get_parameter_value`` and ``/set_parameter_value``."""
    router = APIRouter(tags=["simulations"])

    @router.post("/load_simulation", status_code=201)
    async def load_simulation(body: LoadSimulationIn, request: Request) -> LoadSimulationOut:
        """Load a model and open a simulation of it, whose parameters can be changed."""
        require_installed(ways)
        call = caller(request)
        stored = await _load(ways, call, body)
        return _loaded(stored)

    @router.post("/list_parameters")
    async def list_parameters(body: ListParametersIn, request: Request) -> ListParametersOut:
        """The parameters of a loaded simulation."""
        call = caller(request)
        stored = await call.run(partial(read_session, ways.verbs, call.context(), body.simulationId))
        found = [item for item in stored.description.parameters if _matches(item, body.searchPattern)]
        return ListParametersOut(
            simulationId=body.simulationId,
            parameters=[item.path for item in found],
            items=[_item(stored, item) for item in found],
        )

    @router.post("/get_parameter_value")
    async def get_parameter_value(body: GetParameterIn, request: Request) -> ParameterOut:
        """The value that a run would take."""
        call = caller(request)
        stored = await call.run(partial(read_session, ways.verbs, call.context(), body.simulationId))
        return _value(stored, body.parameterPath)

    @router.post("/set_parameter_value")
    async def set_parameter_value(body: SetParameterIn, request: Request) -> ParameterOut:
        """Change a parameter for the runs that are started from now on."""
        require_installed(ways)
        call = caller(request)

        def change(stored: StoredSession) -> SimulationSession:
            return stored.session.with_parameter(
                stored.description,
                body.parameterPath,
                body.value,
                now=ways.now(),
                unit=body.unit,
                mode=body.updateMode,
                comment=body.comment or "",
            )

        work = partial(change_session, ways.verbs, call.context(), body.simulationId, change)
        return _value(await call.run(work), body.parameterPath)

    return router


def require_installed(ways: Ways) -> None:
    """Raise ``PbpkNotInstalled`` where the extra is missing."""
    if ways.missing:
        raise errors.PbpkNotInstalled(f"Simulations need packages that are not installed: {', '.join(ways.missing)}.")


def find_model(ways: Ways, reference: str) -> tuple[str, str]:
    """A model of the catalogue, its text kept.

    Returns:
        Its name and hash.

    Raises:
        NoSuchModel: it is not there, or lies outside the folders.
        InvalidModel: it is too large, or no text.
    """
    try:
        found = ways.places.catalog.find(reference)
        return found.name, ways.places.keep_model(found.read())
    except errors.ModelNotFound as error:
        raise errors.NoSuchModel(error.message, hint=error.hint, **error.details) from error


async def _load(ways: Ways, call: Caller, body: LoadSimulationIn) -> StoredSession:
    ctx = call.context()
    simulation_id = body.simulationId or ways.new_id()

    def accept() -> tuple[str, str, Job]:
        _refuse_known(ways, ctx, simulation_id)
        name, key = find_model(ways, body.filePath)
        command = SubmitJob(
            task=DESCRIBE,
            kwargs={"model": name, "model_hash": key},
            priority=_URGENT,
            labels={"simulation": simulation_id},
        )
        return name, key, ways.verbs.submit_job(ctx, command)

    name, key, job = await call.run(accept)
    ended = await _ended(ways, call, job.id)
    if ended.state is not JobState.SUCCEEDED:
        raise _not_loaded(ended)

    def store() -> StoredSession:
        described: dict[str, Any] = json.loads(ways.verbs.read_result(ctx, job.id))
        session = SimulationSession(simulation_id, name, key, ways.now())
        row = ways.verbs.save_session(ctx, simulation_id, KIND, body_of(session, described), 0)
        return StoredSession(session, description_from_dict(described), row.actor, row.version)

    return await call.run(store)


def _refuse_known(ways: Ways, ctx: Any, simulation_id: str) -> None:
    try:
        ways.verbs.get_session(ctx, simulation_id)
    except SessionNotFound:
        return
    raise SessionConflict(
        f"The simulation {simulation_id!r} exists already.", hint="Choose another simulationId, or leave it out."
    )


async def _ended(ways: Ways, call: Caller, job_id: str) -> Job:
    """The job once it has ended. Looking costs a read; holding a thread of the pool would keep others out."""
    ctx, pause = call.context(), _FIRST_LOOK
    ends = anyio.current_time() + LOAD_SECONDS
    while True:
        job = await call.run(partial(ways.verbs.get_job, ctx, job_id))
        if job.state in TERMINAL_STATES:
            return job
        if anyio.current_time() >= ends:
            raise WaitTimeout(
                f"The model is not loaded after {LOAD_SECONDS:g} s: job {job_id} is {job.state}.",
                hint="All slots may be busy. Send the request again later.",
                job_id=job_id,
            )
        await anyio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_LOOK)


def _not_loaded(job: Job) -> HeadwayError:
    error = job.error or ErrorInfo(code="model_not_loaded", message=f"The job ended as {job.state}.")
    if error.code == errors.InvalidModel.code:
        return errors.InvalidModel(error.message, hint=error.hint or "", job_id=job.id)
    hint = error.hint or "The job's attempts and log say more."
    return errors.ModelNotLoaded(
        f"The model could not be loaded: {error.message}", hint=hint, job_id=job.id, cause=error.code
    )


def _loaded(stored: StoredSession) -> LoadSimulationOut:
    session, description = stored.session, stored.description
    return LoadSimulationOut(
        simulationId=session.simulation_id,
        metadata=SimulationMetadata(
            name=session.model,
            modelVersion=session.model_hash,
            createdBy=stored.actor,
            createdAt=to_rfc3339(session.created_at),
            title=description.title,
            timeUnit=description.time_unit,
            backend="roadrunner",
        ),
        warnings=list(description.warnings),
        outputs=[item.to_dict() for item in description.outputs],
        defaultOutput=description.default_output,
    )


def _matches(parameter: Parameter, pattern: str | None) -> bool:
    if pattern is None:
        return True
    wanted = pattern.lower()
    return any(fnmatch.fnmatchcase(text.lower(), wanted) for text in (parameter.path, parameter.name))


def _item(stored: StoredSession, parameter: Parameter) -> ParameterItem:
    override = stored.session.override(parameter.path)
    return ParameterItem(
        path=parameter.path,
        displayName=parameter.name,
        value=parameter.value if override is None else override.value,
        unit=parameter.unit,
        settable=parameter.settable,
        rule=parameter.rule,
        minimum=parameter.minimum,
        maximum=parameter.maximum,
    )


def _value(stored: StoredSession, path: str) -> ParameterOut:
    description: ModelDescription = stored.description
    parameter = description.parameter(path)
    override = stored.session.override(path)
    source = "session" if override is not None else "rule" if parameter.rule is not None else "model"
    return ParameterOut(
        parameter=ParameterValue(
            path=path,
            value=parameter.value if override is None else override.value,
            unit=parameter.unit,
            displayName=parameter.name,
            lastUpdatedAt=to_rfc3339(stored.session.created_at if override is None else override.updated_at),
            source=source,
            comment=override.comment or None if override is not None else None,
        )
    )
