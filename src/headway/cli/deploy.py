"""`headway deploy`: the cluster of `headway.toml` as files for systemd or Compose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.cli import screen
from headway.cli.options import DataDir
from headway.cli.reaching import settings_for
from headway.cli.values import UsageError

deploy = typer.Typer(no_args_is_help=True, help="The cluster of headway.toml as files for others to run.")
Out = Annotated[Path, typer.Option("--out", help="Folder of the files; it is made.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there and differ.")]


@deploy.command()
def systemd(
    out: Out,
    user: Annotated[str, typer.Option("--user", help="User that the processes run as.")] = "headway",
    force: Force = False,
    data_dir: DataDir = None,
) -> None:
    """Write units: a target, the server, and a template for each group of workers. They run in the current folder."""
    from headway.bootstrap import systemd_units
    from headway.config import load_cluster

    settings = settings_for(data_dir, job_backend="celery")
    _write(out, systemd_units(settings, load_cluster(), user=user, folder=Path.cwd()), force=force)


@deploy.command()
def compose(out: Out, force: Force = False, data_dir: DataDir = None) -> None:
    """Write compose.yaml with Postgres, Valkey, server and workers, a Dockerfile and .env.example."""
    from headway.bootstrap import compose_files
    from headway.config import load_cluster

    settings = settings_for(data_dir, job_backend="celery")
    _write(out, compose_files(settings, load_cluster(), folder=Path.cwd(), out=out), force=force)


def _write(out: Path, files: dict[str, str], *, force: bool) -> None:
    paths = {out / name: text for name, text in files.items()}
    differ = [str(path) for path, text in paths.items() if path.exists() and path.read_text(encoding="utf-8") != text]
    if differ and not force:
        # Somebody may have worked on them.
        raise UsageError(f"there already, and different: {', '.join(differ)}", hint="--force overwrites them.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            path.write_text(text, encoding="utf-8")
            screen.say(str(path))
    except OSError as error:
        raise UsageError(f"{error.filename or out} cannot be written: {error.strerror}") from error
