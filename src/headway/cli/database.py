"""`headway db …` and `headway retention …`."""

from __future__ import annotations

import dataclasses

import typer

from headway.cli import screen
from headway.cli.options import DataDir, Json
from headway.cli.reaching import quiet_logs, settings_for

db = typer.Typer(no_args_is_help=True, help="The database: bring it to the expected version, check it.")
retention = typer.Typer(no_args_is_help=True, help="What is kept, and for how long.")


@db.command()
def upgrade(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Bring the database to the version that this Headway expects. Back it up first."""
    settings = settings_for(data_dir)
    quiet_logs()
    from headway.bootstrap import db_upgrade

    state = db_upgrade(settings)
    if as_json:
        screen.show_json({"database": settings.registry_label, "version": state.found, "expected": state.expected})
    else:
        screen.say(f"{settings.registry_label} is at version {state.found}")


@db.command()
def check(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Check that the database answers, is whole and has the expected version; exits 1 if not."""
    settings = settings_for(data_dir)
    quiet_logs()
    from headway.bootstrap import db_check

    state = db_check(settings)
    if as_json:
        screen.show_json({"database": settings.registry_label, "version": state.found, "expected": state.expected})
    else:
        screen.say(f"{settings.registry_label} answers, is whole and at version {state.found}")


@retention.command()
def run(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Remove what ended longer ago than JOB_RETENTION_SECONDS, now. A running Headway does it by itself."""
    settings = settings_for(data_dir)
    quiet_logs()
    from headway.bootstrap import retention_run

    report = dataclasses.asdict(retention_run(settings))
    if as_json:
        screen.show_json(report)
    else:
        screen.say(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in report.items()))
