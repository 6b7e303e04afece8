"""`headway cluster` with the real commands: started, asked, broken, rolled and stopped while jobs run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headway.bootstrap.fleet import Place
from headway.bootstrap.reaching_fleet import fleet_status
from headway.client import Client
from headway.model.states import JobState
from tests.managed.cluster import Managed
from tests.servers.own import running_valkey
from tests.waiting import wait_until

KEY = "a-key-of-the-fleet-tests"
PAGES = Path(__file__).parents[2] / "docs" / "runbooks"
RUNBOOKS = ("a-worker-crashes.md", "restart-without-loss.md", "scale-the-workers.md", "logs-fill-the-disk.md")
FILE = """
[cluster]
app = "tests.managed.app"
port = 0

[cluster.workers.mail]
queues = ["celery", "bulk"]
concurrency = 2
pool = "prefork"
max_tasks_per_child = 50
max_memory_mb = 500
"""


class Fleet:
    """One cluster by its commands, and everything that it ever started."""

    def __init__(self, managed: Managed) -> None:
        self.managed = managed
        self.seen: set[psutil.Process] = set()

    def run(self, *arguments: str, code: int | None = 0) -> str:
        """One command; what it said on both ways."""
        done = subprocess.run(
            [sys.executable, "-m", "headway", "cluster", *arguments],
            cwd=self.managed.folder,
            env=self.managed.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        assert code is None or done.returncode == code, f"{arguments} ended with {done.returncode}:\n{said}"
        return said

    def shell(self, command: str) -> None:
        """One command of a page."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**self.managed.environment, "PATH": path}
        subprocess.run(["sh", "-euc", command], cwd=self.managed.folder, env=environment, timeout=60, check=True)

    def status(self) -> dict[str, Any]:
        """What it says of itself; every process is remembered."""
        found = fleet_status(self.place)
        assert found is not None
        for pid in [found["pid"], *(part["pid"] for part in found["parts"] if part["pid"])]:
            try:
                process = psutil.Process(pid)
                self.seen |= {process, *process.children(recursive=True)}
            except psutil.NoSuchProcess:
                continue
        return found

    def part(self, name: str) -> dict[str, Any]:
        """One part of it."""
        return next(part for part in self.status()["parts"] if part["name"] == name)

    @property
    def place(self) -> Place:
        """Where it writes."""
        return Place(self.managed.folder / "var" / "cluster", self.managed.folder / "var" / "logs")

    def client(self) -> Client:
        """A client of its server. Close it."""
        return Client(self.status()["url"], KEY)

    def gone(self) -> None:
        """Fail unless nothing of it lives."""
        assert self.is_gone()

    def is_gone(self) -> bool:
        """Whether nothing of it lives."""
        return not any(_lives(process) for process in self.seen)


def commands(page: str) -> list[str]:
    """Every command of a runbook."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (PAGES / page).read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def fleet(shared_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A folder with a file of a cluster; nothing runs."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "headway.toml").write_text(FILE)
    with running_valkey() as valkey:
        made = Fleet(
            Managed(folder, shared_registry, f"{valkey.url}", {"HEADWAY_DRAIN_SECONDS": "5", "HEADWAY_API_KEY": KEY})
        )
        try:
            yield made
        finally:
            made.run("stop", code=None)


def test_the_life_of_a_cluster(fleet: Fleet) -> None:
    said = fleet.run("start")
    assert [line.split(":")[0] for line in said.splitlines()[:2]] == ["api", "mail-1"]
    first = fleet.status()
    assert all(part["state"] == "ready" for part in first["parts"])
    assert "runs already" in fleet.run("start")
    assert {part["pid"] for part in fleet.status()["parts"]} == {part["pid"] for part in first["parts"]}
    assert json.loads(fleet.run("status", "--json"))["state"] == "running"

    said = fleet.run("test")
    assert [line.split(",")[0] for line in said.splitlines()] == ["celery: healthy", "bulk: healthy"]
    assert "mail-1a@" in said

    with fleet.client() as client:
        killed = _kill_one(fleet, client)
        _roll(fleet, client, killed)

    said = fleet.run("logs", "mail", "-n", "1000")
    assert "is ready" in said
    assert "died" in said
    fleet.run("logs", "nobody", code=2)

    # What the runbooks say works while a cluster runs; the restart itself was the command above.
    for command in dict.fromkeys(line for page in RUNBOOKS for line in commands(page)):
        if command != "headway cluster restart":
            fleet.shell(command)

    fleet.status()
    fleet.run("stop")
    fleet.gone()
    assert "not_running" in fleet.run("status", code=1)
    assert "No cluster was running" in fleet.run("stop")


def _kill_one(fleet: Fleet, client: Client) -> int:
    """kill -9 of a worker in the middle of jobs; all succeed, and only those that it had run twice."""
    jobs = [client.submit("tests.managed.app.work", [0.4]).id for _ in range(12)]
    before = fleet.part("mail-1")
    wait_until(lambda: _begun(fleet, jobs) >= 4, what="jobs to run", seconds=20)
    os.kill(before["pid"], signal.SIGKILL)
    for job_id in jobs:
        assert client.wait(job_id, 30).state is JobState.SUCCEEDED
    tries = [client.get(job_id) for job_id in jobs]
    assert all(job.attempts - job.rescues == 1 for job in tries)
    assert sum(job.rescues for job in tries) <= 2  # what its two children had
    wait_until(lambda: fleet.part("mail-1")["state"] == "ready", what="the worker to be back", seconds=30)
    after = fleet.part("mail-1")
    assert (after["restarts"], after["last_exit"]) == (1, "killed by SIGKILL")
    return int(after["pid"])


def _roll(fleet: Fleet, client: Client, killed: int) -> None:
    """A rolling restart in the middle of jobs: each runs once, and requests meanwhile are answered."""
    before = {part["name"]: part["pid"] for part in fleet.status()["parts"]}
    jobs = [client.submit("tests.managed.app.work", [0.2]).id for _ in range(30)]
    with subprocess.Popen(
        [sys.executable, "-m", "headway", "cluster", "restart"],
        cwd=fleet.managed.folder,
        env=fleet.managed.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as rolling:
        answered = 0
        while rolling.poll() is None:
            # The listening socket outlives the server: nobody is refused, some wait.
            client.get(jobs[answered % len(jobs)])
            answered += 1
        assert rolling.stdout is not None
        said = rolling.stdout.read()
    assert rolling.returncode == 0, said
    assert [line.split(":")[0] for line in said.splitlines()] == ["mail-1", "api"]
    assert answered
    for job_id in jobs:
        job = client.wait(job_id, 30)
        assert (job.state, job.attempts, job.rescues) == (JobState.SUCCEEDED, 1, 0)
    effects = [json.loads(line) for line in fleet.managed.effects.read_text().splitlines()]
    ended = [line["job"] for line in effects if line["what"] == "end"]
    assert all(ended.count(job_id) == 1 for job_id in jobs)
    after = {part["name"]: part["pid"] for part in fleet.status()["parts"]}
    assert all(after[name] != before[name] for name in before)
    assert after["mail-1"] != killed


def _begun(fleet: Fleet, jobs: list[str]) -> int:
    path: Path = fleet.managed.effects
    lines = path.read_text().splitlines() if path.exists() else []
    return len({line["job"] for line in map(json.loads, lines) if line["what"] == "begin"} & set(jobs))


def test_what_cannot_start_is_told_with_its_last_words(fleet: Fleet) -> None:
    file = fleet.managed.folder / "headway.toml"
    try:
        file.write_text(FILE.replace("tests.managed.app", "nowhere_at_all"))
        said = fleet.run("start", code=1)
        assert "cannot be started" in said
        assert "nowhere_at_all" in said
        assert "Traceback" not in said
        fleet.run("status", code=1)
    finally:
        file.write_text(FILE)


@pytest.mark.long
def test_what_a_killed_supervisor_started_ends_with_it(fleet: Fleet) -> None:
    fleet.run("start")
    supervisor = fleet.status()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(supervisor), what="the supervisor to be gone")
    # In order, by the signal that the kernel sends for it: nobody has asked yet.
    wait_until(fleet.is_gone, what="all of it to be gone", seconds=20)
    fleet.run("stop")
