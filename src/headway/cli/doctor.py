"""`headway doctor`: what is so, and what to do where it is not well."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headway.cli import screen
from headway.cli.options import DataDir, Json
from headway.cli.reaching import quiet_logs, settings_for
from headway.cli.values import UsageError
from headway.model.errors import InvalidSettings
from headway.model.findings import Finding, Level

if TYPE_CHECKING:
    from headway.config import Settings

_COLOURS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(
    app: Annotated[
        str | None,
        typer.Option(
            "-A", "--app", help="Check the cluster of this application, as for `celery -A`.", show_default=False
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option("--broker", help="Check the cluster of this broker.", metavar="URL", show_default=False),
    ] = None,
    result_backend: Annotated[
        str | None, typer.Option("--result-backend", help="Its result backend.", metavar="URL", show_default=False)
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Check this machine, the data directory, the database and the server; print each setting and its source.

    With -A or --broker also check that Celery cluster. Exits 1 if a finding is an error.
    """
    from headway.cli.checks import cluster, findings

    _check_options(app, broker, result_backend)
    quiet_logs()
    settings: Settings | None = None
    try:
        settings = settings_for(data_dir)
    except InvalidSettings as error:
        problems: list[str] = error.details["problems"]
        found = [Finding("settings", Level.ERROR, problem, "Correct it where it stands.") for problem in problems]
    else:
        found = list(findings(settings))
        if app is not None or broker is not None:
            found += cluster(settings, app, broker, result_backend)
    sources = settings.sources() if settings is not None else {}
    if as_json:
        screen.show_json(
            {
                "findings": [asdict(one) for one in found],
                "settings": [
                    {"name": name, "value": value, "source": source} for name, (value, source) in sources.items()
                ],
            }
        )
    else:
        _show(found, sources)
    if any(one.level is Level.ERROR for one in found):
        raise typer.Exit(1)


def _check_options(app: str | None, broker: str | None, result_backend: str | None) -> None:
    if result_backend is not None and app is None and broker is None:
        raise UsageError("--result-backend alone names no cluster.", hint="Add --broker URL or -A APP.")
    for option, url, example in (
        ("--broker", broker, "redis://127.0.0.1:6379/0"),
        ("--result-backend", result_backend, "redis://127.0.0.1:6379/1"),
    ):
        if url is not None and "://" not in url:
            # Not repeated: it may be a password in the wrong place.
            raise UsageError(f"{option}: expected a URL.", hint=f"For example {option} {example}.")


def _show(found: list[Finding], sources: dict[str, tuple[str, str]]) -> None:
    screen.show_table(
        ("CHECK", "", "FINDING", "REMEDY"),
        [(one.check, one.level.value, one.says, one.remedy) for one in found],
        colours=[_COLOURS[one.level] for one in found],
    )
    if sources:
        screen.say()
        screen.show_table(("SETTING", "VALUE", "FROM"), [(name, *shown) for name, shown in sources.items()])
