"""Procrastinate with its default settings. The database is named by the variable BENCHMARK_POSTGRES_URL."""

from __future__ import annotations

import os

import procrastinate

URL = os.environ["BENCHMARK_POSTGRES_URL"]

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL))


@app.task(name="noop")
async def noop() -> None:
    """Nothing; a coroutine, which spares Procrastinate a thread per job."""
