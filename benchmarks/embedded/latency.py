"""From submit to result of one no-op job on an idle engine."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.embedded.plan import Plan
from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal, percentile
from benchmarks.node import APP, NOOP
from benchmarks.plan import folder, say
from benchmarks.processes import HeadwayUp, run_child
from headway.client import Client
from headway.model.states import JobState

_P50, _P99 = Goal(at_most=2.0), Goal(at_most=10.0)


def submit_to_result(plan: Plan) -> list[Figure]:
    """In process by ``task.delay().get()`` and by the door; over HTTP by the client, for information."""
    answers: list[dict[str, Any]] = []
    others = []
    for turn in range(plan.runs):
        with folder() as path, Load() as load:
            wanted = {"data_dir": str(path / "data"), "count": plan.of(2_000, 200)}
            answer = run_child("benchmarks.embedded.latency_run", wanted, path)
            answer["http"] = _over_http(plan)
        say(
            f"{turn + 1}: " + ", ".join(f"{way} {each['p50']:.2f}/{each['p99']:.2f} ms" for way, each in answer.items())
        )
        answers.append(answer)
        others.append(load.others)
    busy = tuple(others)
    ways = {
        "task": "task.delay().get(), in process",
        "door": "submit and wait, in process",
        "http": "Client, over HTTP",
    }
    figures = []
    for way, name in ways.items():
        for share, goal in (("p50", _P50), ("p99", _P99)):
            values = tuple(answer[way][share] for answer in answers)
            bound = None if way == "http" else goal
            figures.append(Figure(f"submit to result, {name}, {share}", "ms", values, bound, busy))
    return figures


def _over_http(plan: Plan) -> dict[str, float]:
    """Submit, then wait by the job's stream: three requests."""
    took = []
    count = plan.of(500, 50)
    with folder() as path, HeadwayUp(path / "data", app=APP) as server, Client(server.url) as client:
        for _ in range(count // 5 + count):
            begun = time.perf_counter()
            job = client.wait(client.submit(NOOP).id, timeout=30)
            took.append((time.perf_counter() - begun) * 1e3)
            assert job.state is JobState.SUCCEEDED, job
    took = took[count // 5 :]
    return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99)}
