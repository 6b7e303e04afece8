"""An application with a result backend of its own: attached where a worker runs it, plain where a producer does."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery, chord

import headway

app = Celery("foreign", broker=os.environ.get("MANAGED_BROKER"), backend=os.environ.get("MANAGED_BROKER"))
app.conf.update(broker_connection_retry_on_startup=True)
if os.environ.get("MANAGED_BROKER"):
    headway.attach(app)


@app.task
def add(x: int, y: int) -> int:
    """The sum."""
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    """The sum of many."""
    return sum(numbers)


@app.task
def boom(*_: Any) -> None:
    """Fail."""
    raise ValueError("boom")


@app.task(bind=True, max_retries=3)
def flaky(self: Any, until: int) -> int:
    """Retry itself so many times."""
    if self.request.retries < until:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


@app.task(bind=True)
def becomes(self: Any) -> Any:
    """Replace itself by a chain."""
    raise self.replace(add.s(1, 2) | add.s(3))


@app.task(time_limit=1)
def hard() -> None:
    """Run into the hard limit."""
    time.sleep(20)


@app.task
def note(*arguments: Any) -> None:
    """Write a line: what really happened."""
    with open(os.environ["FAULT_EFFECTS"], "a", encoding="utf-8") as effects:  # noqa: PTH123 - one append
        effects.write(f"{arguments[-1]}\n")


@app.task
def own_chord() -> str:
    """A chord of its own, joined by the attached worker."""
    return str(chord([add.s(1, 1), add.s(2, 2)])(total.s()).id)


@app.task
def size_of(value: Any) -> int:
    """How many; given what JSON has no word for."""
    return len(value)


@app.task(headway=False)
def plain(x: int) -> int:
    """Opted out."""
    return x * 2


@app.task
def twice_plain(x: int) -> int:
    """Recorded, after one that is not."""
    return x + 1
