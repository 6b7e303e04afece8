"""What `headway doctor` looks at: each check answers with findings, each finding with its remedy."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headway.model.errors import HeadwayError
from headway.model.findings import Finding, Level

if TYPE_CHECKING:
    from headway.config import Settings

_LEAST_PYTHON: Final = (3, 11)
_TRIED_PYTHON: Final = (3, 13)
_LEAST_SQLITE: Final = (3, 35)
_LITTLE_SPACE: Final = 1 << 30
_NO_SPACE: Final = 64 << 20
_CLOCK_SKEW: Final = 2.0
_EARLIEST: Final = 1_735_689_600
"""2025-01-01: Headway is younger, so a clock before it was never set."""
_ASSETS: Final = ("htmx.min.js", "hx-sse.min.js", "uPlot.iife.min.js", "uPlot.min.css")


Check = Callable[["Settings"], Iterator[Finding]]


def python(settings: Settings) -> Iterator[Finding]:
    """The interpreter's version."""
    found = sys.version_info[:2]
    text = ".".join(map(str, sys.version_info[:3]))
    if found < _LEAST_PYTHON:
        yield Finding("python", Level.ERROR, f"Python {text}", "Install Python 3.11, 3.12 or 3.13.")
    elif found > _TRIED_PYTHON:
        yield Finding(
            "python", Level.WARNING, f"Python {text}, which Headway was not tried on", "Use 3.11, 3.12 or 3.13."
        )
    else:
        yield Finding("python", Level.OK, f"Python {text}")


def sqlite(settings: Settings) -> Iterator[Finding]:
    """The SQLite that Python was built with."""
    if settings.on_postgres:
        return
    from headway.bootstrap import sqlite_version

    text = sqlite_version()
    if tuple(int(part) for part in text.split(".")[:2]) < _LEAST_SQLITE:
        yield Finding("sqlite", Level.ERROR, f"SQLite {text}, 3.35 is needed", "Use a newer Python, or Postgres.")
    else:
        yield Finding("sqlite", Level.OK, f"SQLite {text}")


def data_directory(settings: Settings) -> Iterator[Finding]:
    """Whether the data directory can be written, is local and has space."""
    from headway.bootstrap import file_system, prepare_directory

    folder = settings.data_dir
    if not folder.exists():
        above = next(parent for parent in folder.parents if parent.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            yield Finding(
                "data directory",
                Level.ERROR,
                f"{folder} does not exist, {above} is not writable",
                "Choose another directory with --data-dir.",
            )
        else:
            yield Finding("data directory", Level.OK, f"{folder} does not exist yet; `headway up` makes it")
        return
    try:
        prepare_directory(folder)
        yield _clock_of(folder)
    except HeadwayError as error:
        yield Finding("data directory", Level.ERROR, error.message, error.hint)
        return
    except OSError as error:
        yield Finding(
            "data directory",
            Level.ERROR,
            f"{folder} cannot be written: {error.strerror}",
            "Free space, or choose another directory with --data-dir.",
        )
        return
    kind = file_system(folder)
    yield Finding("data directory", Level.OK, f"{folder} is writable{f', on {kind}' if kind else ''}")
    yield _space(folder)


def _space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < _NO_SPACE:
        return Finding("disk space", Level.ERROR, text, "Free space: without it nothing is accepted.")
    if free < _LITTLE_SPACE:
        return Finding("disk space", Level.WARNING, text, "Free space, or lower JOB_RETENTION_SECONDS.")
    return Finding("disk space", Level.OK, text)


def _clock_of(folder: Path) -> Finding:
    """The machine's clock beside the one that stamps files here."""
    now = time.time()
    if now < _EARLIEST:
        return Finding("clock", Level.ERROR, "The clock was never set", "Set it: times and leases come from it.")
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        skew = abs(Path(file.name).stat().st_mtime - time.time())
    if skew > _CLOCK_SKEW:
        return Finding("clock", Level.WARNING, f"The disk's clock is {skew:.0f} s off", "Synchronise both by NTP.")
    return Finding("clock", Level.OK, time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now)))


def owner_and_server(settings: Settings) -> Iterator[Finding]:
    """Who owns the data directory, and whether it serves and is ready."""
    from headway.bootstrap import read_owner

    try:
        owner = read_owner(settings.data_dir)
    except HeadwayError as error:
        yield Finding("owner", Level.ERROR, error.message, error.hint)
        return
    if owner is None:
        yield Finding("owner", Level.OK, "Nobody runs here now", "Start Headway with `headway up`.")
        return
    if not owner.url:
        yield Finding(
            "owner", Level.WARNING, f"Process {owner.pid} owns it and does not serve (yet)", "Wait, or end it."
        )
        return
    yield Finding("owner", Level.OK, f"Process {owner.pid} serves at {owner.url}")
    yield from _ready(owner.url, owner.token)


def _ready(url: str, key: str) -> Iterator[Finding]:
    from headway.client import Client

    try:
        with Client(url, key, timeout=10) as client:
            ready = client.ready()
    except HeadwayError as error:
        yield Finding("server", Level.ERROR, error.message, "Look at its log; end that process and start `headway up`.")
        return
    levels = {"ok": Level.OK, "degraded": Level.WARNING}
    for name, part in ready["parts"].items():
        level = levels.get(part["status"], Level.ERROR)
        says = f"{part['status']}{': ' + part['detail'] if part['detail'] else ''}"
        yield Finding(f"server: {name}", level, says, part["hint"])


def database(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers and has the expected version."""
    from headway.bootstrap import db_check

    file = settings.registry_file
    if file is not None and not file.exists():
        yield Finding("database", Level.OK, f"{file} does not exist yet; `headway up` makes it")
        return
    try:
        state = db_check(settings)
    except HeadwayError as error:
        yield Finding("database", Level.ERROR, error.message, error.hint)
        return
    yield Finding("database", Level.OK, f"{settings.registry_label} answers, version {state.found}")


def extras(settings: Settings) -> Iterator[Finding]:
    """What is installed beside the core."""
    from importlib.util import find_spec

    from headway.cli.demo import missing_modules

    missing = missing_modules()
    if missing:
        yield Finding(
            "pbpk",
            Level.WARNING,
            f"The extra pbpk is not whole: {', '.join(missing)} missing",
            "pip install 'headway[pbpk]' if you want simulations.",
        )
    else:
        yield Finding("pbpk", Level.OK, "The extra pbpk is installed")
    if settings.on_postgres and find_spec("psycopg") is None:
        yield Finding("postgres", Level.ERROR, "The extra postgres is not installed", "pip install 'headway[postgres]'")


def page_assets(settings: Settings) -> Iterator[Finding]:
    """The scripts of the pages, which the build brings."""
    folder = files("headway.console") / "static" / "vendor"
    missing = [name for name in _ASSETS if not (folder / name).is_file()]
    if missing:
        yield Finding(
            "page assets",
            Level.WARNING,
            f"Missing: {', '.join(missing)}",
            "Install again with a network (`pip install --force-reinstall headway`): the build fetches them.",
        )
    else:
        yield Finding("page assets", Level.OK, "All there")


CHECKS: Final[tuple[Check, ...]] = (
    python,
    sqlite,
    data_directory,
    owner_and_server,
    database,
    extras,
    page_assets,
)


def findings(settings: Settings) -> Iterator[Finding]:
    """Every finding; a check that fails itself is one too."""
    for notice in settings.notices:
        yield Finding("settings", Level.WARNING, notice, "Remove it, or leave it for the version that uses it.")
    for check in CHECKS:
        try:
            yield from check(settings)
        except Exception as error:  # noqa: BLE001 - a broken check must not hide the findings of the others
            name = check.__name__.replace("_", " ")
            yield Finding(name, Level.ERROR, f"The check failed: {type(error).__name__}: {error}", "Please report it.")


def cluster(settings: Settings, app: str | None, broker: str | None, result_backend: str | None) -> Iterator[Finding]:
    """Every finding about a Celery cluster; one that cannot be looked at is a finding too.

    Args:
        settings: name what the options do not.
        app: value of ``-A``; None to know the cluster by its URLs only.
        broker: its URL; None for the application's own.
        result_backend: its URL; None for the application's own.
    """
    from headway.bootstrap import cluster_findings

    try:
        yield from cluster_findings(settings, app, broker, result_backend)
    except HeadwayError as error:
        yield Finding("cluster", Level.ERROR, f"{error.message} [{error.code}]", error.hint)
    except Exception as error:  # noqa: BLE001 - as above
        yield Finding("cluster", Level.ERROR, f"The check failed: {type(error).__name__}: {error}", "Please report it.")
