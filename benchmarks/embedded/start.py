"""What `headway up` costs before it does anything: seconds until it is ready, CPU while idle, memory."""

from __future__ import annotations

import time

import psutil

from benchmarks.embedded.plan import Plan
from benchmarks.machine import Load, tree_seconds
from benchmarks.measure import Figure, Goal
from benchmarks.plan import folder, say
from benchmarks.processes import HeadwayUp

_SETTLE_SECONDS = 5.0


def start(plan: Plan) -> list[Figure]:
    """Start on a fresh data directory and again on the same, and idle in between."""
    fresh, again, cpus, idle, service, supervisor, others = [], [], [], [], [], [], []
    seconds = plan.of(20, 5)
    for turn in range(plan.runs):
        with folder() as path, Load() as load:
            with HeadwayUp(path / "data") as server:
                fresh.append(server.ready_seconds)
                cpus.append(tree_seconds(server.pid))
                time.sleep(_SETTLE_SECONDS)
                begun, cpu = time.monotonic(), tree_seconds(server.pid)
                time.sleep(seconds)
                idle.append((tree_seconds(server.pid) - cpu) / (time.monotonic() - begun) * 100)
                service.append(server.service.memory_info().rss / 2**20)
                supervisor.append(psutil.Process(server.pid).memory_info().rss / 2**20)
            with HeadwayUp(path / "data") as server:
                again.append(server.ready_seconds)
        others.append(load.others)
        say(f"{turn + 1}: ready in {fresh[-1]:.2f} s, then {again[-1]:.2f} s; idle {idle[-1]:.2f} % of a core")
    busy, ready = tuple(others), Goal(at_most=3.0)
    return [
        Figure("`headway up`, fresh data directory, to ready", "s", tuple(fresh), ready, busy),
        Figure("`headway up`, next start, to ready", "s", tuple(again), ready, busy),
        Figure("`headway up`, fresh data directory: CPU until ready", "s", tuple(cpus), None, busy),
        Figure("idle CPU, service and supervisor", "% core", tuple(idle), Goal(at_most=1.0), busy, f"over {seconds} s"),
        Figure("idle memory (RSS), service", "MiB", tuple(service), Goal(at_most=250), busy),
        Figure("idle memory (RSS), supervisor", "MiB", tuple(supervisor), None, busy),
    ]
