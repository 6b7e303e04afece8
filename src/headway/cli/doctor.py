"""`headway doctor`: what is so, and what to do where it is not well."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import typer

from headway.cli import screen
from headway.cli.options import DataDir, Json
from headway.cli.reaching import quiet_logs, settings_for
from headway.model.errors import InvalidSettings

if TYPE_CHECKING:
    from headway.cli.checks import Finding
    from headway.config import Settings

_COLOURS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Check this machine, the data directory, the database and the server; print each setting and its source.

    Exits 1 if a finding is an error.
    """
    from headway.cli.checks import Finding, Level, findings

    quiet_logs()
    settings: Settings | None = None
    try:
        settings = settings_for(data_dir)
    except InvalidSettings as error:
        problems: list[str] = error.details["problems"]
        found = [Finding("settings", Level.ERROR, problem, "Correct it where it stands.") for problem in problems]
    else:
        found = list(findings(settings))
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


def _show(found: list[Finding], sources: dict[str, tuple[str, str]]) -> None:
    screen.show_table(
        ("CHECK", "", "FINDING", "REMEDY"),
        [(one.check, one.level.value, one.says, one.remedy) for one in found],
        colours=[_COLOURS[one.level] for one in found],
    )
    if sources:
        screen.say()
        screen.show_table(("SETTING", "VALUE", "FROM"), [(name, *shown) for name, shown in sources.items()])
