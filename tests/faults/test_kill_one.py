"""kill -9 of one process: the service, the supervisor, a child; and a task that takes the service down."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from headway.client import Client
from headway.model.states import JobState
from tests.faults.conftest import all_ended
from tests.faults.load import Load
from tests.faults.proof import examine, read_effects
from tests.faults.serving import Server
from tests.waiting import wait_until

pytestmark = pytest.mark.faults


def begun(server: Server, job_id: str, fence: int = 1) -> int:
    """Wait until an attempt's body has begun; its process id."""

    def look() -> int | None:
        key = ("begin", job_id, fence)
        found = [one for one in read_effects(server.effects) if (one["what"], one["job"], one["fence"]) == key]
        return int(found[0]["pid"]) if found else None

    pid = wait_until(look, what=f"attempt {fence} of {job_id} to begin", seconds=60)
    assert pid is not None
    return pid


def test_the_service_under_load(
    serve: Callable[..., Server],
    seed: str,
    chance: random.Random,
    fault_rounds: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(options=("--workers", "4"))
    url = server.start()
    with Load(seed) as load:
        for _ in range(fault_rounds):
            load.serve_at(url)
            have, more = len(read_effects(server.effects)), chance.randrange(1, 60)
            wait_until(lambda: len(read_effects(server.effects)) >= have + more, what="some work", seconds=30)  # noqa: B023 - asked before the next round
            ready = server.count_ready()
            server.service().kill()
            assert server.ready_again(ready) == url, "the supervisor keeps the port"
        load.end()
        with server.client() as client:
            all_ended(client)
    assert server.stop() == 0
    proof = examine(f"sqlite:///{server.data_dir}/jobs/registry.db", server.effects, accepted=load.counted.accepted)
    with capsys.disabled():
        print(f"\n{fault_rounds} kills of the service; {len(load.counted.accepted)} accepted; {proof}")
    assert not load.counted.wrong, load.counted.wrong[:5]
    proof.holds()


@pytest.mark.long
def test_the_supervisor_takes_everything_with_it(serve: Callable[..., Server], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = serve(options=("--workers", "3"))
    with Client(server.start()) as client:
        waiting = client.submit("work.until", [str(gate)])
        computing = client.submit("work.computing", [300])
        helped = client.submit("work.with_a_helper", [300])
        for job in (waiting, computing, helped):
            begun(server, job.id)
    server.main.kill()
    server.main.wait(10)
    # The service drains for ten seconds before it gives up what runs.
    server.nothing_left(30)
    server.start()
    gate.touch()
    with server.client() as client:
        assert client.wait(waiting.id, 60).state is JobState.SUCCEEDED
        assert client.get(waiting.id).fence == 2
        for job in (computing, helped):
            begun(server, job.id, 2)
            client.cancel(job.id)
            assert client.wait(job.id, 30).state is JobState.CANCELLED
        for job in (waiting, computing, helped):
            assert client.attempts(job.id)[0].outcome == "interrupted", "a shutdown in good order costs no try"
            assert client.get(job.id).rescues == 0
    server.stop()


def test_a_child_takes_one_attempt_with_it(serve: Callable[..., Server], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = serve(options=("--workers", "3"))
    with Client(server.start()) as client:
        struck = client.submit("work.until_in_a_child", [str(gate)], max_retries=1)
        beside = client.submit("work.until_in_a_child", [str(gate)])
        thread = client.submit("work.until", [str(gate)])
        pid = begun(server, struck.id)
        begun(server, beside.id)
        begun(server, thread.id)
        psutil.Process(pid).kill()
        assert begun(server, struck.id, 2) != pid
        gate.touch()
        for job, fence in ((struck, 2), (beside, 1), (thread, 1)):
            ended = client.wait(job.id, 30)
            assert (ended.state, ended.fence) == (JobState.SUCCEEDED, fence)
        first = client.attempts(struck.id)[0]
        assert first.error is not None
        assert first.error.code == "child_crashed"
        assert "SIGKILL" in first.error.message
    assert server.count_ready() == 1
    server.stop()


@pytest.mark.long
def test_threads_that_take_the_service_down_are_tried_again_and_fail_as_lost_in_the_end(
    serve: Callable[..., Server],
) -> None:
    server = serve(options=("--workers", "2"), settings={"HEADWAY_MAX_RESCUES": "1"})
    with Client(server.start()) as client:
        for how in ("segfault", "exit", "kill"):
            ended = client.wait(client.submit("work.crash_in_a_thread", [how, 1]).id, 60)
            assert (ended.state, ended.fence, ended.rescues) == (JobState.SUCCEEDED, 2, 1)
            assert [str(one.outcome) for one in client.attempts(ended.id)] == ["abandoned", "succeeded"]
        ended = client.wait(client.submit("work.crash_in_a_thread", ["kill", 100]).id, 60)
        assert ended.state is JobState.FAILED
        assert ended.error is not None
        assert ended.error.code == "worker_lost"
        assert "isolation" in (ended.error.hint or "")
        assert client.wait(client.submit("work.quick", [21]).id, 30).state is JobState.SUCCEEDED
    server.stop()


def test_children_die_with_a_killed_service_before_the_next_begins(serve: Callable[..., Server]) -> None:
    server = serve(options=("--workers", "2"))
    with Client(server.start()) as client:
        jobs = [client.submit("work.computing", [300]), client.submit("work.with_a_helper", [300])]
        old = {begun(server, job.id) for job in jobs}
    helpers = [child for pid in old for child in psutil.Process(pid).children(recursive=True)]
    assert [child.name() for child in helpers] == ["sleep"]
    ready = server.count_ready()
    server.service().send_signal(signal.SIGKILL)
    url = server.ready_again(ready)
    alive = {process.pid for process in server.alive()}
    assert not alive & (old | {child.pid for child in helpers}), "a ready server has outlived them"
    with Client(url) as client:
        for job in jobs:
            begun(server, job.id, 2)
            client.cancel(job.id)
            assert client.wait(job.id, 30).state is JobState.CANCELLED
    server.stop()


def test_two_at_once_over_one_directory(serve: Callable[..., Server]) -> None:
    both = [serve(), serve()]
    for server in both:
        server.spawn()
    ready = wait_until(lambda: [one for one in both if one.count_ready()], what="one to be ready", seconds=60)
    refused = next(one for one in both if one is not ready[0])
    assert refused.main.wait(30) == 1
    assert "error [data_directory_in_use]" in refused.said()
    assert "--data-dir" in refused.said()
    assert not refused.count_ready()
    owner = json.loads((ready[0].data_dir / "headway.lock").read_text())
    assert owner["pid"] == ready[0].service().pid
    ready[0].stop()
