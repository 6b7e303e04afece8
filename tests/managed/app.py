"""The application of the managed tests: ordinary Celery tasks, attached in one line.

Every attempt writes what it did to a file of its own, so that a test can count effects (FAULT_EFFECTS names the folder).
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery

import headway

app = Celery("managed", broker=os.environ.get("MANAGED_BROKER"))
app.conf.broker_connection_retry_on_startup = True
# A test that cuts connections should not wait for the manners of production.
app.conf.broker_connection_max_retries = None
app.conf.broker_transport_options = {"visibility_timeout": float(os.environ.get("MANAGED_VISIBILITY", "3600"))}
headway.attach(app)


def effect(name: str) -> None:
    """Write down that this attempt had an effect."""
    folder = os.environ.get("FAULT_EFFECTS")
    if folder:
        job = headway.current_job()
        kept = Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        (kept / f"{job.id}.{job.fence}.{name}.{uuid4().hex}").touch()


@app.task
def add(x: int, y: int) -> int:
    """The sum."""
    effect("add")
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
    effect("try")
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
