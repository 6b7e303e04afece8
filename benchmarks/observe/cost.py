"""What events cost the workers and the clients that send them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis

from benchmarks.machine import Load, tree_seconds
from benchmarks.measure import Figure
from benchmarks.observe.brokers import running_valkey
from benchmarks.observe.plan import Plan
from benchmarks.plan import folder, say
from benchmarks.processes import ChildFailed, environment, run_child

_URL = "BENCHMARK_BROKER_URL"
_APP = "benchmarks.observe.noop_app"
_STUCK_SECONDS = 120.0
_LOOKS = 5


def cost_of_events(plan: Plan) -> list[Figure]:
    """CPU per no-op task of a prefork worker with two children, with -E and without; and of the client that sends."""
    count = plan.of(10_000, 500)
    worker: dict[bool, list[float]] = defaultdict(list)
    client: dict[bool, list[float]] = defaultdict(list)
    others = []
    for turn in range(plan.runs):
        with Load() as load:
            for events in (False, True):
                own, theirs = _once(events, count)
                worker[events].append(own * 1e6)
                client[events].append(theirs * 1e6)
        others.append(load.others)
        say(
            f"{turn + 1}: worker {worker[True][-1]:.0f} µs a task with -E, {worker[False][-1]:.0f} without; "
            f"client {client[True][-1]:.0f} and {client[False][-1]:.0f}"
        )
    busy, figures = tuple(others), []
    for who, found, how in (("worker", worker, "-E"), ("client", client, "task_send_sent_event")):
        with_events, without = tuple(found[True]), tuple(found[False])
        ratio = tuple(more / less for more, less in zip(with_events, without, strict=True))
        figures += [
            Figure(f"{who}: CPU without {how}", "µs/task", without, None, busy),
            Figure(f"{who}: CPU with {how}", "µs/task", with_events, None, busy),
            Figure(f"{who}: CPU, with : without {how}", "times", ratio, None, busy),
        ]
    return figures


def _once(events: bool, count: int) -> tuple[float, float]:
    """CPU seconds per task, of the worker and of the client."""
    with folder() as path, running_valkey() as server, redis.Redis(port=server.port) as connection:
        wanted = {"count": count // 10, "sent_events": events}
        with _worker(path, server.url, events) as pid:
            run_child("benchmarks.observe.send_run", wanted, path, **{_URL: server.url})
            _wait_until_empty(connection)
            cpu = tree_seconds(pid)
            wanted["count"] = count
            answer = run_child("benchmarks.observe.send_run", wanted, path, **{_URL: server.url})
            _wait_until_empty(connection)
            cpu = tree_seconds(pid) - cpu
    return cpu / count, answer["cpu"] / count


@contextmanager
def _worker(path: Path, url: str, events: bool) -> Iterator[int]:
    command = [sys.executable, "-m", "celery", "-A", _APP, "worker", "--pool", "prefork", "--concurrency", "2"]
    with (path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *(["-E"] if events else [])],
            cwd=path,
            env=environment(**{_URL: url}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process.pid
    finally:
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            for pid in family:
                if psutil.pid_exists(pid):
                    psutil.Process(pid).kill()
            process.wait()


def _wait_until_empty(connection: redis.Redis) -> None:
    """Until no message waits and none is unacknowledged, at several looks in a row; then the last tasks have ended."""
    empty, ends = 0, time.monotonic() + _STUCK_SECONDS
    while empty < _LOOKS:
        if time.monotonic() > ends:
            raise ChildFailed("the worker did not run its tasks")
        time.sleep(0.1)
        waiting = int(str(connection.llen("celery"))) + int(str(connection.hlen("unacked")))
        empty = 0 if waiting else empty + 1
    time.sleep(0.5)
