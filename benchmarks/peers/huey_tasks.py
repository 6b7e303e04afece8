"""Huey on SQLite with its default settings. The file is named by the variable BENCHMARK_HUEY_FILE."""

from __future__ import annotations

import os

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["BENCHMARK_HUEY_FILE"])


@huey.task()
def noop() -> None:
    """Nothing; a result of None is not stored, which spares Huey a write."""
