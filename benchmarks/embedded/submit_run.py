"""Child process: batches of ten thousand jobs into the store, in process, while nothing runs them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.node import LARGEST_BATCH, NOOP, context_of, opened_node
from headway.model.commands import SubmitJob
from headway.service import submit_batch, submit_job


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Submit ``batches`` batches after one that does not count, then ``singles`` jobs one by one.

    Returns:
        ``rates`` (jobs/s) and ``cpu`` (µs per job) of each batch, ``single`` (jobs/s from one thread).
    """
    rates, cpus = [], []
    with opened_node(Path(wanted["data_dir"])) as node:
        ctx = context_of(node)
        for _ in range(1 + wanted["batches"]):
            commands = [SubmitJob(task=NOOP) for _ in range(LARGEST_BATCH)]
            begun, cpu = time.monotonic(), time.process_time()
            submit_batch(ctx, commands)
            rates.append(LARGEST_BATCH / (time.monotonic() - begun))
            cpus.append((time.process_time() - cpu) / LARGEST_BATCH * 1e6)
        begun = time.monotonic()
        for _ in range(wanted["singles"]):
            submit_job(ctx, SubmitJob(task=NOOP))
        single = wanted["singles"] / (time.monotonic() - begun)
    return {"rates": rates[1:], "cpu": cpus[1:], "single": single}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
