"""Whether reads stay as fast when a million jobs lie in the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.embedded.plan import Plan
from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal
from benchmarks.plan import folder, say
from benchmarks.processes import HeadwayUp, run_child
from tests.servers.postgres import PostgresServer, find_binaries

_SAME = Goal(at_most=1.2)
# Only what the goal names has one.
_FREE = frozenset({"page by state and task"})


def pages(plan: Plan) -> list[Figure]:
    """Pages and status reads at 1,000 and at 1,000,000 finished jobs, and a start with so many."""
    figures = _measured(plan, "SQLite", None)
    binaries = find_binaries() if plan.postgres else None
    if binaries is not None:
        server = PostgresServer(binaries)
        try:
            server.start()
            figures += _measured(plan, "Postgres", server.url)
        finally:
            server.remove()
    return figures


def _measured(plan: Plan, store: str, server: str | None) -> list[Figure]:
    wanted = {"copies": plan.of(999, 19), "rounds": plan.runs, "calls": plan.of(300, 50), "server": server}
    figures = []
    with folder() as path, Load() as load:
        found = run_child("benchmarks.embedded.pages_run", {**wanted, "folder": str(path)}, path)
        small, large = found["jobs"]
        say(f"{store}: {large:,} jobs, filled in {found['fill_seconds']:.0f} s")
        ready = None if server else _start(plan, Path(found["large"]))
    busy = (load.others,) * plan.runs
    for name, pairs in found["reads"].items():
        figures += _rows(f"{store}, {name}", pairs, busy, name not in _FREE, (small, large))
    if ready is not None:
        name = f"`headway up` on {large:,} jobs, to ready"
        figures.append(Figure(name, "s", tuple(ready), Goal(at_most=3.0), busy))
    return figures


def _start(plan: Plan, data_dir: Path) -> list[float]:
    ready = []
    for _ in range(plan.runs):
        with HeadwayUp(data_dir) as server:
            ready.append(server.ready_seconds)
    say(f"ready in {', '.join(f'{seconds:.2f}' for seconds in ready)} s with them")
    return ready


def _rows(name: str, pairs: Any, busy: tuple[float, ...], bound: bool, jobs: tuple[int, int]) -> list[Figure]:
    ratio = Figure(
        f"{name}: {jobs[1]:,} : {jobs[0]:,} jobs",
        "times",
        tuple(large / small for small, large in pairs),
        _SAME if bound else None,
        busy,
    )
    large = Figure(f"{name} of {jobs[1]:,} jobs", "ms", tuple(large for _, large in pairs), None, busy)
    say(f"{ratio.name}: {ratio.median:.2f}, {large.median:.2f} ms")
    return [ratio, large]
