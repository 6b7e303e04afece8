"""What a command that waited for a job prints and answers at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from headway.cli import screen
from headway.cli.follow import follow
from headway.model.states import JobState

if TYPE_CHECKING:
    from headway.client.api import JobsApi
    from headway.model.job import Job


def wait_and_show(api: JobsApi, job: Job, *, as_json: bool) -> None:
    """Follow a job, print its result or its error; exits 1 unless it succeeded."""
    try:
        ended = follow(api, job, silent=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(1) from None
    result = api.result(ended.id) if ended.state is JobState.SUCCEEDED else None
    if as_json:
        from headway.client.wire import job_json

        screen.show_json({**job_json(ended), "result": result})
    else:
        show_end(ended)
        if ended.state is JobState.SUCCEEDED:
            screen.show_json(result)
    if ended.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


def show_end(job: Job) -> None:
    """One line on how a job ended, and its error with the remedy on stderr."""
    screen.say(f"Job {job.id} {job.state.value} after {screen.took(job)}")
    if job.error is not None:
        screen.note(f"error [{job.error.code}]: {screen.clean(job.error.message)}")
        screen.note(f"hint: {screen.clean(job.error.hint) if job.error.hint else f'headway jobs show {job.id}'}")
