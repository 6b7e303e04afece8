"""Results of jobs in the documents' spelling; plain values in, plain values out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from headway.pbpk import errors
from headway.pbpk.fields import PkMetrics, Point, Series

_MEASURES: Final = {
    "Cmax": "cmax",
    "Tmax": "tmax",
    "AUC": "auc_0_t",
    "AUCInf": "auc_0_inf",
    "HalfLife": "half_life",
    "Clearance": "clearance",
}
_STATISTICS: Final = {"mean": "mean", "sd": "sd", "median": "p50", "p5": "p5", "p95": "p95"}

#: Aggregates of a population by the documents' names (``meanCmax``): PK parameter and statistic.
AGGREGATES: Final = {
    f"{statistic}{measure}": (name, key)
    for measure, name in _MEASURES.items()
    for statistic, key in _STATISTICS.items()
}

_METRICS: Final = {
    "cmax": "cmax",
    "tmax": "tmax",
    "auc": "auc_0_t",
    "auc0Inf": "auc_0_inf",
    "lambdaZ": "lambda_z",
    "halfLife": "half_life",
    "aucExtrapolatedPercent": "extrapolated_percent",
    "clearance": "clearance",
    "volumeDistribution": "volume",
}


def aggregates(result: Mapping[str, Any], wanted: Sequence[str] = ()) -> dict[str, float | None]:
    """The aggregates of a population's first concentration: those wanted, or all.

    Args:
        result: of ``headway.pbpk.run_population``.
        wanted: names of ``AGGREGATES``.
    """
    table: Mapping[str, Any] = next((row["pk"] for row in result["outputs"] if row["pk"]), {})
    names = wanted or AGGREGATES
    found = {name: table.get(AGGREGATES[name][0], {}).get(AGGREGATES[name][1]) for name in names}
    return found if table else {}


def series(result: Mapping[str, Any]) -> list[Series]:
    """The profiles of one simulation."""
    return [
        Series(
            parameter=row["path"],
            name=row["name"],
            unit=row["unit"],
            values=[Point(time=time, value=value) for time, value in zip(result["times"], row["values"], strict=True)],
        )
        for row in result["outputs"]
    ]


def metrics(result: Mapping[str, Any], output: str | None) -> list[PkMetrics]:
    """PK parameters by output: of one simulation its values, of a population its medians.

    Args:
        result: of either task.
        output: path of one output, or ``None`` for every concentration.

    Raises:
        UnknownOutput: the result has no such output.
        PkNotEvaluable: the output is no concentration.
    """
    rows = [row for row in result["outputs"] if output is None or row["path"] == output]
    if output is not None and not rows:
        raise errors.unknown_output(output, [row["path"] for row in result["outputs"]])
    found = list(_metrics(rows))
    if not found:
        raise errors.PkNotEvaluable(
            "PK parameters are of concentrations, and this is none.", hint="Run with an output that is a concentration."
        )
    return found


def _metrics(rows: Sequence[Mapping[str, Any]]) -> Iterator[PkMetrics]:
    for row in rows:
        table = row.get("pk")
        if table:
            yield _population_row(row, table) if "p50" in row else _simulation_row(row, table)


def _simulation_row(row: Mapping[str, Any], table: Mapping[str, Any]) -> PkMetrics:
    return PkMetrics(
        parameter=row["path"],
        unit=row["unit"],
        **{field: table[name] for field, name in _METRICS.items()},
        terminalPhasePointCount=table["window_points"],
        terminalPhaseStart=table["window_start"],
        terminalPhaseEnd=table["window_end"],
        rSquared=table["r2"],
        adjustedRSquared=table["adjusted_r2"],
        ncaStatus=table["status"],
        ncaWarnings=table["messages"],
        units={field: table["units"][name] for field, name in _METRICS.items()},
    )


def _population_row(row: Mapping[str, Any], table: Mapping[str, Any]) -> PkMetrics:
    present = {field: table[name] for field, name in _METRICS.items()}
    return PkMetrics(
        parameter=row["path"],
        unit=row["unit"],
        **{field: statistics["p50"] for field, statistics in present.items()},
        units={field: statistics["unit"] for field, statistics in present.items()},
        statistic="median",
        statistics=present,
        statusCounts=row["pk_status"],
    )
