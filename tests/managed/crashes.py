"""Crash points: a process of the cluster ends at once between two of its writes, each time or now and then.

Loaded with the application of the tests (`CRASH_POINT` names the point, `CRASH_EVERY` how many calls pass between two
crashes), in the service and in the children of workers alike. Ends by SIGKILL to itself, as a power cut would.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

# Point -> (class, method, before or after the method's own writes).
POINTS = {
    "child: before begin": ("headway.service.workerdoor", "StoreWorkerDoor", "begin_job", "before"),
    "child: begun, not run": ("headway.service.workerdoor", "StoreWorkerDoor", "begin_job", "after"),
    "child: run, not finished": ("headway.service.workerdoor", "StoreWorkerDoor", "finish", "before"),
    "child: finished, not acknowledged": ("headway.service.workerdoor", "StoreWorkerDoor", "finish", "after"),
    "relay: taken, not sent": ("headway.engine.celery.courier", "CeleryCourier", "send", "before"),
    "relay: sent, not marked": ("headway.engine.celery.courier", "CeleryCourier", "send", "after"),
}


def install() -> None:
    """Put the crash where the environment says."""
    point = os.environ.get("CRASH_POINT")
    if point is None:
        return
    module, owner, method, when = POINTS[point]
    cls = getattr(__import__(module, fromlist=[owner]), owner)
    plain: Callable[..., Any] = getattr(cls, method)
    left = [int(os.environ.get("CRASH_EVERY", "20"))]

    @functools.wraps(plain)
    def crashing(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        crashes = left[0] == 0
        if crashes and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = plain(*args, **kwargs)
        if crashes:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(cls, method, crashing)
