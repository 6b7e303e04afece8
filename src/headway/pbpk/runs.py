"""What the tasks do, on the public API alone: a population or one simulation, from request to result and plot.

Everything of a job lies in its folder. The first attempt writes the model's text there, so that a retried or
rescued one runs the very same model, and takes over chunks that are whole.
"""

from __future__ import annotations

import functools
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headway.pbpk import errors, pk, places, sbml, units
from headway.pbpk.checks import is_integer, is_number
from headway.pbpk.chunks import is_complete, remove_chunks
from headway.pbpk.combine import combine
from headway.pbpk.description import UNIT_UNKNOWN, ModelDescription
from headway.pbpk.places import Places, read_json, write_aside, write_json
from headway.pbpk.plot import profile_of, render
from headway.pbpk.pool import Chunk, Shares, Work, WorkerPool
from headway.pbpk.population import CHUNK_SIZE, PopulationSpec, plan_chunks, population_spec
from headway.pbpk.roadrunner import RoadRunnerEngine
from headway.pbpk.sampling import Covariate
from headway.pbpk.simulation import run_simulation as simulate_once
from headway.pbpk.times import dosing_grid
from headway.pbpk.warm import LoadedModels
from headway.pbpk.worker import SPEC_FILE

if TYPE_CHECKING:
    from headway import CurrentJob

#: Length of a run where the request names none, hours; and its points.
DEFAULT_HOURS = 48.0
DEFAULT_POINTS = 241

#: Most values (outputs times points) in a result: it is stored and sent whole.
MAX_VALUES = 200_000
MAX_POPULATION_VALUES = 50_000

#: Least and most individuals of a chunk.
SMALLEST_CHUNK = 10
LARGEST_CHUNK = 500

#: Most worker processes of one population.
MAX_WORKERS = 1024

_PROBLEMS = 10
_PROGRESS_SECONDS = 0.25
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class RunRequest:
    """What is the same for one simulation and for a population.

    Attributes:
        model: name of a model, or its path in the catalogue; may be empty where ``model_hash`` is given.
        model_hash: of the stored text (``Places.keep_model``); ``None`` takes the catalogue's text of now.
        parameters: values that differ from the model's own, in the parameters' own units.
        outputs: paths; the model's default output when empty.
        end_time: in the model's time unit; 48 hours when ``None``.
        points: of the time grid.
        auc_method: ``linear`` or ``linear-up-log-down``.
        labels: what only travels along: ids of session and run, metadata.
    """

    model: str = ""
    model_hash: str | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    end_time: float | None = None
    points: int | None = None
    auc_method: pk.AucMethod = "linear"
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PopulationRequest:
    """Who is in a population, and how many processes compute it (which changes nothing in the result)."""

    size: int
    seed: int
    covariates: Sequence[Mapping[str, Any]] | None = None
    workers: int | None = None


@functools.cache
def loaded_models() -> LoadedModels:
    """The models that this process keeps compiled."""
    return LoadedModels(RoadRunnerEngine())


@functools.cache
def worker_pool() -> WorkerPool:
    """The workers that this process keeps warm."""
    return WorkerPool()


def engine_facts() -> dict[str, str]:
    """Name and version of the engine, without loading it."""
    try:
        return {"name": "roadrunner", "version": version("libroadrunner")}
    except PackageNotFoundError:
        return {"name": "roadrunner", "version": "not installed"}


def describe_model(request: RunRequest, where: Places) -> dict[str, Any]:
    """Load a model, as a run would, and say what is in it."""
    text, name = _text(request, where)
    try:
        description = loaded_models().get(text, name).description
    except errors.InvalidModel as error:
        raise _with_problems(error) from error
    return {**description.to_dict(), "engine": engine_facts()}


def _with_problems(error: errors.InvalidModel) -> errors.InvalidModel:
    """The findings in the message: of a job's error, code, message and hint are kept."""
    found = [f"line {item['line']}: {item['message']}" for item in error.details.get("problems", ())]
    more = [f"and {len(found) - _PROBLEMS} more"] if len(found) > _PROBLEMS else []
    text = f"The model is not valid SBML: {'; '.join([*found[:_PROBLEMS], *more])}" if len(found) > 1 else error.message
    return errors.InvalidModel(text, hint="Correct the file and load it again.", **error.details)


def run_simulation(request: RunRequest, where: Places, job: CurrentJob) -> dict[str, Any]:
    """One simulation with its PK parameters and its plots."""
    folder = where.folder("simulations", job.id)
    text, name = _pinned(request, where, folder, job.id)
    job.progress(0, 3, "compiling the model")
    model = loaded_models().get(text, name)
    times = _grid(request, model.description, MAX_VALUES)
    job.progress(1, 3, "simulating")
    result = simulate_once(
        model, _parameters(request), times, tuple(request.outputs), auc_method=request.auc_method
    ).to_dict()
    job.progress(2, 3, "drawing")
    plots = _draw(result, folder, "simulations", job)
    job.progress(3, 3, "done")
    return {**_facts(request, job), **result, "parameters": _parameters(request), "plots": plots}


def run_population(
    request: RunRequest, population: PopulationRequest, where: Places, job: CurrentJob
) -> dict[str, Any] | None:
    """A population: its percentiles, PK table and plots; None when the job was cancelled."""
    folder = where.folder("populations", job.id)
    text, name = _pinned(request, where, folder, job.id)
    description = sbml.describe(text, name)
    spec = population_spec(
        description,
        size=population.size,
        seed=population.seed,
        times=_grid(request, description, MAX_POPULATION_VALUES),
        outputs=tuple(request.outputs),
        covariates=_covariates(population.covariates),
        parameters=_parameters(request),
        auc_method=request.auc_method,
    )
    plan = plan_chunks(spec.size, chunk_size(spec.size))
    todo = _left(folder, spec, plan)
    _check_disk(folder, spec, todo)
    if not _simulate(folder, name, spec, plan, todo, where, population.workers, job):
        return None
    job.progress(spec.size, spec.size, "percentiles and PK parameters")
    result = combine(folder, description, spec, plan).to_dict()
    job.progress(spec.size, spec.size, "drawing")
    plots = _draw(result, folder, "populations", job)
    given = {item.path: item.to_dict() for item in spec.covariates}
    return {
        **_facts(request, job),
        **result,
        "parameters": _parameters(request),
        "cohort": {"size": spec.size, "seed": spec.seed, "sampling": "random", "covariates": list(given.values())},
        "plots": plots,
    }


def chunk_size(size: int) -> int:
    """Individuals per chunk, by the population's size alone, so that a recovered run finds its chunks again.

    Small populations still move their progress and use every worker, large ones have not too many files, and no
    chunk takes much longer than a second.
    """
    return max(SMALLEST_CHUNK, min(CHUNK_SIZE, math.ceil(size / 32)), min(LARGEST_CHUNK, math.ceil(size / 2000)))


def _simulate(
    folder: Path,
    name: str,
    spec: PopulationSpec,
    plan: Sequence[Chunk],
    todo: Sequence[Chunk],
    where: Places,
    workers: int | None,
    job: CurrentJob,
) -> bool:
    wanted = where.workers if workers is None else workers
    if not is_integer(wanted, 1, MAX_WORKERS):
        raise errors.InvalidSimulation(f"A population uses 1 to {MAX_WORKERS} workers, got {wanted!r}.")
    kept = spec.size - sum(stop - start for start, stop in todo)
    if kept:
        job.log(f"{kept:,} individuals are there from an earlier attempt")
    progress = _Progress(job, spec.size, kept)
    begun = time.monotonic()
    with Shares(where.shares, where.workers, min(wanted, max(1, len(todo)))) as shares:
        work = Work(folder, spec.fingerprint, name, todo, shares.allowed, progress.chunk_done, job.cancelled)
        if not worker_pool().run(work):
            return False
    took = time.monotonic() - begun
    if todo:
        job.log(f"{spec.size - kept:,} individuals simulated in {took:.1f} s by at most {wanted} worker processes")
    return True


class _Progress:
    """Individuals that are done, told a few times a second."""

    def __init__(self, job: CurrentJob, size: int, done: int) -> None:
        self._job = job
        self._size = size
        self._done = done
        self._told = 0.0
        self._tell()

    def chunk_done(self, chunk: Chunk) -> None:
        self._done += chunk[1] - chunk[0]
        if self._done >= self._size or time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._job.progress(self._done, self._size, f"{self._done:,} of {self._size:,} individuals")


def _text(request: RunRequest, where: Places) -> tuple[str, str]:
    """The model's text and what to call it."""
    if request.model_hash is not None:
        return where.kept_model(request.model_hash), request.model
    if not request.model:
        raise errors.ModelNotFound("No model was named.", hint="Give model=caffeine, or the path of a model.")
    found = where.catalog.find(str(request.model))
    return found.read(), found.name


def _pinned(request: RunRequest, where: Places, folder: Path, job_id: str) -> tuple[str, str]:
    """The model of this job: of its first attempt, if there was one."""
    known = read_json(folder / places.JOB_FILE) or {}
    with suppress(OSError, UnicodeDecodeError):
        text = (folder / places.MODEL_FILE).read_text(encoding="utf-8")
        if known.get("job_id") == job_id and known.get("model_hash") == sbml.model_hash(text):
            return text, str(known.get("name", ""))
    text, name = _text(request, where)
    write_aside(folder / places.MODEL_FILE, sbml.canonical_text(text).encode())
    facts = {"job_id": job_id, "name": name, "model_hash": sbml.model_hash(text), "boot": _boot_id()}
    write_json(folder / places.JOB_FILE, facts)
    return text, name


def _left(folder: Path, spec: PopulationSpec, plan: Sequence[Chunk]) -> list[Chunk]:
    """The chunks that are not there yet; what is there of another population is removed."""
    written = read_json(folder / SPEC_FILE)
    # Chunks are not flushed to the disk one by one, so what was there before a power loss is not trusted.
    same_boot = (read_json(folder / places.JOB_FILE) or {}).get("boot") == _boot_id()
    if written != spec.to_dict() or not same_boot:
        remove_chunks(folder)
        write_json(folder / SPEC_FILE, spec.to_dict())
        known = read_json(folder / places.JOB_FILE) or {}
        write_json(folder / places.JOB_FILE, {**known, "boot": _boot_id()})
        return list(plan)
    return [chunk for chunk in plan if not is_complete(folder, *chunk, spec.fingerprint)]


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _check_disk(folder: Path, spec: PopulationSpec, todo: Sequence[Chunk]) -> None:
    count = sum(stop - start for start, stop in todo)
    values = 4 * len(spec.outputs) * len(spec.times) + 8 * (len(spec.covariates) + 16 * len(spec.outputs))
    needed, free = count * values, shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        raise errors.NotEnoughDisk(
            f"The population needs about {needed / 1e9:.1f} GB on disk, and {free / 1e9:.1f} GB are free.",
            needed_bytes=needed,
            free_bytes=free,
        )


def _grid(request: RunRequest, description: ModelDescription, most: int) -> tuple[float, ...]:
    points = DEFAULT_POINTS if request.points is None else request.points
    end = request.end_time
    if end is None:
        known = description.time_unit != UNIT_UNKNOWN
        end = units.convert(DEFAULT_HOURS, "h", description.time_unit) if known else DEFAULT_HOURS
    count = max(1, len(request.outputs))
    if is_integer(points, 2, most) and points * count > most:
        raise errors.InvalidSimulation(
            f"{count} outputs at {points:,} times are {points * count:,} values; a result has at most {most:,}.",
            hint="Ask for fewer points or outputs.",
        )
    return dosing_grid(end, points)


def _parameters(request: RunRequest) -> dict[str, float]:
    parameters = request.parameters
    if not isinstance(parameters, Mapping):
        raise errors.InvalidParameterValue(f"Parameters are an object of path and value, got {parameters!r}.")
    for path, value in parameters.items():
        if not is_number(value):
            raise errors.InvalidParameterValue(
                f"Parameter {path!r}: expected a finite number, got {value!r}.", parameter=path, value=str(value)
            )
    return {str(path): float(value) for path, value in parameters.items()}


def _covariates(given: Sequence[Mapping[str, Any]] | None) -> tuple[Covariate, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(item, Mapping) for item in given):
        raise errors.InvalidSimulation("Covariates are a list of objects, each with a path and a distribution.")
    return tuple(Covariate.from_dict(item) for item in given)


def _facts(request: RunRequest, job: CurrentJob) -> dict[str, Any]:
    return {"results_id": job.id, "labels": dict(request.labels), "engine": engine_facts()}


def _draw(result: Mapping[str, Any], folder: Path, kind: str, job: CurrentJob) -> dict[str, str]:
    """Write the plots of a result; their links, or nothing where there is nothing to draw."""
    if "/" in job.id:
        job.log("no plot: the job's id cannot be part of an address")
        return {}
    try:
        profile = profile_of(result)
        for image in ("svg", "png"):
            write_aside(folder / f"plot.{image}", render(profile, image=image, theme="auto"))
    except errors.InvalidSimulation as error:
        job.log(f"no plot: {error.message}")
        return {}
    return {image: f"/api/v1/{kind}/{quote(job.id, safe='')}/plot.{image}" for image in places.PLOTS}
