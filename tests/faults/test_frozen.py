"""The closed laptop lid: everything stops for longer than a lease, and goes on."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from headway.client import Client
from headway.model.states import JobState
from tests.faults.proof import examine
from tests.faults.serving import Server
from tests.faults.test_kill_one import begun
from tests.waiting import wait_until

pytestmark = pytest.mark.faults

LID_SECONDS = 4.0  # two leases


def _signal_all(server: Server, number: signal.Signals) -> None:
    for process in server.alive():
        # Those that are awake already may end the others: a superseded attempt's child, for one.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@pytest.mark.long
def test_on_sqlite_the_attempts_finish_under_their_first_fence(serve: Callable[..., Server], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = serve(options=("--workers", "3"))
    with Client(server.start()) as client:
        jobs = [client.submit(task, [str(gate)]) for task in ("work.until", "work.until_in_a_child")]
        limited = client.submit("work.patient", [LID_SECONDS + 1], timeout_seconds=LID_SECONDS + 30)
        for job in (*jobs, limited):
            begun(server, job.id)
        _signal_all(server, signal.SIGSTOP)
        closed = time.monotonic()
        wait_until(lambda: time.monotonic() - closed > LID_SECONDS, what="the lid", seconds=LID_SECONDS + 5)
        _signal_all(server, signal.SIGCONT)
        # A rescuer in a hurry would strike now: let it have its chance before they end.
        assert client.wait(client.submit("work.patient", [3.0]).id, 30).state is JobState.SUCCEEDED
        gate.touch()
        for job in (*jobs, limited):
            ended = client.wait(job.id, 30)
            assert (ended.state, ended.fence, ended.rescues) == (JobState.SUCCEEDED, 1, 0)
    server.stop()


@pytest.mark.postgres
def test_on_postgres_another_takes_over_and_the_late_finish_is_refused_once(
    serve: Callable[..., Server], postgres_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = serve(registry=postgres_url, options=("--workers", "2"), data_dir=tmp_path / "one")
    with Client(first.start()) as client:
        job = client.submit("work.until", [str(gate)])
        begun(first, job.id)
    second = serve(registry=postgres_url, options=("--workers", "2"), data_dir=tmp_path / "two")
    with Client(second.start()) as client:
        _signal_all(first, signal.SIGSTOP)
        begun(second, job.id, 2)
        gate.touch()
        assert client.wait(job.id, 30).state is JobState.SUCCEEDED
        _signal_all(first, signal.SIGCONT)
        wait_until(lambda: "engine.finish_refused" in first.said(), what="the late finish to be refused", seconds=30)
        outcomes = [(one.fence, str(one.outcome)) for one in client.attempts(job.id)]
        assert outcomes == [(1, "abandoned"), (2, "succeeded")]
    first.stop()
    second.stop()
    assert first.said().count("engine.finish_refused") == 1
    registry = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    proof = examine(registry, first.effects, accepted=[job.id], several_owners=True)
    proof.holds()
    assert (proof.overlaps, proof.begun_effects, proof.ended_effects) == (1, 2, 2)


@pytest.mark.postgres
@pytest.mark.long
def test_on_postgres_a_superseded_attempt_that_still_runs_is_told_to_stop(
    serve: Callable[..., Server], postgres_url: str, tmp_path: Path
) -> None:
    first = serve(registry=postgres_url, options=("--workers", "2"), data_dir=tmp_path / "one")
    with Client(first.start()) as client:
        jobs = [client.submit("work.patient", [600]), client.submit("work.computing", [600])]
        for job in jobs:
            begun(first, job.id)
    child = first.children()
    second = serve(registry=postgres_url, options=("--workers", "2"), data_dir=tmp_path / "two")
    with Client(second.start()) as client:
        _signal_all(first, signal.SIGSTOP)
        for job in jobs:
            begun(second, job.id, 2)
        _signal_all(first, signal.SIGCONT)
        wait_until(lambda: '"stopped"' in first.effects.read_text(), what="the thread to be told", seconds=10)
        wait_until(lambda: not any(one in first.alive() for one in child), what="the child to be ended", seconds=10)
        for job in jobs:
            assert client.get(job.id).fence == 2
            client.cancel(job.id)
            assert client.wait(job.id, 30).state is JobState.CANCELLED
    first.stop()
    second.stop()


@pytest.mark.postgres
@pytest.mark.long
def test_two_servers_on_one_postgres_run_each_job_once(
    serve: Callable[..., Server], postgres_url: str, tmp_path: Path
) -> None:
    servers = [
        serve(registry=postgres_url, options=("--workers", "2"), data_dir=tmp_path / name) for name in ("one", "two")
    ]
    urls = [server.start() for server in servers]
    ids: list[str] = []
    for url in urls * 2:
        with Client(url) as client:
            ids += [client.submit("work.quick", [number]).id for number in range(60)]
            ids += [client.submit("work.patient", [0.1]).id for _ in range(5)]
    workers = set()
    with Client(urls[0]) as client:
        for job_id in ids:
            ended = client.wait(job_id, 60)
            assert (ended.state, ended.fence) == (JobState.SUCCEEDED, 1)
            workers.add(ended.worker_id)
    assert len(workers) == 2, "both worked"
    for server in servers:
        server.stop()
    registry = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    proof = examine(registry, servers[0].effects, accepted=ids)
    proof.holds()
    assert (proof.begun_effects, proof.ended_effects, proof.overlaps) == (len(ids), len(ids), 0)
