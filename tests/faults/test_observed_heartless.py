"""Workers without heartbeats: they are known by their answers, and by the events of their tasks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster.app import make_app
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.faults.test_observed_off import codes
from tests.faults.test_observed_truth import observing
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

# A minute and more each: what is counted, and when, has tests of its own (`tests/unit/observe/test_tallies.py`).
pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]
OPTIONS = ("--without-heartbeat", "--without-gossip", "--without-mingle")


def test_what_runs_while_events_are_off_too_is_in_a_gap(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    """Such a worker says nothing at all unless it is asked: it stays online, and what it begins is in a gap."""
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", own_valkey.url.replace("/0", "/1"))
    cluster.folder.mkdir()
    app = make_app(cluster)
    with observing(tmp_path, cluster) as server:
        server.spawn()
        server.ready()
        with Worker(cluster, events=False, concurrency=1, options=OPTIONS) as worker, server.client() as client:
            slow = app.tasks["cluster.sleepy"].delay(40).id
            (gap,) = wait_until(client.gaps, what="the gap", seconds=60, every=0.2)
            assert (gap["reason"], gap["ended_at"]) == ("events_off", None)
            assert gap["began_at"] < client.task(slow)["seen_at"]
            standings = set()
            for _ in range(60):
                standings |= {one["standing"] for one in client.workers() if one["name"] == worker.hostname}
                assert not codes(client) & {"worker_silent", "no_worker", "orphans"}
                time.sleep(0.5)
            assert standings == {"online"}
            assert client.sitrep()["task_metrics"]["orphaned_tasks"] == 0
            worker.kill()
            wait_until(lambda: client.sitrep()["health_status"] != "ok", what="that it is missed", seconds=5)
            wait_until(lambda: client.gaps()[0]["ended_at"] is not None, what="the gap's end", seconds=120, every=0.5)
        server.stop()
    app.close()


def test_their_events_are_enough(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    """Beside one that has a heartbeat, through a proper stop and a new start: nothing of it is a gap.

    Not in threads: there Celery itself loses some events, which is noticed and declared.
    """
    cluster = Cluster(own_valkey.url, tmp_path / "cluster")
    cluster.folder.mkdir()
    app = make_app(cluster)
    with observing(tmp_path, cluster) as server, Worker(cluster, concurrency=1):
        server.spawn()
        server.ready()
        quiet = Worker(cluster, "two", concurrency=1, options=OPTIONS, queues=("two",))
        with quiet, server.client() as client:
            for _ in range(2):
                for _ in range(5):
                    app.tasks["cluster.add"].apply_async((1, 2), queue="two")
                wait_until(
                    lambda: (
                        {"one@cluster", "two@cluster"}
                        == {one["name"] for one in client.workers() if one["standing"] == "online"}
                    ),
                    what="both",
                    seconds=60,
                    every=0.5,
                )
                # Longer than the time between two questions: answers are compared with what was heard.
                time.sleep(12)
                quiet.stop()
                quiet.start()
            assert client.gaps() == []
            assert client.sitrep()["task_metrics"]["completed_tasks"] == 10
        server.stop()
    app.close()
