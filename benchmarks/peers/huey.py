"""No-op jobs through Huey on SQLite, two workers, a queue that was filled before."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.machine import tree_seconds
from benchmarks.measure import slope
from benchmarks.processes import ChildFailed, environment, run_child
from benchmarks.watch import watch

_LOOK_SECONDS = 0.04


def run_huey(folder: Path, kind: str, count: int) -> dict[str, Any]:
    """Measure one run.

    Args:
        folder: an empty one.
        kind: of the workers, ``thread`` or ``process``.
        count: of tasks.

    Returns:
        ``rate`` (tasks/s), ``cpu`` (µs per task of the consumer's processes), ``enqueue`` (tasks/s) and
        ``synchronous`` (SQLite's setting of that name).
    """
    file = folder / "huey.db"
    filled = run_child("benchmarks.peers.huey_fill", {"count": count}, folder, BENCHMARK_HUEY_FILE=str(file))
    command = [str(Path(sys.executable).with_name("huey_consumer")), "benchmarks.peers.huey_tasks.huey"]
    command += ["--workers", "2", "--worker-type", kind, "--quiet"]
    with (folder / "consumer.log").open("ab") as log:
        consumer = subprocess.Popen(
            command, cwd=folder, env=environment(BENCHMARK_HUEY_FILE=str(file)), stdout=log, stderr=log
        )
    try:
        samples = _watch(file, count)
        cpu = tree_seconds(consumer.pid)
    finally:
        consumer.send_signal(signal.SIGINT)
        try:
            consumer.wait(20)
        except subprocess.TimeoutExpired:
            consumer.kill()
            consumer.wait()
    said = (folder / "consumer.log").read_text()
    if "ERROR" in said:
        raise ChildFailed(f"Huey's consumer had errors, so the run does not count\n{said[-2000:]}")
    return {"rate": slope(samples, count), "cpu": cpu / count * 1e6, **filled}


def _watch(file: Path, count: int) -> list[tuple[float, int]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as connection:
        return watch(
            lambda: count - connection.execute("SELECT count(*) FROM task").fetchone()[0], count, _LOOK_SECONDS
        )
