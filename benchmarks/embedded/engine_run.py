"""Child process: no-op jobs through the embedded engine, a queue that was filled before, everything recorded."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.machine import tree_seconds
from benchmarks.measure import slope
from benchmarks.node import context_of, fill, opened_node
from benchmarks.watch import watch
from headway.bootstrap.node import Node

_LOOK_SECONDS = 0.04
_NUMBERED_SECONDS = 30.0


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Measure one run.

    Args:
        wanted: ``data_dir``, ``count``, ``registry`` (URL or None) and ``server_pid`` (of the database, or None).

    Returns:
        ``rate`` (jobs/s), ``cpu`` (µs per job of this process), ``server_cpu`` (of the database), ``enqueue`` (jobs/s
        of the filling).
    """
    count, server = wanted["count"], wanted.get("server_pid")
    with opened_node(Path(wanted["data_dir"]), registry=wanted.get("registry")) as node:
        begun = time.monotonic()
        fill(context_of(node), count)
        enqueue = count / (time.monotonic() - begun)
        cpu, server_cpu = time.process_time(), tree_seconds(server) if server else 0.0
        node.start()
        # A job counts as finished once its finish is committed.
        samples = watch(lambda: node.engine.status().finished, count, _LOOK_SECONDS)
        cpu = time.process_time() - cpu
        server_cpu = tree_seconds(server) - server_cpu if server else 0.0
        _check(node, count)
    return {
        "rate": slope(samples, count),
        "cpu": cpu / count * 1e6,
        "server_cpu": server_cpu / count * 1e6,
        "enqueue": enqueue,
    }


def _check(node: Node, count: int) -> None:
    """Every job has one attempt that succeeded, and all transitions are in the feed, numbered without a gap.

    A job that was taken and then waited too long for a slot goes back to the queue: that is an attempt more.
    """
    engine = sa.create_engine(node.settings.registry_url)
    asked = {
        "succeeded jobs": "SELECT count(*) FROM jobs WHERE state = 'succeeded'",
        "succeeded attempts": "SELECT count(*) FROM attempts WHERE outcome = 'succeeded'",
        "attempts": "SELECT count(*) FROM attempts",
        "events": "SELECT count(*) FROM events",
        "numbered": "SELECT count(pos) FROM events",
        "positions": "SELECT max(pos) - min(pos) + 1 FROM events",
    }
    ends = time.monotonic() + _NUMBERED_SECONDS
    while True:
        with engine.connect() as connection:
            found = {name: int(connection.execute(sa.text(query)).scalar() or 0) for name, query in asked.items()}
        transitions = count + 2 * found["attempts"]
        if [*found.values()] == [count, count, found["attempts"], transitions, transitions, transitions]:
            engine.dispose()
            return
        if time.monotonic() > ends:
            raise RuntimeError(f"{count:,} jobs, but {found}: the run does not count")
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
