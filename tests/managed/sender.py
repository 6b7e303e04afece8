"""An attached application for senders; which database it uses says the environment."""

from __future__ import annotations

from celery import Celery

import headway

app = Celery("sender", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1", set_as_current=False)
headway.attach(app)


@app.task
def add(x: int, y: int = 0) -> int:
    """The sum."""
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    """The sum of many."""
    return sum(numbers)


@app.task(headway=False)
def plain(x: int) -> int:
    """Opted out."""
    return x
