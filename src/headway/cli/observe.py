"""`headway observe`: what was asked for, checked; the supervisor does the rest."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli import screen
from headway.cli.options import DataDir
from headway.cli.reaching import settings_for


def observe(
    app: Annotated[
        str | None, typer.Option("-A", "--app", help="The application, as for `celery -A`.", show_default=False)
    ] = None,
    broker: Annotated[
        str | None, typer.Option("--broker", help="URL of the broker [default: CELERY_BROKER_URL, the application's].")
    ] = None,
    result_backend: Annotated[
        str | None,
        typer.Option("--result-backend", help="URL of the result backend [default: CELERY_RESULT_BACKEND, ...]."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing at all to the broker: workers are not asked.")
    ] = False,
    enable_events: Annotated[
        bool, typer.Option("--enable-events", help="Tell workers to send task events, as -E does.")
    ] = False,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve at; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port; one that is taken: the next free one.")
    ] = 8000,
    data_dir: DataDir = None,
) -> None:
    """Watch a running Celery cluster: history, situation, metrics. It never consumes, submits or schedules."""
    from headway.cli.listening import check_host, listen, url_of
    from headway.cli.values import UsageError

    if strict and enable_events:
        raise UsageError("--strict writes nothing to the broker, --enable-events does.", hint="Leave one of them out.")
    settings = settings_for(data_dir, celery_broker_url=broker, celery_result_backend=result_backend)
    for notice in settings.notices:
        screen.note(f"notice: {notice}")
    check_host(host, settings.api_key)
    watch = {
        "app": app,
        "broker": broker,
        "result_backend": result_backend,
        "strict": strict,
        "enable_events": enable_events,
    }
    with listen(host, port) as listener:
        taken = listener.getsockname()[1]
        if port and taken != port:
            screen.note(f"Port {port} is taken; using {taken}.")
        from headway.bootstrap import up as supervise

        code = supervise(settings, watch=watch, listener=listener, url=url_of(host, listener))
    raise typer.Exit(code)
