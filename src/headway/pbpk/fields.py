"""What the documents' paths about simulations take and answer, in the documents' spelling."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# ruff: noqa: N815 - the documents' spelling

SimulationId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Path = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
Text = Annotated[str, StringConstraints(max_length=1000)]


class Fields(BaseModel):
    """Base of all bodies: unknown fields and other types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Confirmed(Fields):
    """Base of bodies that change something. ``confirm`` is accepted, and not needed."""

    confirm: bool | None = None


class LoadSimulationIn(Confirmed):
    """Load a model.

    Attributes:
        filePath: name of a shipped model, or a path in a folder of HEADWAY_MODEL_PATHS.
        simulationId: a new one when left out.
    """

    filePath: Path
    simulationId: SimulationId | None = None


class SimulationMetadata(Fields):
    """Where a simulation comes from. ``createdAt`` is RFC 3339."""

    name: str
    modelVersion: str
    createdBy: str
    createdAt: str
    title: str
    timeUnit: str
    backend: str


class LoadSimulationOut(Fields):
    """A loaded simulation, and what one should know about its model."""

    simulationId: str
    metadata: SimulationMetadata
    warnings: list[str]
    outputs: list[dict[str, Any]]
    defaultOutput: str | None


class ListParametersIn(Fields):
    """``searchPattern`` is a glob over paths and names, upper and lower case alike."""

    simulationId: SimulationId
    searchPattern: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None


class ParameterItem(Fields):
    """A parameter in a list; ``rule`` computes it where it cannot be set."""

    path: str
    displayName: str
    value: float | None
    unit: str
    settable: bool
    rule: str | None
    minimum: float | None
    maximum: float | None


class ListParametersOut(Fields):
    """The paths, and the same parameters with everything that is known of them."""

    simulationId: str
    parameters: list[str]
    items: list[ParameterItem]


class GetParameterIn(Fields):
    """Names a parameter."""

    simulationId: SimulationId
    parameterPath: Path


class ParameterValue(Fields):
    """A value as a run would take it. ``source`` is ``model``, ``session`` (it was set) or ``rule`` (computed)."""

    path: str
    value: float | None
    unit: str
    displayName: str
    lastUpdatedAt: str
    source: str
    comment: str | None = None


class ParameterOut(Fields):
    """One parameter."""

    parameter: ParameterValue


class SetParameterIn(Confirmed):
    """Set a parameter, or with ``relative`` add to it. Without a unit the value is in the parameter's own."""

    simulationId: SimulationId
    parameterPath: Path
    value: float
    unit: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    updateMode: str = "absolute"
    comment: Text | None = None


class RunFields(Confirmed):
    """What one run and a population have in common; times are in the model's time unit."""

    endTime: float | None = None
    points: int | None = None
    aucMethod: str = "linear"
    timeoutSeconds: Annotated[float, Field(ge=1, le=31_536_000)] | None = None
    maxRetries: Annotated[int, Field(ge=0, le=100)] | None = None


class RunSimulationIn(RunFields):
    """Run a loaded simulation once."""

    simulationId: SimulationId
    runId: Id | None = None
    outputs: Annotated[list[Path], Field(max_length=1000)] = Field(default_factory=list)


class RunSimulationOut(Fields):
    """The job that was accepted; times are seconds since the epoch."""

    jobId: str
    simulationId: str
    status: str
    queuedAt: float
    timeoutSeconds: float | None
    maxRetries: int
    attempts: int
    estimatedDurationSeconds: float | None = None
    expiresAt: float | None = None


class CohortIn(Fields):
    """Who is in a population. Without covariates the model's own variability is drawn from."""

    size: int
    sampling: str | None = None
    seed: int | None = None
    covariates: Annotated[list[dict[str, Any]], Field(max_length=1000)] | None = None


class SeriesIn(Fields):
    """An output by its path (the documents also say ``parameter``)."""

    path: Path | None = None
    parameter: Path | None = None
    unit: str | None = None


class PopulationOutputsIn(Fields):
    """Which profiles and which aggregates are asked for."""

    timeSeries: Annotated[list[Path | SeriesIn], Field(max_length=1000)] = Field(default_factory=list)
    aggregates: Annotated[list[Id], Field(max_length=100)] = Field(default_factory=list)


class RunPopulationIn(RunFields):
    """Run a population: of a model by its path, or of a loaded simulation with its changed parameters."""

    simulationId: SimulationId
    cohort: CohortIn
    modelPath: Path | None = None
    outputs: PopulationOutputsIn = Field(default_factory=PopulationOutputsIn)
    metadata: dict[str, Any] = Field(default_factory=dict)


class ResultsIn(Fields):
    """Names the result of a job; it is the job's id."""

    resultsId: Id


class Point(Fields):
    """One value of a series."""

    time: float
    value: float


class Series(Fields):
    """One profile."""

    parameter: str
    name: str
    unit: str
    values: list[Point]


class SimulationResultsOut(Fields):
    """The result of one simulation."""

    resultsId: str
    simulationId: str | None
    generatedAt: str
    simulationMetadata: dict[str, Any]
    timeUnit: str
    series: list[Series]
    pk: list[dict[str, Any]]
    plots: dict[str, str]


class PopulationResultsOut(Fields):
    """The result of a population; the chunks of single individuals are not offered yet."""

    resultsId: str
    simulationId: str | None
    generatedAt: str
    cohort: dict[str, Any]
    aggregates: dict[str, float | None]
    chunks: list[dict[str, Any]]
    metadata: dict[str, Any]
    timeUnit: str
    times: list[float]
    outputs: list[dict[str, Any]]
    failed: int
    plots: dict[str, str]


class PkIn(Fields):
    """Of which result, and of which output; of all concentrations when left out."""

    resultsId: Id
    outputPath: Path | None = None


class PkMetrics(Fields):
    """PK parameters of one output; of a population the medians, and all statistics beside them."""

    parameter: str
    unit: str
    cmax: float | None
    tmax: float | None
    auc: float | None
    auc0Inf: float | None
    lambdaZ: float | None
    halfLife: float | None
    aucExtrapolatedPercent: float | None
    clearance: float | None
    volumeDistribution: float | None
    terminalPhasePointCount: int | None = None
    terminalPhaseStart: float | None = None
    terminalPhaseEnd: float | None = None
    rSquared: float | None = None
    adjustedRSquared: float | None = None
    ncaStatus: str | None = None
    ncaWarnings: list[str] = Field(default_factory=list)
    units: dict[str, str] = Field(default_factory=dict)
    statistic: str = "value"
    statistics: dict[str, dict[str, Any]] | None = None
    statusCounts: dict[str, int] | None = None


class PkOut(Fields):
    """PK parameters by output."""

    resultsId: str
    simulationId: str | None
    timeUnit: str
    metrics: list[PkMetrics]
