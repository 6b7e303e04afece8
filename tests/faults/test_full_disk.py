"""The disk of the data directory is full: refused with a code, nothing lost, and on it goes when there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from headway.client import Client
from headway.model.states import JobState
from tests.faults.proof import examine
from tests.faults.serving import Server
from tests.faults.test_kill_one import begun
from tests.required import skip_or_fail
from tests.waiting import wait_until

pytestmark = pytest.mark.faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    privileged = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("mount") is None or (privileged and shutil.which("sudo") is None):
        skip_or_fail("a small file system can be mounted only by root, or with sudo")
    point = tmp_path / "small"
    point.mkdir()
    mount = [*privileged, "mount", "-t", "tmpfs", "-o", f"size=8m,mode=0700,uid={os.getuid()}", "headway", str(point)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        skip_or_fail("this machine lets nobody mount a tmpfs")
    yield point
    subprocess.run([*privileged, "umount", "--lazy", str(point)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def test_nothing_is_lost(serve: Callable[..., Server], small_disk: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = serve(data_dir=small_disk / "data", options=("--workers", "3"))
    url = server.start()
    with Client(url) as client, httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        jobs = [client.submit(task, [str(gate)]) for task in ("work.until", "work.until_in_a_child")]
        for job in jobs:
            begun(server, job.id)
        ballast = fill(small_disk)
        body = {"task": "work.quick", "args": [1], "labels": {"filler": "x" * 200}}
        # The last pages of the write-ahead log may still take a few.
        accepted = []

        def refused() -> httpx.Response | None:
            answer = http.post("/api/v1/jobs", json=body)
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])
                return None
            return answer

        answer = wait_until(refused, what="a refusal", seconds=20)
        assert answer is not None
        assert answer.status_code == 503
        assert answer.json()["code"] == "storage_full"
        assert "space" in answer.json()["hint"]
        assert "retry-after" in answer.headers
        gate.touch()
        wait_until(lambda: server.effects.read_text().count('"end"') >= 2, what="both to end", seconds=20)
        assert client.get(jobs[0].id).state is JobState.RUNNING, "its end could not be recorded"
        ballast.unlink()
        for job in jobs:
            ended = client.wait(job.id, 60)
            assert (ended.state, ended.fence) == (JobState.SUCCEEDED, 1)
        later = client.submit("work.quick", [2])
        for job_id in (*accepted, later.id):
            assert client.wait(job_id, 60).state is JobState.SUCCEEDED
    assert server.stop() == 0
    everything = [*(job.id for job in jobs), *accepted, later.id]
    examine(f"sqlite:///{server.data_dir}/jobs/registry.db", server.effects, accepted=everything).holds()
