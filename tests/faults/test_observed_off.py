"""Workers that send no events of their tasks, and queues that nobody takes from: seen, said and declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.client import Client
from tests.cluster.app import make_app
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.faults.test_observed_truth import observing
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def source(client: Client, name: str) -> dict[str, Any]:
    return next(one for one in client.sitrep()["sources"] if one["name"] == name)


def codes(client: Client) -> set[str]:
    return {one["code"] for one in client.sitrep()["attention"]}


def test_tasks_that_run_while_events_are_off_are_in_a_gap(
    own_valkey: ValkeyServer, tmp_path: Path, fault_rounds: int
) -> None:
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", own_valkey.url.replace("/0", "/1"))
    cluster.folder.mkdir()
    app = make_app(cluster)
    with observing(tmp_path, cluster) as server, Worker(cluster, events=False, concurrency=1) as worker:
        server.spawn()
        server.ready()
        with server.client() as client:
            wait_until(lambda: client.sitrep()["health_status"] == "ok", what="an idle cluster to be well", seconds=30)
            # Nothing was missed yet; what would be is said before the first task.
            assert "no task of one@cluster was heard of yet" in source(client, "events")["says"]
            blind = [one["setting"] for one in source(client, "events")["facts"]["blind"]]
            assert blind[0] == "worker_send_task_events"
            found = app.tasks["cluster.add"].delay(1, 2).id
            (gap,) = wait_until(client.gaps, what="the gap", seconds=30, every=0.2)
            assert (gap["reason"], gap["ended_at"]) == ("events_off", None)
            report = client.sitrep()
            assert report["health_status"] == "degraded"
            assert not source(client, "results")["complete"]
            if fault_rounds >= 50:
                # Nobody asks for it by its id: the result backend is walked through again.
                wait_until(
                    lambda: client.sitrep()["task_metrics"]["completed_tasks"] == 1,
                    what="its result to be found",
                    seconds=120,
                    every=1.0,
                )
            worker.kill()
            with Worker(cluster, events=True, concurrency=1):
                app.tasks["cluster.add"].delay(3, 4)
                wait_until(lambda: client.gaps()[0]["ended_at"], what="the gap to end", seconds=60, every=0.2)
                assert client.task(found)["celery_state"] == "SUCCESS"
                wait_until(lambda: client.sitrep()["task_metrics"]["completed_tasks"] == 2, what="both", seconds=30)
                if fault_rounds >= 50:
                    wait_until(
                        lambda: client.gaps()[0]["reconciled_at"] is not None,
                        what="the walk that comes once a minute",
                        seconds=120,
                        every=0.2,
                    )
        server.stop()
    app.close()


def test_a_queue_that_nobody_takes_from_is_found_and_said(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    """By its binding: neither a worker nor a configuration names it."""
    cluster = Cluster(own_valkey.url, tmp_path / "cluster")
    cluster.folder.mkdir()
    app = make_app(cluster)
    with observing(tmp_path, cluster) as server, Worker(cluster, concurrency=1):
        server.spawn()
        server.ready()
        with server.client() as client:
            for _ in range(3):
                app.tasks["cluster.add"].apply_async((1, 2), queue="lonely")
            (lonely,) = wait_until(
                lambda: [one for one in client.queues() if one["name"] == "lonely"], what="the queue", seconds=30
            )
            assert lonely["depth"] == 3
            wait_until(lambda: "queue_without_consumer" in codes(client), what="that it is said", seconds=60, every=0.5)
            assert client.sitrep()["health_status"] == "degraded"
        server.stop()
    app.close()
