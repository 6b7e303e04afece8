"""`headway up`: ready, taken ports, refusals, and its end."""

from __future__ import annotations

import signal
import socket
from urllib.parse import urlsplit

import pytest

from headway.client import Client
from tests.acceptance.cli.conftest import Folder


def test_ready_line_and_a_good_end(folder: Folder) -> None:
    with folder.start("up", "--port", "0") as running:
        url = running.ready()
        with Client(url) as client:
            assert client.ready()["status"] == "ok"
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0
    assert (folder.path / "var" / "jobs" / "registry.db").exists()
    assert (folder.path / "var" / "headway.lock").stat().st_mode & 0o777 == 0o600


def test_ctrl_c_ends_it_too(folder: Folder) -> None:
    with folder.start("up", "--port", "0", "--data-dir", "other") as running:
        running.ready()
        running.interrupt()
        assert running.ends() == 0
    assert (folder.path / "other").exists()


def test_a_taken_port_is_said_and_the_next_free_one_used(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with folder.start("up", "--port", str(port)) as running:
            url = running.ready()
            used = urlsplit(url).port
            assert used is not None
            assert used > port
            assert f"Port {port} is taken; using {used}." in running.said


def test_a_second_one_for_the_same_directory_refuses(folder: Folder) -> None:
    with folder.start("up", "--port", "0") as running:
        running.ready()
        said = folder.fails("up", "--port", "0", code="data_directory_in_use")
        assert "--data-dir" in said


def test_engine_celery_needs_a_database_that_processes_share(folder: Folder) -> None:
    for said in (
        folder.fails("up", "--engine", "celery", code="invalid_settings"),
        folder.fails("up", code="invalid_settings", env={"JOB_BACKEND": "celery"}),
        folder.fails("serve", code="invalid_settings"),
        folder.fails("worker", code="invalid_settings"),
    ):
        assert "JOB_REGISTRY_PATH=postgresql://" in said


def test_other_machines_need_a_key(folder: Folder) -> None:
    said = folder.fails("up", "--host", "0.0.0.0", code="address_refused")
    assert "HEADWAY_API_KEY" in said


def test_an_application_with_its_own_broker_refuses_unless_the_engine_is_named(folder: Folder) -> None:
    (folder.path / "live.py").write_text(
        "from celery import Celery\napp = Celery('live', broker='redis://:pass-word@192.0.2.1:6379/0')\n"
        "@app.task\ndef add(a, b):\n    return a + b\n"
    )
    ran = folder.run("up", "-A", "live", "--port", "0")
    assert ran.returncode == 1
    assert "headway up --engine thread" in ran.stderr
    assert "pass-word" not in ran.stderr + ran.stdout
    with folder.start("up", "-A", "live", "--engine", "thread", "--port", "0") as running:
        running.ready()
        assert folder.ok("submit", "live.add", "--arg", "1", "--arg", "2", "--wait").splitlines()[-1] == "3"


@pytest.mark.parametrize("spec", ["nowhere", "proj:missing", "broken"])
def test_an_application_that_cannot_be_loaded(folder: Folder, spec: str) -> None:
    (folder.path / "broken.py").write_text("raise RuntimeError('at import')\n")
    ran = folder.run("up", "-A", spec, "--port", "0")
    assert ran.returncode == 1
    assert "error [app_not_loaded]" in ran.stderr
    assert "hint: " in ran.stderr
