"""``python -m headway.serve``: the service process, started by the supervisor of ``headway up``.

It reads one line of JSON from its standard input and ends when that input ends: then the supervisor is gone.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Run the service process; ends the interpreter with its exit code."""
    # A terminal that closes tells the whole group: the supervisor turns it into an end in good order.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A hundred thousand objects come to stay while everything is imported: looking through them for garbage is in vain.
    gc.disable()
    message = json.loads(sys.stdin.readline())
    _end_with(int(message["supervisor"]))
    from headway.bootstrap.starting import serve

    code = serve(message)
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is stored and closed. Python's own exit would wait for threads of tasks that never return.
    os._exit(code)


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
    main()
