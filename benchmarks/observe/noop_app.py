"""A Celery application with one task that does nothing. The broker is named by the variable BENCHMARK_BROKER_URL."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("benchmark", broker=os.environ["BENCHMARK_BROKER_URL"])
app.conf.broker_connection_retry_on_startup = True


@app.task(name="benchmark.noop", ignore_result=True)
def noop(number: int) -> None:
    """Nothing."""
