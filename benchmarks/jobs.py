"""The jobs that are measured: as short as a job can be."""

from __future__ import annotations

from headway import task


@task
def noop() -> None:
    """Nothing."""


@task
def other() -> None:
    """Nothing, by another name: a list by task has something to leave out."""


@task
def fail() -> None:
    """Always fails, with an ordinary error."""
    raise ValueError("this job fails on purpose")
