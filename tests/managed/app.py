"""The application of the managed tests: ordinary Celery tasks, attached in one line.

What an attempt did is written to the file that FAULT_EFFECTS names, so that a test can compare it with the record.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery, chain, group

import headway
from tests.managed import crashes

crashes.install()
app = Celery("managed", broker=os.environ.get("MANAGED_BROKER"))
app.conf.broker_connection_retry_on_startup = True
# A test that cuts connections should not wait for the manners of production.
app.conf.broker_connection_max_retries = None
app.conf.broker_transport_options = {"visibility_timeout": float(os.environ.get("MANAGED_VISIBILITY", "3600"))}
headway.attach(app)


def effect(what: str) -> None:
    """One line in one write, so that attempts of several processes do not mix: what really happened."""
    path = os.environ.get("FAULT_EFFECTS")
    if not path:
        return
    job = headway.current_job()
    line = {"what": what, "job": job.id, "fence": job.fence, "pid": os.getpid(), "at": time.time()}
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


@app.task
def work(seconds: float = 0.0) -> str:
    """Begin, take a while, end."""
    effect("begin")
    time.sleep(seconds)
    effect("end")
    return "done"


@app.task
def add(x: int, y: int) -> int:
    """The sum."""
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    """The sum of many."""
    return sum(numbers)


@app.task
def nap(seconds: float) -> int:
    """Sleep; says under which fence."""
    effect("begin")
    time.sleep(seconds)
    effect("end")
    return headway.current_job().fence


@app.task
def steps(count: int, pause: float = 0.02) -> int | None:
    """Report progress and write a log, until done or asked to stop."""
    job = headway.current_job()
    for step in range(count):
        if job.cancelled():
            return None
        job.progress(step + 1, count, f"step {step + 1}")
        time.sleep(pause)
    job.log("all steps done")
    return count


@app.task(bind=True, max_retries=5)
def flaky(self: Any, until: int) -> int:
    """Retry itself so many times."""
    if self.request.retries < until:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(autoretry_for=(OSError,), retry_backoff=False, max_retries=2, default_retry_delay=0)
def stubborn() -> None:
    """Fail until Celery gives up."""
    raise OSError("still broken")


@app.task
def boom(text: str = "boom") -> None:
    """Fail."""
    raise ValueError(text)


@app.task(soft_time_limit=1, time_limit=30)
def soft() -> None:
    """Run into the soft limit."""
    time.sleep(20)


@app.task(time_limit=1)
def hard() -> None:
    """Run into the hard limit."""
    time.sleep(20)


@app.task
def die(signal_number: int, once: str = "") -> str:
    """Kill the process that runs it, each time or once."""
    if once and Path(once).exists():
        return "survived"
    if once:
        Path(once).touch()
    os.kill(os.getpid(), signal_number)
    time.sleep(20)
    return "unreachable"


@app.task(headway=False)
def plain(x: int) -> int:
    """Opted out: no job."""
    return x * 2


@app.task(bind=True)
def who(self: Any) -> dict[str, Any]:
    """What an attempt can know of itself."""
    job = headway.current_job()
    return {
        "id": job.id,
        "request_id": self.request.id,
        "attempt": job.attempt,
        "fence": job.fence,
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
        "hostname": self.request.hostname,
        "queue": self.request.delivery_info["routing_key"],
        "root_id": self.request.root_id,
        "parent_id": self.request.parent_id,
    }


@app.task
def sends(count: int) -> list[str]:
    """Send further jobs from the body."""
    return [add.delay(number, number).id for number in range(count)]


@app.task(bind=True)
def becomes(self: Any, what: str) -> Any:
    """Replace itself by a chain or a group."""
    if what == "chain":
        raise self.replace(chain(add.s(1, 2), add.s(3)))
    raise self.replace(group(add.s(1, 1), add.s(2, 2)))
