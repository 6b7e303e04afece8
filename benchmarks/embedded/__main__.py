"""``python -m benchmarks.embedded``: see ``docs/explanation/speed.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from benchmarks.embedded.latency import submit_to_result
from benchmarks.embedded.pages import pages
from benchmarks.embedded.plan import Plan
from benchmarks.embedded.population import populations
from benchmarks.embedded.start import start
from benchmarks.embedded.streams import streams
from benchmarks.embedded.submit import batches
from benchmarks.embedded.throughput import on_postgres, on_sqlite
from benchmarks.measure import Figure
from benchmarks.session import run_session, with_plan

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
    return run_session("embedded", with_plan(BENCHMARKS, plan), wanted.only or BENCHMARKS, vars(wanted))


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
