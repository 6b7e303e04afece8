"""Populations: what a second worker process brings, and what the server's own process needs meanwhile."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx

from benchmarks.embedded.plan import Plan
from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal
from benchmarks.plan import folder, say
from benchmarks.processes import HeadwayUp, run_child

_TASK = "headway.pbpk.run_population"
_LOOK_SECONDS = 0.2
_LONGEST_SECONDS = 3600.0
# A turn takes minutes, and the ratio hardly differs.
_MOST_TURNS = 3
_SIMULATED = re.compile(r"individuals simulated in ([0-9.]+) s")
_MEMORY = Goal(at_most=250)


def populations(plan: Plan) -> list[Figure]:
    """A population of 20,000 on two warm worker processes and on one, in turns; memory of the service meanwhile."""
    size = plan.of(20_000, 2_000)
    answers: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    others, bare = [], []
    with folder() as path, HeadwayUp(path / "data", workers=2) as server, server.client() as client:
        for turn in range(min(plan.runs, _MOST_TURNS)):
            with Load() as load:
                for workers in (2, 1):
                    _warm(server, client, workers)
                    answers[workers].append(_run(server, client, size, workers))
            others.append(load.others)
            bare.append(_bare(plan))
            took = {workers: found[-1] for workers, found in answers.items()}
            say(
                f"{turn + 1}: {took[2]['whole']:.1f} s on two, {took[1]['whole']:.1f} s on one; "
                f"the bare solver, two processes : one: {bare[-1]:.2f}"
            )
        figures = _figures(size, answers, tuple(others))
        note = "what the machine's two cores give"
        figures.append(Figure("the solver alone, two processes : one", "times", tuple(bare), None, tuple(others), note))
        if plan.long:
            large = _run(server, client, plan.of(200_000, 4_000), 2)
            name = f"memory (RSS) of the service, population of {plan.of(200_000, 4_000):,}"
            figures.append(Figure(name, "MiB", (large["rss"],), _MEMORY, note=f"took {large['whole']:.0f} s"))
    return figures


def _bare(plan: Plan) -> float:
    """How much more two processes simulate than one when neither has anything to do with Headway."""
    seconds = float(plan.of(6, 1))
    with folder() as path, ThreadPoolExecutor(2) as pool:

        def rate(_: int) -> float:
            return float(run_child("benchmarks.embedded.solver_run", {"seconds": seconds}, path)["rate"])

        alone = rate(0)
        return sum(pool.map(rate, range(2))) / alone


def _figures(size: int, answers: dict[int, list[dict[str, float]]], busy: tuple[float, ...]) -> list[Figure]:
    pairs = list(zip(answers[1], answers[2], strict=True))
    whole = tuple(one["whole"] / two["whole"] for one, two in pairs)
    simulated = tuple(one["simulated"] / two["simulated"] for one, two in pairs)
    rss = tuple(max(one["rss"], two["rss"]) for one, two in pairs)
    return [
        Figure(f"population of {size:,}, two : one, whole job", "times", whole, Goal(at_least=1.6), busy),
        Figure(f"population of {size:,}, two : one, simulation alone", "times", simulated, None, busy),
        Figure(f"population of {size:,} on two", "s", tuple(two["whole"] for _, two in pairs), None, busy),
        Figure(f"population of {size:,} on one", "s", tuple(one["whole"] for one, _ in pairs), None, busy),
        Figure(f"memory (RSS) of the service, population of {size:,}", "MiB", rss, _MEMORY, busy, "largest, 5 looks/s"),
    ]


def _warm(server: HeadwayUp, client: httpx.Client, workers: int) -> None:
    """Each slot has a child with workers of its own, and which slot takes a job is not ours to say: several jobs."""
    for _ in range(4):
        _run(server, client, 400, workers)


def _run(server: HeadwayUp, client: httpx.Client, size: int, workers: int) -> dict[str, float]:
    """One population: ``whole`` job and ``simulated`` part in seconds, largest ``rss`` of the service in MiB."""
    wanted = {"task": _TASK, "kwargs": {"model": "caffeine", "size": size, "seed": 1, "workers": workers}}
    job: dict[str, Any] = client.post("/jobs", json=wanted).raise_for_status().json()
    service, rss, ends = server.service, 0, time.monotonic() + _LONGEST_SECONDS
    while job["finished_at"] is None:
        if time.monotonic() > ends:
            raise RuntimeError(f"the population did not end: {job}")
        rss = max(rss, service.memory_info().rss)
        time.sleep(_LOOK_SECONDS)
        job = client.get(f"/jobs/{job['id']}").raise_for_status().json()
    if job["state"] != "succeeded" or job["attempts"] != 1:
        raise RuntimeError(f"the population did not succeed at once: {job}")
    lines = client.get(f"/jobs/{job['id']}/logs").raise_for_status().json()["items"]
    found = [match for match in (_SIMULATED.search(line["text"]) for line in lines) if match]
    whole = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return {"whole": whole.total_seconds(), "simulated": float(found[-1].group(1)), "rss": rss / 2**20}
