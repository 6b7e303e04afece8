"""How fast many jobs are accepted at once: by the verb, and over HTTP."""

from __future__ import annotations

import json
import time

import httpx

from benchmarks.embedded.plan import Plan
from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal
from benchmarks.node import APP, LARGEST_BATCH, NOOP
from benchmarks.plan import folder, say
from benchmarks.processes import HeadwayUp, run_child

_GOAL = Goal(at_least=10_000)
_EMPTY_SECONDS = 300.0


def batches(plan: Plan) -> list[Figure]:
    """Batches of 10,000 no-op jobs, each acknowledged when it is durable."""
    with folder() as path, Load() as load:
        wanted = {"data_dir": str(path / "data"), "batches": plan.runs, "singles": plan.of(2_000, 200)}
        found = run_child("benchmarks.embedded.submit_run", wanted, path)
    busy = (load.others,) * plan.runs
    say(f"in process: {', '.join(f'{rate:,.0f}' for rate in found['rates'])} jobs/s")
    with folder() as path, Load() as load, HeadwayUp(path / "data", app=APP) as server, server.client() as client:
        posted = [_post(client) for _ in range(1 + plan.runs)][1:]
    say(f"over HTTP: {', '.join(f'{rate:,.0f}' for rate in posted)} jobs/s")
    return [
        Figure("batch of 10,000, submit_batch", "jobs/s", tuple(found["rates"]), _GOAL, busy),
        Figure("batch of 10,000, submit_batch: CPU", "µs/job", tuple(found["cpu"]), None, busy),
        Figure("batch of 10,000, POST /jobs/batch", "jobs/s", tuple(posted), _GOAL, (load.others,) * plan.runs),
        Figure("one by one, submit_job, one thread", "jobs/s", (found["single"],), None, busy[:1]),
    ]


def _post(client: httpx.Client) -> float:
    """Jobs per second of one batch from request to answer; returns once the server has run them all."""
    body = json.dumps({"jobs": [{"task": NOOP}] * LARGEST_BATCH}).encode()
    begun = time.monotonic()
    answer = client.post("/jobs/batch", content=body, headers={"Content-Type": "application/json"})
    took = time.monotonic() - begun
    answer.raise_for_status()
    assert len(answer.json()["job_ids"]) == LARGEST_BATCH
    ends = time.monotonic() + _EMPTY_SECONDS
    while client.get("/jobs", params={"state": "queued,running", "limit": 1}).raise_for_status().json()["items"]:
        if time.monotonic() > ends:
            raise RuntimeError("the server did not run the batch")
        time.sleep(0.1)
    return LARGEST_BATCH / took
