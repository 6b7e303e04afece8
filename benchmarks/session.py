"""One run of a set of benchmarks: each in turn, the table, and the same as JSON."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.machine import disk_sync, facts
from benchmarks.measure import Figure
from benchmarks.processes import ROOT
from benchmarks.report import Report, table

P = TypeVar("P")


def with_plan(benchmarks: Mapping[str, Callable[[P], list[Figure]]], plan: P) -> dict[str, Callable[[], list[Figure]]]:
    """Benchmarks that were told their plan; their docstrings stay."""
    return {name: update_wrapper(partial(one, plan), one) for name, one in benchmarks.items()}


def run_session(
    name: str,
    benchmarks: Mapping[str, Callable[[], list[Figure]]],
    only: Iterable[str],
    options: Mapping[str, Any],
    *,
    file: Path | None = None,
) -> int:
    """Run what was asked for; 1 when a benchmark did not come to its end. A missed goal is a figure, not an error.

    Args:
        name: of the set.
        benchmarks: by name; the first line of its docstring says what each measures.
        only: their names, in order.
        options: of the command line, for the record; ``quick`` is said.
        file: where the JSON goes; None is a file named by the time in `var/benchmarks`.
    """
    report = Report(facts(), {key: str(one) if isinstance(one, Path) else one for key, one in options.items()}, name)
    target = file or report.file_in(ROOT / "var" / "benchmarks")
    report.write(target)
    print(f"{report.machine['cpu']}, {report.machine['cores']} cores, load {os.getloadavg()[0]:.1f}")
    if options.get("quick"):
        print("--quick: these numbers show that the benchmarks work, and nothing else.")
    report.figures["disk"] = disk_sync()
    for one in only:
        print(f"\n{one}: {(benchmarks[one].__doc__ or '').splitlines()[0]}", flush=True)
        try:
            report.figures[one] = benchmarks[one]()
        except Exception as error:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            report.failures[one] = f"{type(error).__name__}: {error}"
        report.write(target)
    report.figures["disk, afterwards"] = disk_sync()
    report.write(target)
    print(f"\n{table(figure for figures in report.figures.values() for figure in figures)}")
    missed = report.missed()
    print(f"\n{len(missed)} of the goals were missed." if missed else "\nEvery goal was met.")
    for one, said in report.failures.items():
        print(f"{one} did not come to its end: {said.splitlines()[0]}")
    print(f"Written to {target.relative_to(ROOT) if target.is_relative_to(ROOT) else target}")
    return 1 if report.failures else 0
