"""What is wrong before anything runs: settings, the database, the data directory; and bad input on the command line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cli.conftest import Folder
from tests.required import skip_or_fail


@pytest.fixture
def own(tmp_path: Path) -> Folder:
    """A folder in which nothing runs."""
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"HEADWAY_LEASE_SECOND": "10"}, ["HEADWAY_LEASE_SECOND", "HEADWAY_LEASE_SECONDS"]),
        ({"JOB_WORKER_THREADS": "many"}, ["JOB_WORKER_THREADS", "many", "whole number"]),
        ({"JOB_WORKER_THREADS": "0"}, ["JOB_WORKER_THREADS"]),
        ({"HEADWAY_LEASE_SECONDS": "1"}, ["HEADWAY_LEASE_SECONDS", "HEADWAY_HEARTBEAT_SECONDS"]),
        ({"HEADWAY_API_KEY": "short"}, ["HEADWAY_API_KEY", "16"]),
        ({"JOB_BACKEND": "rabbits"}, ["JOB_BACKEND", "thread"]),
        ({"JOB_REGISTRY_PATH": "mysql://root:s3cret-s3cret@db/x"}, ["JOB_REGISTRY_PATH"]),
        ({"JOB_TIMEOUT_SECONDS": "-1", "HEADWAY_ISOLATION": "vm"}, ["JOB_TIMEOUT_SECONDS", "HEADWAY_ISOLATION"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_all_named(own: Folder, settings: dict[str, str], says: list[str]) -> None:
    said = own.fails("up", "-A", "proj", "--port", "0", code="invalid_settings", env=settings)
    for text in says:
        assert text in said
    assert "s3cret" not in said
    assert not (own.path / "var").exists(), "nothing was begun"


def test_a_newer_database(own: Folder) -> None:
    own.ok("db", "upgrade")
    with sqlite3.connect(own.path / "var/jobs/registry.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    before = (own.path / "var/jobs/registry.db").read_bytes()
    for command in (("up", "-A", "proj", "--port", "0"), ("jobs", "list"), ("submit", "proj.add", "--arg", "1")):
        said = own.fails(*command, code="schema_mismatch")
        assert "newer" in said
    with sqlite3.connect(own.path / "var/jobs/registry.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    database.close()
    assert (own.path / "var/jobs/registry.db").read_bytes() == before


@pytest.mark.parametrize("how", ["overwritten", "truncated", "something else"])
def test_a_damaged_registry(own: Folder, how: str) -> None:
    own.ok("submit", "proj.add", "--arg", "1")
    registry = own.path / "var/jobs/registry.db"
    with sqlite3.connect(registry) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    if how == "overwritten":
        with registry.open("r+b") as file:
            file.seek(100)
            file.write(os.urandom(registry.stat().st_size - 100))
    elif how == "truncated":
        os.truncate(registry, registry.stat().st_size // 2 + 7)
    else:
        registry.write_text("not a database at all\n" * 1000)
    said = own.fails("up", "-A", "proj", "--port", "0", code="store_damaged")
    assert "restore" in said


def test_a_database_of_another_program(own: Folder) -> None:
    registry = own.path / "var/jobs/registry.db"
    registry.parent.mkdir(parents=True)
    with sqlite3.connect(registry) as database:
        database.execute("CREATE TABLE jobs (id INTEGER, salary INTEGER)")
        database.execute("INSERT INTO jobs VALUES (1, 2)")
    database.close()
    said = own.fails("up", "-A", "proj", "--port", "0", code="schema_mismatch")
    assert "jobs" in said
    with sqlite3.connect(registry) as database:
        assert database.execute("SELECT * FROM jobs").fetchall() == [(1, 2)]
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("jobs",)]
    database.close()


def test_bad_input_on_the_command_line(served: tuple[Folder, str]) -> None:
    folder, _ = served
    near = folder.fails("submit", "bad.ad", "--arg", "1", code="unknown_task", exits=1)
    assert "bad.add" in near
    folder.fails("submit", "bad.add", "--arg", "1", "--arg", "2", "--arg", "3", code="bad_arguments")
    folder.fails("jobs", "show", "no-such-job", code="job_not_found")
    folder.fails("jobs", "cancel", "no-such-job", code="job_not_found")
    folder.fails("jobs", "list", "--state", "lost", code="usage", exits=2)
    folder.fails("jobs", "rerun", "no-such-job", code="job_not_found")


def test_an_unwritable_data_directory(own: Folder) -> None:
    (own.path / "file").write_text("")
    said = own.fails("up", "--data-dir", "file/below", "--port", "0", code="data_directory_unusable")
    assert "--data-dir" in said
    said = own.fails("up", "--data-dir", "file", "--port", "0", code="data_directory_unusable")
    assert "--data-dir" in said


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory in which this user cannot write; root can in any but a read-only file system."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    if os.geteuid() != 0:
        yield folder
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "headway", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        skip_or_fail("root may not mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_data_directory(own: Folder, read_only: Path) -> None:
    for data_dir in (read_only, read_only / "data"):
        said = own.fails("up", "--port", "0", "--data-dir", str(data_dir), code="data_directory_unusable")
        assert str(data_dir) in said
        assert "--data-dir" in said
        own.fails("submit", "proj.add", "--data-dir", str(data_dir), code="data_directory_unusable")
