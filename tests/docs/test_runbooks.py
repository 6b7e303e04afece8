"""Every command of the runbooks is run, in the situation its page is about, and the page's proof is asked for."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.required import skip_or_fail

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
HEADWAY = Path(sys.executable).with_name("headway")
CLUSTER_PAGES = (
    "a-worker-crashes.md",
    "restart-without-loss.md",
    "scale-the-workers.md",
    "logs-fill-the-disk.md",
)
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _blocks(page: str) -> list[str]:
    return _BLOCK.findall((RUNBOOKS / page).read_text(encoding="utf-8"))


def _run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{HEADWAY.parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _succeed(script: str, folder: Path) -> str:
    result = _run(script, folder)
    assert result.returncode == 0, f"{script}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody runs Headway: with a registry of the right version under var/."""
    _succeed("headway db upgrade", tmp_path)
    assert (tmp_path / "var/jobs/registry.db").exists()
    return tmp_path


@pytest.fixture
def damaged(folder: Path) -> Path:
    """The same with a copy from before, and a registry in which a page of an index was overwritten."""
    registry = folder / "var/jobs/registry.db"
    with sqlite3.connect(registry) as source, sqlite3.connect(folder / "copy.db") as target:
        source.backup(target)
        size = source.execute("PRAGMA page_size").fetchone()[0]
        pages = source.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index' AND rootpage > 0").fetchall()
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    source.close()
    target.close()
    with registry.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * size)
            file.write(b"\xde\xad" * (size // 2))
    result = _run("headway db check", folder)
    assert result.returncode == 1
    assert "damaged" in (result.stdout + result.stderr).lower()
    return folder


def test_every_runbook_has_its_test() -> None:
    with_commands = {page.name for page in RUNBOOKS.glob("*.md") if _blocks(page.name)}
    of_a_cluster = set(CLUSTER_PAGES)  # run by tests/managed/test_fleet.py, while a cluster runs
    assert with_commands == of_a_cluster | {
        "a-job-does-not-end.md",
        "data-directory-in-use.md",
        "disk-full.md",
        "restore-a-damaged-registry.md",
        "schema-mismatch.md",
        "the-situation-is-not-ok.md",
    }


def test_restore_from_a_copy(damaged: Path) -> None:
    put_aside, with_copy, _ = _blocks("restore-a-damaged-registry.md")
    _succeed(put_aside, damaged)
    _succeed(with_copy, damaged)
    _succeed("headway jobs list --json", damaged)


def test_restore_without_a_copy(damaged: Path) -> None:
    if shutil.which("sqlite3") is None:
        skip_or_fail("the command sqlite3")
    put_aside, _, without_copy = _blocks("restore-a-damaged-registry.md")
    _succeed(put_aside, damaged)
    _succeed(without_copy, damaged)
    _succeed("headway jobs list --json", damaged)


def test_schema_mismatch_of_an_older_database(folder: Path) -> None:
    with sqlite3.connect(folder / "var/jobs/registry.db") as connection:
        tables = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        for table in tables:
            connection.execute(f'DROP TABLE "{table}"')
    connection.close()
    check, upgrade = _blocks("schema-mismatch.md")
    assert _run(check, folder).returncode == 1
    _succeed(upgrade, folder)
    _succeed(check, folder)


@pytest.mark.parametrize(
    "page",
    [
        "a-job-does-not-end.md",
        "data-directory-in-use.md",
        "disk-full.md",
        "the-situation-is-not-ok.md",
    ],
)
def test_the_looking_commands_run(page: str, folder: Path) -> None:
    for block in _blocks(page):
        _succeed(block, folder)
