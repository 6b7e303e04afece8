"""Child process: fills Huey's queue."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks.peers.huey_tasks import huey, noop


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Enqueue ``count`` tasks, one by one: Huey has no batch.

    Returns:
        ``enqueue`` (tasks/s) and ``synchronous`` (SQLite's setting of that name; 2 is FULL).
    """
    begun = time.monotonic()
    for _ in range(wanted["count"]):
        noop()
    took = time.monotonic() - begun
    synchronous = huey.storage.conn.execute("PRAGMA synchronous").fetchone()[0]
    return {"enqueue": wanted["count"] / took, "synchronous": synchronous}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
