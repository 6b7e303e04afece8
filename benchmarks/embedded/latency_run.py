"""Child process: from submit to result, one job after the other, in the process of an idle engine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.jobs import noop
from benchmarks.measure import percentile
from benchmarks.node import NOOP, context_of, opened_node
from headway.model.commands import SubmitJob
from headway.model.states import JobState
from headway.service import StoreJobDoor

_WAIT_SECONDS = 30.0


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Measure ``count`` jobs each way after ``count // 5`` that do not count.

    Returns:
        ``task`` and ``door``, each with ``p50`` and ``p99`` in ms.
    """
    count = wanted["count"]
    with opened_node(Path(wanted["data_dir"])) as node:
        node.start()
        door = StoreJobDoor(context_of(node), node.worker_id)

        def by_task() -> None:
            noop.delay().get(timeout=_WAIT_SECONDS)

        def by_door() -> None:
            job = door.wait(door.submit(SubmitJob(task=NOOP)).id, _WAIT_SECONDS)
            assert job is not None
            assert job.state is JobState.SUCCEEDED, job

        return {"task": _timed(by_task, count), "door": _timed(by_door, count)}


def _timed(one: Callable[[], None], count: int) -> dict[str, float]:
    took = []
    for _ in range(count // 5 + count):
        begun = time.perf_counter()
        one()
        took.append((time.perf_counter() - begun) * 1e3)
    took = took[count // 5 :]
    return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99)}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
