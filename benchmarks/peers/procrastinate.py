"""No-op jobs through Procrastinate on Postgres, two worker processes, a queue that was filled before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.machine import tree_seconds
from benchmarks.measure import slope
from benchmarks.processes import environment, run_child
from benchmarks.watch import watch

# A look is a count over the jobs' table: seldom, because the same server does the work.
_LOOK_SECONDS = 0.1


def run_procrastinate(folder: Path, url: str, server_pid: int, concurrency: int, count: int) -> dict[str, Any]:
    """Measure one run.

    Args:
        folder: an empty one.
        url: of an empty database.
        server_pid: of its server.
        concurrency: jobs at a time in each of the two processes.
        count: of jobs.

    Returns:
        ``rate`` (jobs/s), ``cpu`` (µs per job of the workers), ``server_cpu`` (of the database), ``enqueue`` (jobs/s).
    """
    filled = run_child("benchmarks.peers.procrastinate_fill", {"count": count}, folder, BENCHMARK_POSTGRES_URL=url)
    server_cpu = tree_seconds(server_pid)
    workers = [_worker(folder, url, concurrency) for _ in range(2)]
    try:
        samples = _watch(url, count)
        cpu = sum(tree_seconds(worker.pid) for worker in workers)
        server_cpu = tree_seconds(server_pid) - server_cpu
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
    return {
        "rate": slope(samples, count),
        "cpu": cpu / count * 1e6,
        "server_cpu": server_cpu / count * 1e6,
        **filled,
    }


def _worker(folder: Path, url: str, concurrency: int) -> subprocess.Popen[bytes]:
    command = [
        str(Path(sys.executable).with_name("procrastinate")),
        "--app",
        "benchmarks.peers.procrastinate_tasks.app",
    ]
    command += ["--log-level", "warning", "worker", "--concurrency", str(concurrency)]
    with (folder / "worker.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment(BENCHMARK_POSTGRES_URL=url), stdout=log, stderr=log
        )


def _watch(url: str, count: int) -> list[tuple[float, int]]:
    with psycopg.connect(url, autocommit=True) as connection:

        def done() -> int:
            row = connection.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'").fetchone()
            return int(row[0]) if row else 0

        return watch(done, count, _LOOK_SECONDS)
