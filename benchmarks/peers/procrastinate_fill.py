"""Child process: fills Procrastinate's queue."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import procrastinate

from benchmarks.peers.procrastinate_tasks import URL, app


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Make the schema and enqueue ``count`` jobs in one batch; ``enqueue`` is jobs/s."""
    with app.replace_connector(procrastinate.SyncPsycopgConnector(conninfo=URL)) as opened, opened.open():
        opened.schema_manager.apply_schema()
        begun = time.monotonic()
        opened.tasks["noop"].batch_defer(*({} for _ in range(wanted["count"])))
        took = time.monotonic() - begun
    return {"enqueue": wanted["count"] / took}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
