"""``python -m headway.serve``: the service process, started by the supervisor of ``headway up``.

It reads one line of JSON from its standard input and ends when that input ends: then the supervisor is gone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the service process; the exit code."""
    message = json.loads(sys.stdin.readline())
    _end_with(int(message["supervisor"]))
    from headway.bootstrap.starting import serve

    return serve(message)


def _end_with(supervisor: int) -> None:
    """End in good order when the supervisor dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        sys.exit(0)

    def watch() -> None:
        # Nothing more is ever written: a read that returns is the end of the pipe.
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="headway-supervisor-watch", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
