"""What `make run` does once everything is installed: a population from submit to plot, then it serves until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headway.client import Client
from headway.model.states import JobState
from tests.acceptance.ten_minutes.conftest import Desk
from tests.waiting import wait_until

RUN = Path(__file__).parents[3] / "tools" / "run.sh"
SERVING = re.compile(r"^Serving at (http://\S+)", re.MULTILINE)


@pytest.mark.timeout(240)
def test_a_finished_population_and_then_it_serves(desk: Desk, tmp_path: Path) -> None:
    said = tmp_path / "said"
    headway = Path(sys.executable).with_name("headway")
    with said.open("w") as log:
        running = subprocess.Popen(
            ["sh", str(RUN), "--port", "0"],
            cwd=desk.path,
            env=desk.environment({"HEADWAY_BIN": str(headway)}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: SERVING.search(said.read_text()) or running.poll() is not None, what="the demo", seconds=180)
        found = SERVING.search(said.read_text())
        assert found, said.read_text()
        assert "did not finish" not in said.read_text(), said.read_text()
        with Client(found.group(1)) as client:
            jobs = list(client.list())
            assert jobs
            assert all(job.state is JobState.SUCCEEDED for job in jobs)
            assert any(job.task.startswith("pbpk") or ".pbpk." in job.task for job in jobs), [job.task for job in jobs]
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(30) == 0
        assert "Traceback" not in said.read_text()
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGTERM)
            running.wait(30)
