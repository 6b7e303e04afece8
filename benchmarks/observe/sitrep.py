"""How long reads take with a million observed tasks, while somebody answers, nobody answers, and the broker is away."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal, percentile
from benchmarks.observe.brokers import running_valkey
from benchmarks.observe.filling import feed, filled_observer
from benchmarks.observe.plan import Plan
from benchmarks.observe.stream import NAMES
from benchmarks.observe.watchers import FlowerWatcher, HeadwayWatcher
from benchmarks.plan import folder, say
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

_SITREP = "/api/v1/sitrep"
# An answer of the workers is good for a second: asked in a row, most reports cost no question.
_APART_SECONDS = 1.1
_READS = {
    "GET /api/v1/tasks, first page of 100": "/api/v1/tasks?limit=100",
    "GET /api/v1/tasks, by state and task": f"/api/v1/tasks?limit=100&state=succeeded&task={NAMES[7]}",
}
_FLOWER = "Flower: GET /api/tasks?limit=100"
_SOON, _SECOND = Goal(at_most=50.0), Goal(at_most=1_000.0)
_Found = dict[str, list[float]]


def sitrep(plan: Plan) -> list[Figure]:
    """p95 of the situation report with 1,000,000 tasks stored: with a worker, without one, without a broker."""
    if not plan.is_filled.exists():
        filled_observer(plan)
    found: _Found = defaultdict(list)
    others = []
    kept = plan.of(100_000, 2_000)
    with folder() as path, running_valkey() as server, _flower(path, server, kept) as flower:
        for turn in range(plan.runs):
            with Load() as load:
                _turn(plan, path, server, flower, found)
            others.append(load.others)
            say(f"{turn + 1}: " + ", ".join(f"{name} {values[-1]:.1f}" for name, values in found.items()) + " ms")
    notes = {_FLOWER: f"of {kept:,} tasks, its default --max_tasks" if not plan.quick else ""}
    goals = {"in a row, p95": _SOON, "1.1 s apart, p95": _SOON, "slowest": _SECOND}
    figures = []
    for name, values in found.items():
        goal = next((goal for end, goal in goals.items() if name.endswith(end)), None)
        figures.append(Figure(name, "ms", tuple(values), goal, tuple(others), notes.get(name, f"{plan.many:,} tasks")))
    return figures


@contextmanager
def _flower(path: Path, server: ValkeyServer, tasks: int) -> Iterator[FlowerWatcher]:
    (path / "flower").mkdir()
    with FlowerWatcher(path / "flower", server.url) as flower:
        feed(flower, server.url, path, tasks, tasks // 10)
        yield flower


def _turn(plan: Plan, path: Path, server: ValkeyServer, flower: FlowerWatcher, found: _Found) -> None:
    """One round: a worker answers, then it is killed, then the broker is frozen and then stopped."""
    cluster = Cluster(server.url, path, results=server.url)
    with HeadwayWatcher(plan.filled, server.url, server.url) as watcher:
        with Worker(cluster, pool="solo") as worker:
            _wait_for(watcher, worker.hostname)
            in_a_row = _timed(watcher.http, _SITREP, plan.of(200, 30))
            found["sitrep, a worker answers, in a row, p95"].append(percentile(in_a_row, 0.95))
            apart = _timed(watcher.http, _SITREP, plan.of(40, 5), _APART_SECONDS)
            found["sitrep, a worker answers, 1.1 s apart, p95"].append(percentile(apart, 0.95))
            for name, read in _READS.items():
                found[f"{name}, p95"].append(percentile(_timed(watcher.http, read, plan.of(200, 30)), 0.95))
            theirs = _timed(flower.http, "/api/tasks?limit=100", plan.of(50, 10))
            found[_FLOWER + ", p95"].append(percentile(theirs, 0.95))
        count = plan.of(20, 4)
        slowest = max(_timed(watcher.http, _SITREP, count, _APART_SECONDS))
        found["sitrep, the worker was killed, slowest"].append(slowest)
        server.pause()
        try:
            slowest = max(_timed(watcher.http, _SITREP, count, _APART_SECONDS))
        finally:
            server.resume()
        found["sitrep, the broker is frozen, slowest"].append(slowest)
        server.kill()
        try:
            slowest = max(_timed(watcher.http, _SITREP, count, _APART_SECONDS))
        finally:
            server.start()
        found["sitrep, the broker is stopped, slowest"].append(slowest)


def _wait_for(watcher: HeadwayWatcher, hostname: str) -> None:
    """Until the worker is there, and those of which the stored tasks tell are known to be gone."""

    def alone() -> bool:
        workers = watcher.http.get("/api/v1/workers").raise_for_status().json()["items"]
        there = {
            one["name"] for one in workers if one["standing"] in {"online", "silent"} and one["origin"] == "observed"
        }
        return there == {hostname}

    wait_until(alone, what=f"{hostname} to be the only worker", seconds=180, every=0.5)
    # The walk through the results has nothing to do here; the first reads after a start are not what is measured.
    for path in (_SITREP, *_READS.values()):
        _timed(watcher.http, path, 3)


def _timed(http: httpx.Client, path: str, count: int, apart: float = 0.0) -> list[float]:
    """Milliseconds of each of so many GETs, with a pause before each."""
    took = []
    for _ in range(count):
        time.sleep(apart)
        begun = time.perf_counter()
        answer = http.get(path)
        took.append((time.perf_counter() - begun) * 1e3)
        answer.raise_for_status()
    return took
