"""What anybody may publish: rubbish, lies, what has happened already, and a storm. Tasks that are real stay right."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway.client import Client
from tests.cluster.events import MALFORMED, answer_of, apart, of_task
from tests.cluster.load import send
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.faults.test_observed_faults import succeeded, watched
from tests.faults.test_observed_truth import listening, observing, recorded
from tests.faults.watching import Watcher
from tests.servers.rabbitmq import RabbitServer
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SHORT_EVENTS, LONG_EVENTS = 20_000, 100_000
MEMORY_BYTES = 400 << 20
PATHS = (
    "/api/v1/sitrep",
    "/api/v1/tasks?limit=1000",
    "/api/v1/workers",
    "/api/v1/queues",
    "/api/v1/gaps",
    "/api/celery/status",
    "/metrics",
    "/health",
    "/ready",
)


def facts(client: Client) -> dict[str, Any]:
    """What the source of events says of itself."""
    found: dict[str, Any] = {one["name"]: one for one in client.sitrep()["sources"]}["events"]["facts"]
    return found


def no_error_page(url: str, ids: list[str]) -> None:
    """Every address answers, and every task that is recorded has a page."""
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        for path in (*PATHS, *(f"/api/v1/tasks/{one}" for one in ids)):
            answer = client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"


def _rubbish(cluster: Cluster, tmp_path: Path) -> None:
    trap = tmp_path / "unpickled"
    with watched(tmp_path, cluster) as (_, server, client, _):
        records = send(cluster, "add", 1, 2, times=20)
        wanted = answer_of(apart("rubbish", cluster.broker, str(trap)))["malformed"]
        records += send(cluster, "add", 1, 2, times=20)
        wait_until(lambda: facts(client)["malformed"] >= wanted, what="all of it to be counted", seconds=20, every=0.2)
        assert facts(client)["malformed"] >= wanted > len(MALFORMED)
        assert facts(client)["lost"] == 0
        wait_until(
            lambda: all(recorded(client).get(one.id, {}).get("celery_state") == "SUCCESS" for one in records),
            what="the real ones between it",
            every=0.2,
        )
        found = recorded(client)
        strangers = found.keys() - {one.id for one in records}
        assert all(one.startswith("odd-") for one in strangers), strangers
        assert "hunter2-of-tests" not in repr(found)
        assert not trap.exists(), "a pickle was read"
        no_error_page(server.ready(), sorted(found))
        assert client.gaps() == [], "rubbish cuts nobody off"

        # What has ended is told anew, backwards and by a clock that is ahead: of two ends alike the first is kept.
        before = {one.id: found[one.id] for one in records}
        again = [event for task_id in before for event in reversed(of_task(task_id, name="lies", at=time.time() + 60))]
        twice = [of_task("forged-1")[-1]] * 2
        counted = succeeded(httpx.get(f"{server.ready()}/metrics", trust_env=False).text)
        answer_of(apart("replay", cluster.broker, again + twice))
        wait_until(lambda: "forged-1" in recorded(client), what="it to be heard", every=0.2)
        after = recorded(client)
        kept = ("celery_state", "name", "result")
        assert {key: [after[key][one] for one in kept] for key in before} == {
            key: [before[key][one] for one in kept] for key in before
        }
        # A success at another moment is another one, and counted; the same one twice is not.
        lies = len(before)
        now_counted = succeeded(httpx.get(f"{server.ready()}/metrics", trust_env=False).text)
        assert now_counted - counted == lies + 1
        print(f"\n{wanted} malformed, counted {facts(client)}, {len(strangers)} half-believed tasks")


def test_rubbish_on_valkey(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    _rubbish(Cluster(own_valkey.url, tmp_path / "cluster", f"redis://127.0.0.1:{own_valkey.port}/1"), tmp_path)


@pytest.mark.long
def test_rubbish_on_rabbitmq(own_rabbitmq: RabbitServer, own_valkey: ValkeyServer, tmp_path: Path) -> None:
    _rubbish(Cluster(own_rabbitmq.url, tmp_path / "cluster", own_valkey.url), tmp_path)


def _storm(cluster: Cluster, tmp_path: Path, events: int) -> None:
    cluster.folder.mkdir()
    tasks = events // 8
    with observing(tmp_path, cluster) as server:
        url = server.start()
        peak = [0]
        with server.client() as client:
            answer_of(apart("storm", cluster.broker, 9, 1))
            listening(client)
            with Watcher(url) as watcher:
                publishers = [apart("storm", cluster.broker, number, tasks) for number in (1, 2)]

                def over() -> bool:
                    peak[0] = max(peak[0], server.service().memory_info().rss)
                    report = client.sitrep()
                    unfinished = any(one.poll() is None for one in publishers)
                    cut = bool(client.gaps())
                    # What was heard is not stored yet: a batch takes its time.
                    whole = report["task_metrics"]["completed_tasks"] == 2 * tasks + 1
                    return not unfinished and (whole or cut) and report["task_metrics"]["active_tasks"] == 0

                wait_until(over, what="the storm to be over", seconds=60 + events / 500, every=0.25)
                for publisher in publishers:
                    assert answer_of(publisher) == tasks * 4
            report = client.sitrep()
            told = facts(client)
            stored = report["task_metrics"]["completed_tasks"]
            said = f"{told}, stored {stored} of {2 * tasks + 1}, {peak[0] >> 20} MiB, gaps {client.gaps()}"
            print(f"\n{cluster.broker.partition(':')[0]}: {said}, slowest answer {watcher.slowest:.2f} s")
            assert peak[0] < MEMORY_BYTES, said
            if stored < 2 * tasks + 1:
                assert client.gaps(), f"what is missing is declared: {said}"
                assert report["health_status"] != "ok", said
            else:
                assert told["lost"] == 0
                assert client.gaps() == []
                assert {one["celery_state"] for one in recorded(client).values()} == {"SUCCESS"}
        server.stop()


def test_storm_on_valkey(own_valkey: ValkeyServer, tmp_path: Path, fault_rounds: int) -> None:
    events = LONG_EVENTS if fault_rounds >= 50 else SHORT_EVENTS
    _storm(Cluster(own_valkey.url, tmp_path / "cluster"), tmp_path, events)


@pytest.mark.long
def test_storm_on_rabbitmq(own_rabbitmq: RabbitServer, tmp_path: Path) -> None:
    _storm(Cluster(own_rabbitmq.url, tmp_path / "cluster"), tmp_path, LONG_EVENTS)


@pytest.mark.long
def test_observer_frozen_in_a_storm(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    """Valkey does not wait for who does not read: it drops the connection, and that is a gap that is said."""
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", f"redis://127.0.0.1:{own_valkey.port}/1")
    cluster.folder.mkdir()
    with Worker(cluster, "one"), observing(tmp_path, cluster) as server:
        server.start()
        with server.client() as client:
            listening(client)
            assert own_valkey.ask('CONFIG SET client-output-buffer-limit "pubsub 1mb 1mb 1"') == "+OK"
            records = send(cluster, "add", 1, 2, times=10)
            service = server.service()
            os.kill(service.pid, signal.SIGSTOP)
            frozen = datetime.now(UTC)
            try:
                answer_of(apart("storm", cluster.broker, 1, 10_000))
                records += send(cluster, "add", 1, 2, times=10)
            finally:
                os.kill(service.pid, signal.SIGCONT)
            wait_until(client.gaps, what="a gap", seconds=20, every=0.2)
            # The tasks of the storm were never real: only those are looked at that were.
            wait_until(
                lambda: all(recorded(client).get(one.id, {}).get("celery_state") == "SUCCESS" for one in records),
                what="the real ones to be found",
                seconds=60,
                every=0.5,
            )
            (gap,) = client.gaps()
            assert gap["reason"] == "broker_away"
            assert datetime.fromisoformat(gap["began_at"]) <= frozen, "it reaches back to when it was frozen"
            print(f"\n{client.gaps()}")
        server.stop()
