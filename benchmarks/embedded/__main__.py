"""``python -m benchmarks.embedded``: see ``docs/explanation/speed.md``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from benchmarks.embedded.latency import submit_to_result
from benchmarks.embedded.pages import pages
from benchmarks.embedded.plan import Plan
from benchmarks.embedded.population import populations
from benchmarks.embedded.start import start
from benchmarks.embedded.streams import streams
from benchmarks.embedded.submit import batches
from benchmarks.embedded.throughput import on_postgres, on_sqlite
from benchmarks.machine import disk_sync, facts
from benchmarks.measure import Figure
from benchmarks.processes import ROOT
from benchmarks.report import Report, table

BENCHMARKS: dict[str, Callable[[Plan], list[Figure]]] = {
    "sqlite": on_sqlite,
    "postgres": on_postgres,
    "submit": batches,
    "latency": submit_to_result,
    "pages": pages,
    "start": start,
    "streams": streams,
    "population": populations,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 when a benchmark did not come to its end. A missed goal is a figure, not an error."""
    wanted = _options(arguments)
    plan = Plan(wanted.runs, wanted.quick, wanted.long, wanted.postgres)
    report = Report(facts(), vars(wanted))
    path = report.write(ROOT / "var" / "benchmarks")
    print(f"{report.machine['cpu']}, {report.machine['cores']} cores, load {os.getloadavg()[0]:.1f}")
    if wanted.quick:
        print("--quick: these numbers show that the benchmarks work, and nothing else.")
    report.figures["disk"] = disk_sync()
    for name in wanted.only or BENCHMARKS:
        print(f"\n{name}: {(BENCHMARKS[name].__doc__ or '').splitlines()[0]}", flush=True)
        try:
            report.figures[name] = BENCHMARKS[name](plan)
        except Exception as error:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            report.failures[name] = f"{type(error).__name__}: {error}"
        report.write(ROOT / "var" / "benchmarks")
    report.figures["disk, afterwards"] = disk_sync()
    report.write(ROOT / "var" / "benchmarks")
    print(f"\n{table(figure for figures in report.figures.values() for figure in figures)}")
    missed = report.missed()
    print(f"\n{len(missed)} of the goals were missed." if missed else "\nEvery goal was met.")
    for name, said in report.failures.items():
        print(f"{name} did not come to its end: {said.splitlines()[0]}")
    print(f"Written to {path.relative_to(ROOT)}")
    return 1 if report.failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedded", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--runs", type=int, default=5, help="how often each figure is measured (5)")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that everything works")
    parser.add_argument("--long", action="store_true", help="also a population of 200,000")
    parser.add_argument("--postgres", action="store_true", help="pages on Postgres, too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
