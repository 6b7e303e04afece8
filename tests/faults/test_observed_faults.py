"""Brokers, connections, workers and results go away while a cluster is watched: never a wrong "healthy", nothing lost unsaid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from celery import Celery
from redis import Redis

from headway.client import Client
from headway.model.errors import BrokerAway
from headway.observe.sources import RedisEvents
from headway.observe.target import Target
from tests.cluster.load import Record, send
from tests.cluster.settings import Cluster
from tests.cluster.truth import read_effects, running, settle
from tests.cluster.workers import Worker
from tests.faults.serving import Server
from tests.faults.test_observed_truth import backend_states, listening, observing, quiet, recorded
from tests.faults.watching import Watcher
from tests.servers.own import running_valkey
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

# Machines that run tests do other things, too.
_SLOW = 3
SHORT_SECONDS, LONG_SECONDS = 5.0, 30.0


@pytest.fixture
def away_seconds(fault_rounds: int) -> float:
    """How long something is away."""
    return LONG_SECONDS if fault_rounds >= 50 else SHORT_SECONDS


@pytest.fixture
def results() -> Iterator[ValkeyServer]:
    """A Valkey for results that stays while the broker is away."""
    with running_valkey() as server:
        yield server


@contextmanager
def watched(
    folder: Path, cluster: Cluster, *, seen_as: Cluster | None = None, **options: Any
) -> Iterator[tuple[Worker, Server, Client, Watcher]]:
    """A worker, an observer that hears it, and somebody who asks all the time."""
    cluster.folder.mkdir()
    worker = Worker(cluster, "one")
    with observing(folder, seen_as or cluster, **options) as server:
        server.spawn()
        with worker:
            url = server.ready()
            with server.client() as client:
                listening(client)
                healthy(client)
                with Watcher(url) as watcher:
                    yield worker, server, client, watcher
                # In good order, while everybody is there.
                server.stop()


def healthy(client: Client, seconds: float = 30.0) -> dict[str, Any]:
    """Wait until it is said to be well, and return what is said."""
    last: dict[str, Any] = {}

    def ok() -> bool:
        last.update(client.sitrep())
        return bool(last["health_status"] == "ok")

    try:
        wait_until(ok, what="it to be well", seconds=seconds, every=0.2)
    except AssertionError as error:
        error.add_note(f"{last['sources']}\n{last['attention']}\n{client.gaps()}")
        raise
    return last


def last_for(seconds: float, since: float) -> None:
    """Let what is away be away for so long."""
    wait_until(lambda: time.monotonic() - since > seconds, what="it to last", seconds=seconds + 5, every=0.05)


def becomes(client: Client, health: str, seconds: float) -> dict[str, Any]:
    """Wait for a health, and return the report that says so."""
    report = wait_until(
        lambda: next((one for one in [client.sitrep()] if one["health_status"] == health), None),
        what=f"it to be {health}",
        seconds=seconds,
        every=0.1,
    )
    assert report is not None
    return report


def agrees(client: Client, cluster: Cluster, records: list[Record]) -> None:
    """Every task is recorded as it truly ended, but for what a declared gap excuses."""
    truths = settle(cluster.effects, records)
    counted = quiet(client, cluster, truths, backend_states(cluster), seconds=40)
    assert counted.total() == len(records)
    print(f"\n{dict(counted)}, gaps {[(gap['reason'], gap['recovered'], gap['unresolved']) for gap in client.gaps()]}")


def two_running(cluster: Cluster, seconds: float) -> list[Record]:
    """Two tasks that run, for so long."""
    records = send(cluster, "sleepy", seconds, times=2)
    wait_until(lambda: len(running(read_effects(cluster.effects))) == 2, what="two to run", seconds=20)
    return records


def test_broker_stopped_and_started(
    own_valkey: ValkeyServer, results: ValkeyServer, tmp_path: Path, away_seconds: float
) -> None:
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", results.url)
    with watched(tmp_path, cluster) as (worker, _, client, watcher):
        records = [*send(cluster, "add", 1, 2, times=20), *two_running(cluster, 3.0)]
        wait_until(lambda: len(recorded(client)) == len(records), what="all to be heard of", seconds=3, every=0.1)
        with watcher.away("the broker"):
            own_valkey.kill()
            gone = time.monotonic()
            report = becomes(client, "unknown", seconds=4)
            assert {"broker_away"} <= {one["code"] for one in report["attention"]}
            assert len(recorded(client)) == len(records), "what is known is still shown"
            last_for(away_seconds, gone)
        assert not running(read_effects(cluster.effects)), "both have ended while nobody could hear it"
        own_valkey.start()
        wait_until(lambda: worker.said().count("Connected to redis") > 1, what="the worker to be back", seconds=60)
        healthy(client)
        records += send(cluster, "add", 1, 2, times=20)
        agrees(client, cluster, records)
        found = recorded(client)
        assert {found[one.id]["celery_state"] for one in records} == {"SUCCESS"}
        (gap,) = client.gaps()
        assert gap["reason"] == "broker_away"
        # The ends of those that ran were read where results are kept: while it was away, or when the gap was looked through.
        assert gap["unresolved"] == 0


@pytest.mark.long
def test_broker_and_workers_frozen_and_results_flushed(
    own_valkey: ValkeyServer, tmp_path: Path, away_seconds: float
) -> None:
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", f"redis://127.0.0.1:{own_valkey.port}/1")
    with watched(tmp_path, cluster) as (worker, _, client, watcher):
        records = [*send(cluster, "add", 1, 2, times=20), *two_running(cluster, 0.5)]
        own_valkey.pause()
        try:
            with watcher.away("the broker"):
                gone = time.monotonic()
                becomes(client, "unknown", seconds=4)
                last_for(away_seconds, gone)
        finally:
            own_valkey.resume()
        healthy(client)
        agrees(client, cluster, records)

        records += two_running(cluster, 1.0)
        worker.freeze()
        try:
            with watcher.away("the only worker"):
                gone = time.monotonic()
                becomes(client, "degraded", seconds=4)
                # Gone already where no heartbeat came through since the broker was frozen; and degraded it may be for
                # another reason first.
                report = wait_until(
                    lambda: _silent(client), what="the worker to be called silent", seconds=4, every=0.1
                )
                assert report is not None
                assert "no_worker" in {one["code"] for one in report["attention"]}
                last_for(away_seconds, gone)
        finally:
            worker.thaw()
        healthy(client)
        agrees(client, cluster, records)

        before = {key: (one["celery_state"], one["result"]) for key, one in recorded(client).items()}
        with Redis.from_url(cluster.results or "") as redis:
            redis.flushdb()
        records += send(cluster, "add", 3, 4, times=5)
        settle(cluster.effects, records)
        wait_until(lambda: len(recorded(client)) == len(records), what="those after it", every=0.2)
        after = {key: (one["celery_state"], one["result"]) for key, one in recorded(client).items()}
        assert {key: after[key] for key in before} == before
        healthy(client)


def test_retries_of_the_application_hide_no_gap(own_valkey: ValkeyServer) -> None:
    """redis-py would subscribe anew by itself, and nobody would know what was missed."""
    app = Celery("patient", broker=own_valkey.url, set_as_current=False)
    app.conf.broker_transport_options = {"retry_on_timeout": True}
    source = RedisEvents(Target(app, own_app=True, observer_id="test"))
    source.connect()
    try:
        assert own_valkey.ask("CLIENT KILL TYPE pubsub") == ":1"
        with pytest.raises(BrokerAway):
            wait_until(lambda: source.poll(0.1), what="it to be noticed", seconds=2)
    finally:
        source.close(for_good=True)


def _silent(client: Client) -> dict[str, Any] | None:
    """The report in which the only worker does not answer."""
    report = client.sitrep()
    return report if report["workers"][0]["standing"] in {"silent", "gone"} else None


def _through(cluster: Cluster, proxy: Proxy, folder: Path) -> Cluster:
    """The cluster as an observer behind a proxy sees it."""
    head, _, tail = cluster.broker.rpartition(":")
    return Cluster(f"{head}:{proxy.port}/{tail.partition('/')[2]}", folder, cluster.results)


def _reason(client: Client, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> list[dict[str, Any]]:
    """The gaps, as soon as all are over and looked through and one is as wanted."""
    last: list[dict[str, Any]] = []

    def found() -> bool:
        last[:] = client.gaps()
        return any(wanted(gap) for gap in last) and all(gap["reconciled_at"] for gap in last)

    wait_until(found, what="a gap", seconds=seconds, every=0.2)
    return last


def test_connection_cut_and_gone_silent(
    own_valkey: ValkeyServer, results: ValkeyServer, tmp_path: Path, fault_rounds: int
) -> None:
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", results.url)
    with (
        Proxy(own_valkey.port) as proxy,
        watched(tmp_path, cluster, seen_as=_through(cluster, proxy, tmp_path)) as (_, _, client, watcher),
    ):
        records = send(cluster, "add", 1, 2, times=10)
        for _ in range(5 if fault_rounds >= 50 else 2):
            before = len(client.gaps())
            proxy.cut()
            wait_until(lambda: len(client.gaps()) > before, what="a gap to be declared", seconds=5, every=0.1)  # noqa: B023 - asked before the next round
            records += send(cluster, "add", 1, 2, times=10)
            healthy(client)
        with watcher.away("the way to the broker"):
            proxy.refuse()
            becomes(client, "unknown", seconds=4)
            records += send(cluster, "add", 1, 2, times=30)
            settle(cluster.effects, records)
        proxy.take()
        healthy(client)
        agrees(client, cluster, records)

        with watcher.away("the way to the broker"):
            proxy.fall_silent()
            gone = time.monotonic()
            becomes(client, "unknown", seconds=4)
            records += send(cluster, "add", 1, 2, times=30)
            settle(cluster.effects, records)
            if fault_rounds >= 50:
                # Longer than silence is believed: it connects anew, and nobody answers there either.
                last_for(40.0, gone)
                assert not {one["name"]: one for one in client.sitrep()["sources"]}["events"]["ok"]
        proxy.cut()
        proxy.speak()
        healthy(client)
        agrees(client, cluster, records)
        assert {gap["reason"] for gap in client.gaps()} == {"broker_away"}
        assert {one["celery_state"] for one in recorded(client).values()} == {"SUCCESS"}
        assert all(gap["unresolved"] == 0 for gap in client.gaps())


def test_observer_that_was_killed_on_rabbitmq_misses_nothing(
    own_rabbitmq: RabbitServer, own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Only the process that was started is killed, as by hand: its child ends with it, and the broker keeps for both."""
    cluster = Cluster(own_rabbitmq.url, tmp_path / "cluster", settings={"task_send_sent_event": True})
    cluster.folder.mkdir()
    with observing(tmp_path, cluster) as server, Worker(cluster):
        server.spawn()
        server.ready()
        with server.client() as client:
            listening(client)
            records = send(cluster, "add", 1, 2, times=10)
            settle(cluster.effects, records)
        service = server.service()
        server.main.kill()
        server.main.wait(20)
        assert not psutil.wait_procs([service], timeout=20)[1]
        records += send(cluster, "add", 3, 4, times=10)
        settle(cluster.effects, records)
        server.spawn()
        server.ready()
        with server.client() as client:
            wait_until(
                lambda: [one["celery_state"] for one in recorded(client).values()] == ["SUCCESS"] * len(records),
                what="what the broker kept",
                seconds=30,
                every=0.2,
            )
            assert recorded(client).keys() == {one.id for one in records}
            gaps = [(gap["reason"], gap["unresolved"]) for gap in client.gaps()]
            assert gaps in ([], [("kept_by_broker", 0)])
        server.stop()


def test_connection_cut_on_rabbitmq(
    own_rabbitmq: RabbitServer, own_valkey: ValkeyServer, tmp_path: Path, fault_rounds: int
) -> None:
    cluster = Cluster(own_rabbitmq.url, tmp_path / "cluster", settings={"task_send_sent_event": True})
    with (
        Proxy(own_rabbitmq.port) as proxy,
        watched(tmp_path, cluster, seen_as=_through(cluster, proxy, tmp_path)) as (_, server, client, watcher),
    ):
        records = send(cluster, "add", 1, 2, times=10)
        for _ in range(5 if fault_rounds >= 50 else 1):
            with watcher.away("the way to the broker"):
                proxy.refuse()
                becomes(client, "unknown", seconds=4)
                records += send(cluster, "add", 1, 2, times=40)
                settle(cluster.effects, records)
            proxy.take()
            healthy(client)
            # All of it while it was cut off: heard afterwards, from first to last.
            wait_until(
                lambda: {one["celery_state"] for one in recorded(client).values()} == {"SUCCESS"},
                what="what the broker kept",
                seconds=20,
                every=0.2,
            )
        found = recorded(client)
        assert found.keys() == {one.id for one in records}
        assert all(one["complete"] and one["sent_at"] and one["started_at"] for one in found.values())
        gaps = _reason(client, lambda gap: gap["reason"] == "kept_by_broker", seconds=10)
        assert {gap["reason"] for gap in gaps} == {"kept_by_broker"}
        counted = httpx.get(f"{server.ready()}/metrics", trust_env=False).text
        assert succeeded(counted) == len(records)


def succeeded(metrics: str) -> float:
    """How many ends in success `/metrics` has counted."""
    lines = [one for one in metrics.splitlines() if one.startswith("celery_task_succeeded_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
