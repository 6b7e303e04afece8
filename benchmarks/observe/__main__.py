"""``python -m benchmarks.observe``: see ``docs/explanation/speed.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import Figure
from benchmarks.observe.brokers import NAMES
from benchmarks.observe.cost import cost_of_events
from benchmarks.observe.cpu import cpu_per_event
from benchmarks.observe.ingest import ingest
from benchmarks.observe.load import broker_load
from benchmarks.observe.memory import memory
from benchmarks.observe.plan import Plan
from benchmarks.observe.recovery import recovery
from benchmarks.observe.sitrep import sitrep
from benchmarks.observe.walk import walk
from benchmarks.observe.watchers import EXPORTER_VARIABLE
from benchmarks.plan import folder
from benchmarks.session import run_session, with_plan

BENCHMARKS: dict[str, Callable[[Plan], list[Figure]]] = {
    "cpu": cpu_per_event,
    "ingest": ingest,
    "memory": memory,
    "sitrep": sitrep,
    "load": broker_load,
    "recovery": recovery,
    "walk": walk,
    "cost": cost_of_events,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 when a benchmark did not come to its end. A missed goal is a figure, not an error."""
    wanted = _options(arguments)
    with folder() as shared:
        plan = Plan(wanted.rounds, wanted.quick, shared, tuple(wanted.brokers), wanted.tasks, wanted.peers_memory)
        only = wanted.only or list(BENCHMARKS)
        return run_session("observe", with_plan(BENCHMARKS, plan), only, vars(wanted), file=wanted.json)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.observe",
        description=__doc__,
        epilog=f"{EXPORTER_VARIABLE}=FILE in the environment names an executable of danihodovic/celery-exporter, "
        "which is on no package registry: it is then measured, too.",
    )
    names = ", ".join(BENCHMARKS)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=f"of {names}")
    parser.add_argument("--rounds", "--runs", type=int, default=3, help="how often each figure is measured (3)")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that everything works")
    parser.add_argument("--brokers", nargs="+", choices=NAMES, default=list(NAMES), help="for cpu and ingest (both)")
    parser.add_argument("--tasks", type=int, metavar="N", help="for memory, sitrep, recovery and walk (1,000,000)")
    parser.add_argument("--peers-memory", action="store_true", help="memory of Flower with as many tasks (gigabytes)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the record goes (a file in var/benchmarks)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
