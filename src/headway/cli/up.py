"""`headway up`: what was asked for, checked; the supervisor does the rest."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from headway.cli import screen
from headway.cli.options import DataDir
from headway.cli.reaching import settings_for


class Engine(StrEnum):
    """Where jobs run."""

    THREAD = "thread"
    CELERY = "celery"


def up(
    app: Annotated[
        str | None, typer.Option("-A", "--app", help="The application, as for `celery -A`.", show_default=False)
    ] = None,
    engine: Annotated[Engine | None, typer.Option("--engine", help="Where jobs run [default: JOB_BACKEND].")] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve at; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port; one that is taken: the next free one.")
    ] = 8000,
    data_dir: DataDir = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=1024, help="Jobs at a time [default: CPU count].")
    ] = None,
) -> None:
    """Run everything on this machine: server, pages and jobs. Ctrl-C ends it."""
    from headway.cli.listening import check_host, listen, url_of

    # Of both engines: threads of this process, or children of the worker that runs beside it.
    options = {"job_worker_threads": workers, "celery_worker_concurrency": workers}
    settings = settings_for(data_dir, job_backend=engine and engine.value, **options)
    for notice in settings.notices:
        screen.note(f"notice: {notice}")
    managed = settings.job_backend == "celery"
    check_host(host, settings.api_key)
    engine_chosen = settings.sources()["JOB_BACKEND"][1] != "default"
    with listen(host, port) as listener:
        taken = listener.getsockname()[1]
        if port and taken != port:
            screen.note(f"Port {port} is taken; using {taken}.")
        from headway.bootstrap import up as supervise

        code = supervise(
            settings,
            app=app,
            engine_chosen=engine_chosen,
            managed=managed,
            worker=managed,
            listener=listener,
            url=url_of(host, listener),
        )
    raise typer.Exit(code)
