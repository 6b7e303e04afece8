"""Child process: a client that sends no-op tasks."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks.observe.noop_app import app, noop


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Send ``count`` tasks, with or without ``sent_events``; CPU seconds that the sending took."""
    app.conf.task_send_sent_event = wanted["sent_events"]
    noop.delay(0)
    cpu = time.process_time()
    for number in range(wanted["count"]):
        noop.delay(number)
    return {"cpu": time.process_time() - cpu}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
