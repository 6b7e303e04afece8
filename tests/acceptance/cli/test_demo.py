"""`headway demo`: the main job on real input."""

from __future__ import annotations

import re
import urllib.request

from tests.acceptance.cli.conftest import Folder


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
