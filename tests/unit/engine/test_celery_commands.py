"""Headway's commands beside Celery's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headway.engine.celery.commands import app_spec


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["-A", "proj", "headway", "jobs", "list"], "proj"),
        (["--app", "proj.celery:app", "headway", "worker"], "proj.celery:app"),
        (["--app=proj", "headway", "worker"], "proj"),
        (["-Aproj", "headway", "worker", "-A", "other"], "proj"),
        (["headway", "worker", "-A", "other"], "from-environment"),
    ],
)
def test_the_application_that_celery_was_given(arguments: list[str], found: str) -> None:
    assert app_spec(arguments, {"APP": "from-environment"}) == found
    assert app_spec(["headway"], {}) is None


def test_celery_has_the_command() -> None:
    command = [sys.executable, "-m", "celery", "headway", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("headway ")
