"""`headway doctor` at a real cluster: what it finds, that it finds it in time, and that it leaves nothing behind."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from tests.acceptance.cli.conftest import Folder
from tests.cluster.app import make_app
from tests.cluster.settings import Cluster
from tests.cluster.workers import ROOT, Worker
from tests.servers.valkey import ValkeyServer

# A broker that does not answer is told within five seconds; a start of Python on a busy machine comes to it.
TELLS_SECONDS = 12.0


def _told(folder: Folder, *arguments: str, exits: int, env: dict[str, str] | None = None) -> dict[str, list[Any]]:
    """Findings about the cluster by the name of their check."""
    ran = folder.run("doctor", "--json", *arguments, env=env)
    assert ran.returncode == exits, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    found: dict[str, list[Any]] = {}
    for one in json.loads(ran.stdout)["findings"]:
        if one["check"].startswith("cluster"):
            found.setdefault(one["check"].removeprefix("cluster: "), []).append(one)
    return found


def _keys(server: ValkeyServer) -> str | None:
    return server.ask("DBSIZE")


@pytest.mark.valkey
def test_a_worker_without_events_and_a_queue_without_a_consumer(folder: Folder, own_valkey: ValkeyServer) -> None:
    cluster = Cluster(own_valkey.url, folder.path, settings={"task_routes": {"cluster.total": {"queue": "sums"}}})
    with Worker(cluster, events=False, concurrency=1):
        app = make_app(cluster)
        try:
            app.tasks["cluster.add"].apply_async((1, 2), queue="orphan")
        finally:
            app.close()
        before = _keys(own_valkey)
        found = _told(folder, "--broker", cluster.broker, exits=1)
        assert found["broker"][0]["level"] == "ok"
        assert "one@cluster (1 at a time; celery)" in found["workers"][0]["says"]
        unconsumed = {one["says"].split()[0]: one["level"] for one in found["queue without consumer"]}
        assert unconsumed == {"orphan": "error", "sums": "warning"}
        assert "orphan holds 1 message " in found["queue without consumer"][0]["says"]
        assert (found["task events"][0]["level"], "-E" in found["task events"][0]["remedy"]) == ("warning", True)
        assert [one["level"] for name in ("clocks", "eviction", "versions") for one in found[name]] == ["ok"] * 3
        assert "None at one@cluster" in found["result backend"][0]["says"]
        # The message is still there, and nothing of the doctor's is.
        assert own_valkey.ask("LLEN orphan") == ":1"
        assert _keys(own_valkey) == before

        own_valkey.ask("CONFIG SET maxmemory 64mb")
        own_valkey.ask("CONFIG SET maxmemory-policy allkeys-lru")
        described = {**cluster.environment(), "PYTHONPATH": str(ROOT)}
        found = _told(folder, "-A", "tests.cluster.app", exits=1, env=described)
        assert found["eviction"][0]["level"] == "error"
        assert "the application" in found["sent events"][0]["says"]
        assert _keys(own_valkey) == before


@pytest.mark.valkey
def test_a_broker_without_a_worker(folder: Folder, own_valkey: ValkeyServer) -> None:
    found = _told(folder, "--broker", own_valkey.url, exits=1)
    assert [one["level"] for one in found["workers"]] == ["error"]
    assert "clocks" not in found
    assert _keys(own_valkey) == ":0"


def test_a_broker_that_takes_connections_and_says_nothing(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        url = f"redis://user:hidden-password@127.0.0.1:{server.getsockname()[1]}/0"
        found = _told(folder, "--broker", url, exits=1)
        took = time.monotonic() - began
    assert took < TELLS_SECONDS
    assert list(found) == ["broker"]
    assert "[broker_away]" in found["broker"][0]["says"]
    assert "hidden-password" not in str(found)


def test_what_cannot_be_looked_at_is_told_with_its_code(folder: Folder) -> None:
    found = _told(folder, "-A", "nowhere", exits=1)
    assert "[app_not_loaded]" in found["cluster"][0]["says"]
    assert found["cluster"][0]["remedy"]
    folder.fails("doctor", "--broker", "127.0.0.1:6379", code="usage", exits=2)
