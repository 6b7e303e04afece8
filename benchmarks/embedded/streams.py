"""A thousand readers of server-sent events while jobs come and go."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.embedded.plan import Plan
from benchmarks.machine import Load, tree_seconds
from benchmarks.measure import Figure, Goal
from benchmarks.node import APP, NOOP
from benchmarks.plan import folder, say
from benchmarks.processes import ChildFailed, HeadwayUp, environment

_PER_SECOND = 10
_PATIENCE_SECONDS = 30.0


def streams(plan: Plan) -> list[Figure]:
    """1,000 readers of the stream of all jobs, 10 events a second for 20 s, from an event's time to its arrival."""
    answers: list[dict[str, Any]] = []
    others = []
    readers, seconds = plan.of(1_000, 100), plan.of(20, 3)
    for turn in range(plan.runs):
        with folder() as path, Load() as load, HeadwayUp(path / "data", app=APP) as server:
            answer = _once(server, path, readers, seconds * _PER_SECOND)
        say(
            f"{turn + 1}: {answer['delivered']:,} of {answer['expected']:,} delivered, "
            f"p50 {answer['p50']:.1f} ms, p99 {answer['p99']:.1f} ms, server {answer['server_cpu']:.0f} % of a core"
        )
        answers.append(answer)
        others.append(load.others)
    busy = tuple(others)

    def row(name: str, unit: str, key: str, goal: Goal | None = None) -> Figure:
        return Figure(f"{readers:,} streams, {name}", unit, tuple(a[key] for a in answers), goal, busy)

    return [
        row("delivered", "share", "share", Goal(at_least=1.0)),
        row("delivery p50", "ms", "p50"),
        row("delivery p99", "ms", "p99", Goal(at_most=100.0)),
        row("delivery, slowest", "ms", "max"),
        row("CPU of the server", "% core", "server_cpu"),
        row("CPU of the readers", "% core", "reader_cpu"),
        row("memory (RSS) of the service", "MiB", "rss", Goal(at_most=250)),
    ]


def _once(server: HeadwayUp, cwd: Path, readers: int, events: int) -> dict[str, Any]:
    address = urlsplit(server.url)
    wanted: dict[str, Any] = {"host": address.hostname, "port": address.port, "readers": readers, "events": events}
    wanted["seconds"] = events / _PER_SECOND + _PATIENCE_SECONDS
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.embedded.stream_readers", json.dumps(wanted)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        if child.stdout.readline().strip() != "connected":
            raise ChildFailed("the readers could not connect")
        cpu, begun = tree_seconds(server.pid), time.monotonic()
        _make_events(server, events)
        lasted = time.monotonic() - begun
        cpu = tree_seconds(server.pid) - cpu
        rss = server.service.memory_info().rss / 2**20
        answer: dict[str, Any] = json.loads(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    if answer["lost"]:
        raise ChildFailed(f"the server ended {answer['lost']} streams")
    answer["share"] = answer["delivered"] / answer["expected"]
    return {**answer, "server_cpu": cpu / lasted * 100, "reader_cpu": answer["cpu"] / lasted * 100, "rss": rss}


def _make_events(server: HeadwayUp, events: int) -> None:
    """One event every tenth of a second: a job for an hour from now is scheduled and does nothing more.

    Evenly spaced is the hardest way: none of them can share a write with its neighbour.
    """
    due = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    with server.client() as client:
        begun = time.monotonic()
        for number in range(events):
            time.sleep(max(0.0, begun + number / _PER_SECOND - time.monotonic()))
            client.post("/jobs", json={"task": NOOP, "run_at": due}).raise_for_status()
