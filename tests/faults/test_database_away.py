"""The database goes away while attempts run: nothing is lost, and no good attempt is killed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from headway.client import Client
from headway.model.commands import SubmitJob
from headway.model.states import JobState
from tests.faults.conftest import all_ended
from tests.faults.proof import examine, read_effects
from tests.faults.serving import Server
from tests.faults.test_kill_one import begun
from tests.servers.postgres import PostgresServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.postgres, pytest.mark.timeout(300)]

# Of one lease (2 s here) and some; `make faults` takes the half minute of the promise.
SHORT_SECONDS, LONG_SECONDS = 5.0, 30.0
LONG_FORM = 50


@pytest.fixture
def away_seconds(fault_rounds: int) -> float:
    """How long the database is away."""
    return LONG_SECONDS if fault_rounds >= LONG_FORM else SHORT_SECONDS


@pytest.fixture
def registry(own_postgres: PostgresServer) -> str:
    """A database of a server that may be stopped."""
    return own_postgres.create_database()


def proven(server: Server, registry: str, accepted: list[str]) -> None:
    """The registry and the effects agree."""
    examine(registry.replace("postgresql://", "postgresql+psycopg://"), server.effects, accepted=accepted).holds()


@pytest.mark.parametrize("how", [pytest.param("stop", marks=pytest.mark.long), "kill"])
def test_stopped_and_started(
    serve: Callable[..., Server],
    own_postgres: PostgresServer,
    registry: str,
    tmp_path: Path,
    away_seconds: float,
    how: str,
) -> None:
    during, after = tmp_path / "during", tmp_path / "after"
    server = serve(registry=registry, options=("--workers", "4"))
    url = server.start()
    with Client(url) as client:
        jobs = [
            client.submit(task, [str(gate)])
            for gate in (during, after)
            for task in ("work.until", "work.until_in_a_child")
        ]
        for job in jobs:
            begun(server, job.id)
        (own_postgres.stop if how == "stop" else own_postgres.kill)()
        gone = time.monotonic()
        refused = _submit(url, "k1")
        assert refused.status_code == 503
        assert refused.json()["code"] == "store_unavailable"
        assert int(refused.headers["retry-after"]) > 0
        during.touch()
        spool = server.data_dir / "spool"
        wait_until(lambda: len(list(spool.glob("*.json"))) == 2, what="two finishes in the spool", seconds=20)
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        wait_until(lambda: time.monotonic() - gone > away_seconds, what="the outage to last", seconds=away_seconds + 5)
        own_postgres.start()
        for job in jobs[:2]:
            ended = client.wait(job.id, 60)
            assert (ended.state, ended.fence) == (JobState.SUCCEEDED, 1)
        assert client.result(jobs[0].id) == "through"
        wait_until(lambda: not list(spool.iterdir()), what="an empty spool")
        accepted = wait_until(lambda: _submit(url, "k1").status_code == 202, what="a submit to be accepted")
        assert accepted
        again = _submit(url, "k1").json()["id"]
        # Renewed again and again, the attempts that went through the outage are still the first ones.
        _several_leases(client, [job.id for job in jobs[2:]])
        after.touch()
        for job in jobs[2:]:
            ended = client.wait(job.id, 60)
            assert (ended.state, ended.fence, ended.rescues) == (JobState.SUCCEEDED, 1, 0)
        assert client.wait(again, 30).state is JobState.SUCCEEDED
    server.stop()
    proven(server, registry, [*(job.id for job in jobs), again])


def test_frozen_and_awake_again(
    serve: Callable[..., Server], own_postgres: PostgresServer, registry: str, tmp_path: Path, away_seconds: float
) -> None:
    gate = tmp_path / "gate"
    server = serve(registry=registry, options=("--workers", "4"))
    with Client(server.start()) as client:
        jobs = [client.submit(task, [str(gate)]) for task in ("work.until", "work.until_in_a_child")]
        for job in jobs:
            begun(server, job.id)
        own_postgres.pause()
        gone = time.monotonic()
        try:
            wait_until(lambda: time.monotonic() - gone > away_seconds / 2, what="half of it", seconds=away_seconds)
            gate.touch()
            wait_until(lambda: time.monotonic() - gone > away_seconds, what="all of it", seconds=away_seconds + 5)
        finally:
            own_postgres.resume()
        for job in jobs:
            ended = client.wait(job.id, 60)
            assert (ended.state, ended.fence, ended.rescues) == (JobState.SUCCEEDED, 1, 0)
    server.stop()
    proven(server, registry, [job.id for job in jobs])


@pytest.mark.long
def test_frozen_for_longer_than_anybody_waits(
    serve: Callable[..., Server], own_postgres: PostgresServer, registry: str
) -> None:
    """Its connections are open and nothing is refused: who asks is told so all the same, and goes on afterwards."""
    server = serve(registry=registry, options=("--workers", "2"))
    url = server.start()
    with Client(url) as client:
        job = client.submit("work.quick", [1])
        assert client.wait(job.id, 30).state is JobState.SUCCEEDED
        with ThreadPoolExecutor(8) as pool:
            # Several connections lie idle when it happens: none of them may cost a wait of its own.
            list(pool.map(lambda _: httpx.get(f"{url}/api/v1/jobs/{job.id}", trust_env=False), range(64)))
        own_postgres.pause()
        try:
            with ThreadPoolExecutor() as pool:
                refused = list(pool.map(lambda key: _submit(url, f"k{key}"), range(4)))
                read = httpx.get(f"{url}/api/v1/jobs/{job.id}", timeout=40, trust_env=False)
            for answer in (*refused, read):
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
        finally:
            own_postgres.resume()
        again = wait_until(lambda: _accepted(url, "k1"), what="a submit to be accepted", seconds=30)
        assert again is not None
        assert client.wait(again, 30).state is JobState.SUCCEEDED
        # The first one may have reached the server before it froze: then the key finds it.
        assert _submit(url, "k1").json()["id"] == again
    server.stop()
    proven(server, registry, [job.id, again])


def test_a_crash_with_finishes_in_the_spool(
    serve: Callable[..., Server], own_postgres: PostgresServer, registry: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = serve(registry=registry, options=("--workers", "4"))
    with Client(server.start()) as client:
        jobs = [client.submit(task, [str(gate)]) for task in ("work.until", "work.until_in_a_child", "work.until")]
        for job in jobs:
            begun(server, job.id)
    own_postgres.stop()
    gate.touch()
    spool = server.data_dir / "spool"
    wait_until(lambda: len(list(spool.glob("*.json"))) == len(jobs), what="the finishes in the spool", seconds=20)
    server.kill_group()
    server.nothing_left()
    own_postgres.start()
    with Client(server.start()) as client:
        for job in jobs:
            ended = client.wait(job.id, 30)
            assert (ended.state, ended.fence) == (JobState.SUCCEEDED, 1)
        assert not list(spool.iterdir())
    server.stop()
    assert sum(one["what"] == "begin" for one in read_effects(server.effects)) == len(jobs), "none ran twice"
    proven(server, registry, [job.id for job in jobs])


def _submit(url: str, key: str) -> httpx.Response:
    return httpx.post(
        f"{url}/api/v1/jobs",
        json={"task": "work.quick", "args": [1]},
        headers={"Idempotency-Key": key},
        timeout=40,
        trust_env=False,
    )


def _accepted(url: str, key: str) -> str | None:
    answer = _submit(url, key)
    return str(answer.json()["id"]) if answer.status_code == 202 else None


def _several_leases(client: Client, ids: list[str]) -> None:
    """Until the beats of these jobs have moved on by more than two leases."""

    def beats() -> list[int]:
        return [client.get(job_id).heartbeat_at or 0 for job_id in ids]

    first = beats()
    wait_until(
        lambda: all(now - then > 4_500_000 for now, then in zip(beats(), first, strict=True)),
        what="beats over two leases",
        seconds=20,
        every=0.1,
    )


@pytest.mark.long
def test_a_burst_of_short_jobs_through_outages(
    serve: Callable[..., Server], own_postgres: PostgresServer, registry: str, fault_rounds: int
) -> None:
    """Short jobs share commits, so that at any moment several finishes are on their way: none may be forgotten."""
    server = serve(registry=registry, options=("--workers", "4"))
    rounds, ids = max(2, fault_rounds // 10), []
    with Client(server.start()) as client:
        for _ in range(rounds):
            have = len(read_effects(server.effects))
            ids += list(client.submit_batch([SubmitJob("work.quick", [number]) for number in range(400)]))
            wait_until(lambda: len(read_effects(server.effects)) > have + 100, what="the burst", every=0.001)  # noqa: B023 - asked before the next round
            own_postgres.kill()
            own_postgres.start()
        all_ended(client)
    server.stop()
    proven(server, registry, ids)
    begins = Counter(one["job"] for one in read_effects(server.effects) if one["what"] == "begin")
    again = {job: count for job, count in begins.items() if count > 1}
    assert not again, "a body that ended is never run again while its worker lives"
    assert len(begins) == len(ids)
