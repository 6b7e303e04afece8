"""`headway serve` and `headway worker`: the parts of a Headway on many machines, each a process of its own."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from headway.cli import screen
from headway.cli.options import App, DataDir
from headway.cli.reaching import settings_for


class Pool(StrEnum):
    """How a managed worker runs its attempts."""

    PREFORK = "prefork"
    THREADS = "threads"
    SOLO = "solo"


class Level(StrEnum):
    """How much a worker says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def serve(
    app: App = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve at; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port; one that is taken: the next free one.")
    ] = 8000,
    descriptor: Annotated[
        int | None,
        typer.Option(
            "--fd", min=3, help="A socket that listens already, inherited under this number; instead of a port."
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve, and look after jobs that managed workers run: REST, pages, relay, due jobs, rescue. Needs Postgres."""
    from headway.bootstrap import up as supervise
    from headway.cli.listening import check_host, inherited, listen, url_of

    settings = settings_for(data_dir, job_backend="celery")
    for notice in settings.notices:
        screen.note(f"notice: {notice}")
    check_host(host, settings.api_key)
    with listen(host, port) if descriptor is None else inherited(descriptor) as listener:
        taken = listener.getsockname()[1]
        if descriptor is None and port and taken != port:
            screen.note(f"Port {port} is taken; using {taken}.")
        code = supervise(settings, app=app, managed=True, listener=listener, url=url_of(host, listener))
    raise typer.Exit(code)


def worker(
    app: App = None,
    queues: Annotated[
        str | None, typer.Option("-Q", "--queues", help="Queues to take jobs from, with commas [default: all].")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "-c", "--concurrency", min=1, max=1024, help="Attempts at a time [default: CELERY_WORKER_CONCURRENCY]."
        ),
    ] = None,
    pool: Annotated[Pool | None, typer.Option("-P", "--pool", help="How attempts run [default: the app's].")] = None,
    name: Annotated[str | None, typer.Option("-n", "--name", help="Name of the worker.", show_default=False)] = None,
    loglevel: Annotated[
        Level | None, typer.Option("-l", "--loglevel", help="What it says [default: CELERY_LOG_LEVEL].")
    ] = None,
    max_tasks_per_child: Annotated[
        int | None, typer.Option("--max-tasks-per-child", min=1, help="A child is replaced after so many attempts.")
    ] = None,
    max_memory_per_child: Annotated[
        int | None,
        typer.Option("--max-memory-per-child", min=1024, help="KiB: a child above it is replaced after its attempt."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Run jobs on this machine, as a managed Celery worker. SIGTERM drains it. Needs Postgres and a broker."""
    from headway.bootstrap import work

    settings = settings_for(data_dir, job_backend="celery")
    for notice in settings.notices:
        screen.note(f"notice: {notice}")
    code = work(
        settings,
        app_spec=app,
        queues=queues,
        concurrency=concurrency,
        pool=None if pool is None else pool.value,
        name=name,
        loglevel=None if loglevel is None else loglevel.value,
        max_tasks_per_child=max_tasks_per_child,
        max_memory_per_child=max_memory_per_child,
    )
    raise typer.Exit(code)
