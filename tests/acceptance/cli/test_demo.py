"""`headway demo`: the main job on real input."""

from __future__ import annotations

import re
import signal
import urllib.request

import pytest

from headway.client import Client
from headway.model.errors import ServerUnreachable
from tests.acceptance.cli.conftest import Folder
from tests.waiting import wait_until


def test_a_population_from_submit_to_plot(folder: Folder) -> None:
    """Without --exit it serves on, so that the links it prints can be opened."""
    with folder.start("demo", "--size", "24") as running:
        running.says("Serving at ", 120)
        assert "24 of 24 simulated" in running.said
        assert re.search(r"^c_?max +\S+", running.said, re.MULTILINE | re.IGNORECASE)
        links = re.findall(r"^(?:Plot \(\w+\)|Job) +(http\S+)$", running.said, re.MULTILINE)
        assert len(links) >= 2
        for link in links:
            with urllib.request.urlopen(link, timeout=30) as answer:
                assert answer.status == 200
        running.interrupt()
        assert running.ends() == 0


def test_with_exit_it_ends_by_itself_and_uses_a_server_that_runs(folder: Folder) -> None:
    with folder.start("up", "--port", "0") as server:
        url = server.ready()
        said = folder.ok("demo", "--exit", "--size", "4")
        assert f"Job  {url}/jobs/" in said
        assert "Headway is ready" not in said
        assert server.process.poll() is None


def test_without_the_extra_a_small_task_and_what_to_install(folder: Folder) -> None:
    blocked = folder.path / "blocked"
    blocked.mkdir()
    names = ("roadrunner", "libsbml", "matplotlib")
    (blocked / "sitecustomize.py").write_text(f"import sys\nfor name in {names!r}: sys.modules[name] = None\n")
    said = folder.ok("demo", "--exit", "--size", "20", env={"PYTHONPATH": str(blocked)})
    assert "pip install 'headway[pbpk]'" in said
    assert '"primes": 17984' in said  # below 200,000
    assert re.search(r"^Job  http\S+/view$", said, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_the_server_it_started_ends_with_it(folder: Folder, number: signal.Signals) -> None:
    """However the demo ends: the check for left processes of every test is the proof."""
    with folder.start("demo", "--size", "1000000") as running:
        url = running.ready()
        running.says("running")
        running.process.send_signal(number)
        assert running.ends() != 0
    with Client(url, patience=0) as client:
        wait_until(lambda: _gone(client), what="the server's end", seconds=20, every=0.1)


def _gone(client: Client) -> bool:
    try:
        client.ready()
    except ServerUnreachable:
        return True
    return False
