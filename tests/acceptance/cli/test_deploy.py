"""`headway deploy`: what it writes is accepted by those who run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FILE = """
[cluster]
app = "proj"
port = 8123

[cluster.workers.mail]
queues = ["mail", "celery"]
concurrency = 4
processes = 2
max_tasks_per_child = 100
max_memory_mb = 500
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a file of a cluster."""
    (tmp_path / "headway.toml").write_text(FILE)
    return tmp_path


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "headway", "deploy", *arguments],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_units_are_accepted_by_systemd(folder: Path) -> None:
    run(folder, "systemd", "--out", "units", "--user", "root")
    names = sorted(path.name for path in (folder / "units").iterdir())
    assert names == ["headway-api.service", "headway-worker-mail@.service", "headway.target"]
    worker = (folder / "units" / "headway-worker-mail@.service").read_text()
    assert "worker -n mail-%i -Q mail,celery -c 4 --max-tasks-per-child 100 --max-memory-per-child 512000" in worker
    target = (folder / "units" / "headway.target").read_text()
    assert "headway-worker-mail@1.service headway-worker-mail@2.service" in target
    program = shutil.which("systemd-analyze")
    if program is None:
        return  # the texts above were looked at; systems without systemd have nobody to ask
    done = subprocess.run(
        [program, "verify", *(str(folder / "units" / name) for name in names)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "headway" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_compose_has_all_parts_and_no_secret(folder: Path) -> None:
    run(folder, "compose", "--out", "box")
    written = yaml.safe_load((folder / "box" / "compose.yaml").read_text())
    services = written["services"]
    assert list(services) == ["postgres", "valkey", "api", "worker-mail"]
    assert services["api"]["build"] == {"context": "..", "dockerfile": "box/Dockerfile"}
    assert services["worker-mail"]["deploy"] == {"replicas": 2}
    assert services["worker-mail"]["command"][:3] == ["worker", "-Q", "mail,celery"]
    assert services["api"]["ports"] == ["127.0.0.1:8123:8123"]
    assert all("healthcheck" in services[name] for name in ("postgres", "valkey", "api"))
    assert (folder / "box" / ".env.example").read_text().count("=\n") == 2
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return  # nobody to ask whether the file fits the schema
    environment = {**os.environ, "POSTGRES_PASSWORD": "x", "HEADWAY_API_KEY": "y"}
    subprocess.run([docker, "compose", "config", "-q"], cwd=folder / "box", env=environment, timeout=60, check=True)


def test_what_somebody_has_changed_is_not_overwritten(folder: Path) -> None:
    run(folder, "compose", "--out", "box")
    run(folder, "compose", "--out", "box")
    (folder / "box" / "Dockerfile").write_text("FROM mine\n")
    assert "--force" in run(folder, "compose", "--out", "box", code=2)
    assert (folder / "box" / "Dockerfile").read_text() == "FROM mine\n"
    run(folder, "compose", "--out", "box", "--force")
    assert "headway" in (folder / "box" / "Dockerfile").read_text()
