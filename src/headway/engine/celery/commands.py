"""``celery -A proj headway …``: Headway's commands beside Celery's own, for the application that ``-A`` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

# Those of our commands that take an application.
_TAKE_APP: Final = frozenset({"up", "serve", "worker", "observe", "doctor"})


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    help="Headway's commands: jobs, queues, workers, serve, worker and all the others; `celery -A APP headway --help`.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def headway(arguments: Sequence[str]) -> NoReturn:
    """Run a command of ours with the application that Celery was given."""
    given = list(arguments)
    spec = app_spec(sys.argv[1:], os.environ)
    if spec is not None and given and given[0] in _TAKE_APP and not _names_app(given):
        given[1:1] = ["-A", spec]
    # In its own right: the command line of Headway loads settings and applications by itself.
    os.execv(sys.executable, [sys.executable, "-m", "headway", *given])  # noqa: S606


def app_spec(arguments: Sequence[str], environment: os._Environ[str] | dict[str, str]) -> str | None:
    """The value of Celery's ``-A``, before the name of our command; None where none was given."""
    before = list(arguments[: arguments.index("headway")] if "headway" in arguments else arguments)
    for place, argument in enumerate(before):
        if argument in ("-A", "--app") and place + 1 < len(before):
            return before[place + 1]
        if argument.startswith("--app="):
            return argument.removeprefix("--app=")
        if argument.startswith("-A") and len(argument) > len("-A"):
            return argument.removeprefix("-A")
    return environment.get("APP")


def _names_app(arguments: Sequence[str]) -> bool:
    return any(one in ("-A", "--app") or one.startswith(("--app=", "-A")) for one in arguments)
