"""`headway`: the commands, and how an error leaves them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli import screen
from headway.cli.cluster import cluster
from headway.cli.database import db, retention
from headway.cli.demo import demo
from headway.cli.deploy import deploy
from headway.cli.doctor import doctor
from headway.cli.jobs import jobs, submit
from headway.cli.observe import observe
from headway.cli.observed import queues, sitrep, tasks, workers
from headway.cli.serve import serve, worker
from headway.cli.up import up
from headway.cli.values import UsageError
from headway.model.errors import HeadwayError

if TYPE_CHECKING:
    from traceback import FrameSummary

app = typer.Typer(
    name="headway",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command()(up)
app.command()(demo)
app.command()(submit)
app.add_typer(jobs, name="jobs")
app.add_typer(db, name="db")
app.command()(serve)
app.command()(worker)
app.add_typer(cluster, name="cluster")
app.add_typer(deploy, name="deploy")
app.command()(observe)
app.command()(sitrep)
app.command()(tasks)
app.command()(workers)
app.add_typer(queues, name="queues")
app.command()(doctor)
app.add_typer(retention, name="retention")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    screen.say(f"headway {installed('headway')}")


def _version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _options(
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Runs, schedules and watches long-running Python work."""


def main() -> None:
    """The entry point: exit 0 ok, 1 failed, 2 usage; an error is a code, a message and a hint, never a traceback."""
    try:
        app(prog_name="headway")
    except HeadwayError as error:
        screen.show_error(error)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - a fault of ours is told in two lines, not as a traceback
        screen.note(f"error [internal_error]: {type(error).__name__}: {error} ({_place(error)})")
        screen.note("hint: This is a fault of Headway's. Please report it, with what `headway doctor` prints.")
        sys.exit(1)


def _place(error: BaseException) -> str:
    import traceback

    frames: list[FrameSummary] = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no frame"
