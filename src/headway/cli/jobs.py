"""`headway submit` and `headway jobs …`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli import screen
from headway.cli.options import ApiKey, Args, DataDir, JobId, Json, Kwargs, Url
from headway.cli.reaching import jobs_api
from headway.cli.values import UsageError, moment_of, named_values_of, pair_of, past_of, values_of
from headway.model.commands import ListJobs, SubmitJob
from headway.model.states import JobState, states_named

if TYPE_CHECKING:
    from headway.client.api import JobsApi
    from headway.model.job import Job

jobs = typer.Typer(no_args_is_help=True, help="Look at jobs, follow them, cancel them, run them again.")


def _now() -> int:
    return time.time_ns() // 1000


def submit(
    task: Annotated[str, typer.Argument(help="Registered name of the task.", show_default=False)],
    arg: Args = None,
    kwarg: Kwargs = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Queue [default: the task's own].")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Not before: RFC 3339 with a zone, or +10m.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key: the same key and arguments are the same job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job; exit 1 unless it succeeds.")] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Submit a job: it is stored when this returns."""
    command = SubmitJob(
        task=task,
        args=values_of(arg or []),
        kwargs=named_values_of(kwarg or []),
        queue=queue,
        run_at=moment_of(at, _now()) if at else None,
        idempotency_key=key,
        origin="cli",
    )
    with jobs_api(data_dir, url, api_key) as api:
        job = api.send(command)
        if wait:
            from headway.cli.ending import wait_and_show

            if not as_json:
                screen.note(f"Job {job.id}")
            wait_and_show(api, job, as_json=as_json)
        elif as_json:
            from headway.client.wire import job_json

            screen.show_json(job_json(job))
        else:
            _say_accepted(api, job)


def _say_accepted(api: JobsApi, job: Job) -> None:
    screen.say(job.id)
    if not api.runs_jobs:
        screen.note(f"Stored in {api.where}. No Headway runs there: start it with `headway up`.")


@jobs.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option("--state", help="Ours (failed) or Celery's (FAILURE).")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Name of the task.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Name of the queue.")] = None,
    worker: Annotated[str | None, typer.Option("--worker", help="Id of the worker.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="K=V", help="A label.")] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="In task, labels, arguments or error; or how an id begins.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Submitted at or after (RFC 3339, or 10m for ten minutes ago).")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Submitted before (RFC 3339, or 10m).")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Jobs on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Next page: the cursor of the page before.")] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List jobs, newest first."""
    now = _now()
    query = ListJobs(
        states=_states(state or []),
        task=task,
        queue=queue,
        worker=worker,
        label=pair_of(label, "--label") if label else None,
        text=text,
        since=past_of(since, now, "--since") if since else None,
        until=past_of(until, now, "--until") if until else None,
        limit=limit,
        cursor=cursor,
    )
    with jobs_api(data_dir, url, api_key) as api:
        page = api.page(query)
    if as_json:
        from headway.client.wire import job_json

        screen.show_json({"items": [job_json(job) for job in page.items], "next_cursor": page.next_cursor})
        return
    screen.show_jobs(page.items)
    if page.next_cursor:
        screen.note(f"More: the same again with --cursor {page.next_cursor}")


def _states(names: list[str]) -> tuple[JobState, ...]:
    found: list[JobState] = []
    for name in names:
        meant = states_named(name)
        if not meant:
            raise UsageError(
                f"--state: nobody knows the state {name!r}.", hint=f"States are {', '.join(JobState)}; or Celery's."
            )
        found.extend(meant)
    return tuple(dict.fromkeys(found))


@jobs.command()
def show(
    job_id: JobId, as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None
) -> None:
    """Show one job with its attempts, its error and the workflow that it belongs to."""
    with jobs_api(data_dir, url, api_key) as api:
        job = api.get(job_id)
        attempts = api.attempts(job_id)
        workflow = api.workflow(job_id, screen.SHOWN_WORKFLOW)
    if as_json:
        from headway.client.wire import attempt_json, job_json, workflow_json

        # `attempts` of a job is their number; the list has a name of its own.
        screen.show_json(
            {
                **job_json(job),
                "attempt_list": [attempt_json(one) for one in attempts],
                "workflow": workflow_json(workflow),
            }
        )
        return
    screen.show_job(job, attempts, workflow)


@jobs.command()
def watch(
    job_id: JobId, as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None
) -> None:
    """Follow a job live; exits 1 unless it succeeds. Ctrl-C leaves the job running."""
    from headway.cli.ending import show_end
    from headway.cli.follow import follow

    with jobs_api(data_dir, url, api_key) as api:
        try:
            ended = follow(api, api.get(job_id), json_lines=as_json)
        except KeyboardInterrupt:
            raise typer.Exit(1) from None
    if not as_json:
        show_end(ended)
    if ended.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


@jobs.command()
def logs(
    job_id: JobId,
    after: Annotated[int, typer.Option("--after", min=0, help="Only lines with a higher number.")] = 0,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Print a job's log; with --json one object a line."""
    from headway.client.wire import line_json

    with jobs_api(data_dir, url, api_key) as api:
        while lines := api.logs(job_id, after):
            for line in lines:
                if as_json:
                    screen.show_json_line(line_json(line))
                else:
                    screen.say(screen.clean(line.text))
            after = lines[-1].id


@jobs.command()
def result(
    job_id: JobId, as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None
) -> None:
    """Print a job's result as JSON; with --json inside {"result": …} as REST does."""
    with jobs_api(data_dir, url, api_key) as api:
        value = api.result(job_id)
    screen.show_json({"result": value} if as_json else value)


@jobs.command()
def cancel(
    job_id: JobId,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")] = "",
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Cancel a job: one that waits never starts, one that runs is asked to stop and then stopped."""
    with jobs_api(data_dir, url, api_key) as api:
        job = api.cancel(job_id, reason)
    if as_json:
        from headway.client.wire import job_json

        screen.show_json(job_json(job))
    elif job.state is JobState.CANCELLED:
        screen.say(f"Job {job.id} is cancelled")
    else:
        screen.say(f"Job {job.id} is {job.state.value}; it was asked to stop")


@jobs.command()
def rerun(
    job_id: JobId,
    arg: Args = None,
    kwarg: Kwargs = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the new job; exit 1 unless it succeeds.")] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Run a job again as a new one. --arg replaces all positional arguments, --kwarg only the named ones."""
    changes = named_values_of(kwarg or [])
    with jobs_api(data_dir, url, api_key) as api:
        kwargs = {**api.get(job_id).kwargs, **changes} if changes else None
        job = api.rerun(job_id, values_of(arg) if arg else None, kwargs)
        if wait:
            from headway.cli.ending import wait_and_show

            wait_and_show(api, job, as_json=as_json)
        elif as_json:
            from headway.client.wire import job_json

            screen.show_json(job_json(job))
        else:
            _say_accepted(api, job)
