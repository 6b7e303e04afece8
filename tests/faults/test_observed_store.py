"""Our own database goes away while a cluster is watched, and two observers share one: nothing is counted twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from headway.client import Client
from tests.cluster.events import answer_of, apart
from tests.cluster.load import send
from tests.cluster.settings import Cluster
from tests.cluster.truth import settle
from tests.cluster.workers import Worker
from tests.faults.test_observed_events import facts
from tests.faults.test_observed_faults import LONG_SECONDS, agrees, becomes, healthy, last_for, succeeded, watched
from tests.faults.test_observed_truth import listening, observing, recorded
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.postgres, pytest.mark.timeout(300)]

SHORT_SECONDS = 6.0
MEGABYTE = 1 << 20


@pytest.fixture
def away_seconds(fault_rounds: int) -> float:
    """How long the database is away."""
    return LONG_SECONDS if fault_rounds >= 50 else SHORT_SECONDS


@pytest.fixture
def cluster(own_valkey: ValkeyServer, tmp_path: Path) -> Cluster:
    """A cluster with results."""
    return Cluster(own_valkey.url, tmp_path / "cluster", f"redis://127.0.0.1:{own_valkey.port}/1")


def metrics(url: str) -> float:
    """How many ends in success were counted."""
    return succeeded(httpx.get(f"{url}/metrics", trust_env=False, timeout=10).text)


def _away(
    cluster: Cluster,
    postgres: PostgresServer,
    folder: Path,
    seconds: float,
    *,
    leave: Callable[[], None],
    back: Callable[[], None],
    database: str,
) -> None:
    with watched(folder, cluster, registry=database) as (_, server, client, watcher):
        url = server.ready()
        records = send(cluster, "add", 1, 2, times=20)
        wait_until(lambda: metrics(url) == len(records), what="those before it", every=0.2)
        assert client.sitrep()["task_metrics"]["completed_tasks"] == len(records)
        with watcher.away("our database", store=True):
            leave()
            gone = time.monotonic()
            report = becomes(client, "unknown", seconds=10)
            assert {one["code"] for one in report["attention"]} == {"database_away"}
            # What was last known is shown as that, and not as a zero.
            assert report["task_metrics"]["completed_tasks"] == len(records)
            assert not report["figures"]["completed_tasks"]["complete"]
            assert report["figures"]["completed_tasks"]["age_seconds"] > 0
            refused = httpx.get(f"{url}/api/v1/tasks", trust_env=False, timeout=40)
            assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
            records += send(cluster, "add", 1, 2, times=100)
            settle(cluster.effects, records)
            last_for(seconds, gone)
            back()
        healthy(client)
        agrees(client, cluster, records)
        assert client.gaps() == [], "nothing was missed: it waited until it could be stored"
        assert metrics(url) == len(records)
        assert client.sitrep()["task_metrics"]["completed_tasks"] == len(records)
        assert facts(client)["lost"] == 0


def test_database_stopped(own_postgres: PostgresServer, cluster: Cluster, tmp_path: Path, away_seconds: float) -> None:
    database = own_postgres.create_database()
    _away(cluster, own_postgres, tmp_path, away_seconds,
          leave=own_postgres.stop, back=own_postgres.start, database=database)  # fmt: skip


@pytest.mark.long
def test_database_killed(own_postgres: PostgresServer, cluster: Cluster, tmp_path: Path, away_seconds: float) -> None:
    database = own_postgres.create_database()
    _away(cluster, own_postgres, tmp_path, away_seconds,
          leave=own_postgres.kill, back=own_postgres.start, database=database)  # fmt: skip


@pytest.mark.long
def test_database_frozen(own_postgres: PostgresServer, cluster: Cluster, tmp_path: Path, away_seconds: float) -> None:
    """It takes connections and says nothing: nobody waits for it longer than for one that refuses."""
    database = own_postgres.create_database()
    _away(cluster, own_postgres, tmp_path, away_seconds,
          leave=own_postgres.pause, back=own_postgres.resume, database=database)  # fmt: skip


@pytest.mark.long
def test_more_is_heard_than_there_is_room_for(own_postgres: PostgresServer, own_valkey: ValkeyServer, cluster: Cluster, tmp_path: Path) -> None:  # fmt: skip
    """The buffer has an end, and what does not fit is counted, declared and shown."""
    messages = 100
    with watched(tmp_path, cluster, registry=own_postgres.create_database()) as (_, server, client, watcher):
        with watcher.away("our database", store=True):
            own_postgres.stop()
            answer_of(apart("heavy", cluster.broker, messages, MEGABYTE))
            memory = server.service().memory_info().rss
            own_postgres.start()
        gaps = wait_until(client.gaps, what="the loss to be declared", seconds=30, every=0.2)
        wait_until(lambda: all(gap["reconciled_at"] for gap in client.gaps()), what="it to be looked through", every=0.2, seconds=20)  # fmt: skip
        lost = facts(client)["lost"]
        held = [one for one in recorded(client).values() if one["celery_state"] == "RECEIVED"]
        print(f"\n{lost} of {messages} messages lost, {len(held)} recorded, {memory >> 20} MiB, {gaps}")
        assert {gap["reason"] for gap in gaps} == {"buffer_full"}
        assert sum(gap["lost"] for gap in gaps) == lost > 0
        # Heartbeats of the worker are among what was dropped.
        assert messages <= len(held) + lost <= messages + 20
        report = client.sitrep()
        assert "events_dropped" in {one["code"] for one in report["attention"]}
        assert report["health_status"] != "ok"
        assert memory < 400 * MEGABYTE


def _settled(client: Client, count: int) -> None:
    wait_until(
        lambda: sum(one["celery_state"] == "SUCCESS" for one in recorded(client).values()) == count,
        what=f"{count} to be recorded",
        seconds=30,
        every=0.2,
    )


@pytest.mark.long
def test_two_observers_of_one_cluster(
    own_postgres: PostgresServer, cluster: Cluster, tmp_path: Path, fault_rounds: int
) -> None:
    count = 1_000 if fault_rounds >= 50 else 100
    database = own_postgres.create_database()
    cluster.folder.mkdir()
    homes = [tmp_path / "first", tmp_path / "second"]
    for home in homes:
        home.mkdir()
    with (
        Worker(cluster, "one"),
        observing(homes[0], cluster, registry=database) as first,
        observing(homes[1], cluster, registry=database) as second,
    ):
        urls = [one.start() for one in (first, second)]
        with first.client() as one, second.client() as other:
            for client in (one, other):
                listening(client)
                healthy(client)
            records = send(cluster, "add", 1, 2, times=count)
            _settled(one, len(records))
            for client, url in ((one, urls[0]), (other, urls[1])):
                assert recorded(client).keys() == {record.id for record in records}
                assert client.sitrep()["task_metrics"]["completed_tasks"] == len(records)
                wait_until(lambda: metrics(url) == len(records), what="each counted once", every=0.2)  # noqa: B023 - asked in this round
            first.kill_group()
            records += send(cluster, "add", 1, 2, times=count)
            _settled(other, len(records))
            assert other.gaps() == [], "the other one watched"
            healthy(other)
        url = first.start()
        with first.client() as one:
            listening(one)
            healthy(one)
            records += send(cluster, "add", 1, 2, times=20)
            _settled(one, len(records))
            agrees(one, cluster, records)
            wait_until(lambda: one.gaps() == [], what="the other one to vouch for it", every=0.2)
            for counted in (url, urls[1]):
                wait_until(lambda: metrics(counted) == len(records), what="each counted once", every=0.2)  # noqa: B023 - asked in this round
        first.stop()
        second.stop()


@pytest.mark.long
def test_an_observer_killed_while_the_broker_is_away(
    own_postgres: PostgresServer, own_valkey: ValkeyServer, cluster: Cluster, tmp_path: Path
) -> None:
    """Its open gap is closed by whoever hears again, not left open for good."""
    database = own_postgres.create_database()
    homes = [tmp_path / "first", tmp_path / "second"]
    for home in homes:
        home.mkdir()
    with (
        observing(homes[0], cluster, registry=database) as first,
        observing(homes[1], cluster, registry=database) as second,
    ):
        for one in (first, second):
            one.start()
        with second.client() as client:
            cluster.folder.mkdir()
            worker = Worker(cluster, "one")
            with worker:
                listening(client)
                healthy(client)
                own_valkey.kill()
                # Beside these there may be the one before the second began, which the first has not judged yet.
                wait_until(
                    lambda: [one["ended_at"] for one in client.gaps()].count(None) == 2,
                    what="an open gap of each",
                    seconds=10,
                    every=0.1,
                )
                first.kill_group()
                own_valkey.start()
                first.start()
                healthy(client, seconds=60)
                assert all(gap["ended_at"] and gap["reconciled_at"] for gap in client.gaps())
        first.stop()
        second.stop()
