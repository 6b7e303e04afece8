"""`headway observe` at a real cluster: what it shows, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.acceptance.cli.conftest import Folder, Running
from tests.cluster.app import make_app
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.servers.own import running_valkey
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

# What somebody's worker has held for longer than Celery's hour.
HELD = json.dumps([{"body": "e30=", "headers": {"id": "held"}, "properties": {}}, "", "celery"])
HELD_SECONDS = 7200
WATCHED_SECONDS = 15.0


def keys_of(server: ValkeyServer) -> dict[str, set[str]]:
    """Every key of database 0, with the bindings that are kept in it."""
    with Redis.from_url(server.url, decode_responses=True) as client:
        found: dict[str, set[str]] = {}
        for key in client.keys("*"):
            is_set = client.type(key) == "set"
            found[str(key)] = {str(one) for one in client.smembers(key)} if is_set else set()
        return found


@dataclass
class Watched:
    """A cluster of one worker, observed."""

    server: ValkeyServer
    cluster: Cluster
    folder: Folder
    worker: Worker
    running: Running
    url: str
    ids: dict[str, str]
    before: dict[str, set[str]]
    since: float

    def told(self, *arguments: str, exits: int = 0) -> Any:
        """The JSON that a command answers with."""
        ran = self.folder.run(*arguments, "--json", "--url", self.url)
        assert ran.returncode == exits, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return json.loads(ran.stdout)

    def shown(self, *arguments: str, exits: int = 0) -> str:
        """The text that a command answers with."""
        ran = self.folder.run(*arguments, "--url", self.url)
        assert ran.returncode == exits, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stdout


def send(cluster: Cluster) -> dict[str, str]:
    """One task that succeeds, one that fails, one that has secrets."""
    app = make_app(cluster)
    try:
        return {
            "add": app.tasks["cluster.add"].apply_async((1, 2)).id,
            "fail": app.tasks["cluster.fail"].apply_async(("no such thing",)).id,
            "secret": app.tasks["cluster.secret"].apply_async(kwargs={"password": "hunter2", "token": "hunter3"}).id,
        }
    finally:
        app.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def watched(server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    path: Path = tmp_path_factory.mktemp("observed")
    folder = Folder(path)
    cluster = Cluster(server.url, path, server.url.replace("/0", "/1"), {"task_send_sent_event": True})
    with Worker(cluster, concurrency=1) as worker:
        with Redis.from_url(server.url) as client:
            client.hset("unacked", "tag-of-another", HELD)
            client.zadd("unacked_index", {"tag-of-another": time.time() - HELD_SECONDS})
        before = keys_of(server)
        named = ("--broker", cluster.broker, "--result-backend", str(cluster.results), "--data-dir", str(path / "data"))
        with folder.start("observe", *named, "--port", "0") as running:
            url, since = running.ready(), time.monotonic()
            wait_until(lambda: httpx.get(f"{url}/api/v1/workers").json()["items"], what="the worker", seconds=20)
            ids = send(cluster)
            for task_id, state in ((ids["add"], "SUCCESS"), (ids["fail"], "FAILURE"), (ids["secret"], "SUCCESS")):

                def known(task_id: str = task_id, state: str = state) -> bool:
                    answer = httpx.get(f"{url}/api/v1/tasks/{task_id}")
                    return answer.status_code == 200 and answer.json()["celery_state"] == state

                wait_until(known, what=f"{task_id} to be {state}", seconds=20, every=0.1)
            yield Watched(server, cluster, folder, worker, running, url, ids, before, since)


# What it shows


@pytest.mark.valkey
def test_the_situation_in_text_and_as_json(watched: Watched) -> None:
    report = wait_until(
        lambda: (found := httpx.get(f"{watched.url}/api/v1/sitrep").json())["health_status"] == "ok" and found,
        what="the cluster to be called ok",
        seconds=20,
        every=0.2,
    )
    assert {one["name"]: one["ok"] for one in report["sources"]} == dict.fromkeys(
        ("jobs", "events", "workers", "broker", "results"), True
    )
    told = watched.told("sitrep")
    assert (told["task_metrics"]["completed_tasks"], told["task_metrics"]["failed_tasks"]) == (2, 1)
    assert told["task_metrics"]["success_rate"] == pytest.approx(0.6667)
    text = watched.shown("sitrep")
    assert "● OK" in text
    for words in ("2 completed", "1 failed", "success 66.7%", "one@cluster", "online", "Fail", "celery"):
        assert words in text


@pytest.mark.valkey
def test_tasks_in_text_and_as_json(watched: Watched) -> None:
    items = watched.told("tasks")["items"]
    assert {one["id"]: one["celery_state"] for one in items} == {
        watched.ids["add"]: "SUCCESS",
        watched.ids["fail"]: "FAILURE",
        watched.ids["secret"]: "SUCCESS",
    }
    assert [one["id"] for one in watched.told("tasks", "--state", "FAILURE")["items"]] == [watched.ids["fail"]]
    text = watched.shown("tasks", "--state", "failed")
    assert watched.ids["fail"] in text
    assert watched.ids["add"] not in text


@pytest.mark.valkey
def test_one_task_in_text_and_as_json(watched: Watched) -> None:
    task = watched.told("tasks", watched.ids["fail"])
    assert (task["name"], task["worker"], task["error"]) == (
        "cluster.fail",
        "one@cluster",
        "ValueError('no such thing')",
    )
    assert {one["said"] for one in task["trail"]} >= {"sent", "received", "started", "failed"}
    text = watched.shown("tasks", watched.ids["fail"])
    for words in (
        "cluster.fail",
        "FAILURE (failed)",
        "error:\n  Traceback",
        "raise ValueError",
        "ValueError: no such thing",
    ):
        assert words in text
    assert "error: ValueError" not in text, "the traceback ends with it"
    secret = watched.shown("tasks", watched.ids["secret"])
    assert "***" in secret
    assert "hunter" not in secret
    ran = watched.folder.run("tasks", "nobody", "--url", watched.url)
    assert ran.returncode == 1
    assert "error [task_not_found]: " in ran.stderr
    assert "hint: The result backend was asked too" in ran.stderr


@pytest.mark.valkey
@pytest.mark.parametrize(
    "option", [("--cursor", "zz"), ("--text", "x" * 201), ("--state", "odd"), ("--since", "odd"), ("--limit", "0")]
)
def test_a_wrong_option_is_a_usage_error(watched: Watched, option: tuple[str, str]) -> None:
    ran = watched.folder.run("tasks", *option, "--url", watched.url)
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.valkey
def test_workers_and_queues_in_text_and_as_json(watched: Watched) -> None:
    (worker,) = wait_until(
        lambda: [one for one in watched.told("workers")["items"] if one["pool"]],
        what="the worker to be asked",
        seconds=15,
    )
    assert (worker["name"], worker["standing"], worker["concurrency"]) == ("one@cluster", "online", 1)
    text = watched.shown("workers")
    for words in ("one@cluster", "online", "prefork", "celery", worker["version"]):
        assert words in text
    queues = {one["name"]: one for one in watched.told("queues")["items"]}
    assert queues["celery"]["depth"] == 0
    assert re.search(r"^celery +0 ", watched.shown("queues"), re.MULTILINE)


@pytest.mark.valkey
def test_a_server_that_only_watches_takes_no_jobs(watched: Watched) -> None:
    answer = httpx.post(f"{watched.url}/api/v1/jobs", json={"task": "cluster.add", "args": [1, 2]})
    assert (answer.status_code, answer.json()["code"]) == (409, "observes_only")
    assert answer.json()["hint"]
    status = httpx.get(f"{watched.url}/api/celery/status").json()
    assert (status["status"], status["active_workers"]) == ("connected", ["one@cluster"])


@pytest.mark.valkey
def test_it_gives_nothing_back_that_workers_hold_and_leaves_nothing_behind(watched: Watched) -> None:
    """The last of the module: it ends the observer."""

    def standing() -> str:
        return str(httpx.get(f"{watched.url}/api/v1/workers").json()["items"][0]["standing"])

    def answering() -> bool:
        sources = {one["name"]: one for one in httpx.get(f"{watched.url}/api/v1/sitrep").json()["sources"]}
        return bool(sources["workers"]["ok"])

    def still_held() -> bool:
        with Redis.from_url(watched.server.url, decode_responses=True) as client:
            index = client.zscore("unacked_index", "tag-of-another")
            return client.hget("unacked", "tag-of-another") == HELD and index is not None and client.llen("celery") == 0

    # While nobody answers kombu has nothing to do, and that is when it gives back what was held for too long.
    watched.worker.freeze()
    try:
        wait_until(lambda: not answering(), what="the worker to be missed", seconds=20, every=0.2)
        wait_until(lambda: standing() == "silent", what="the worker to be silent", seconds=30, every=0.2)
        assert still_held()
    finally:
        watched.worker.thaw()
    wait_until(lambda: answering() and standing() == "online", what="the worker to be back", seconds=20, every=0.2)
    wait_until(
        lambda: time.monotonic() - watched.since > WATCHED_SECONDS, what="it to have watched a while", seconds=20
    )
    assert still_held()
    during = keys_of(watched.server)
    watched.running.process.send_signal(signal.SIGTERM)
    assert watched.running.ends(20) == 0
    assert "Traceback" not in watched.running.said
    assert keys_of(watched.server) == watched.before
    assert set(during) >= set(watched.before)
    # The worker lives, and nobody says otherwise because nobody listens any more.
    ran = watched.folder.run("sitrep", "--json", "--data-dir", str(watched.folder.path / "data"))
    report = json.loads(ran.stdout)
    assert (ran.returncode, report["health_status"]) == (1, "unknown")
    assert [one["code"] for one in report["attention"]] == ["nobody_watches"]
    assert [one["standing"] for one in report["workers"]] == ["unknown"]


# What it refuses


def test_nobody_names_a_broker(folder: Folder) -> None:
    assert "--broker URL" in folder.fails("observe", "--port", "0", code="invalid_settings")
    (folder.path / "nameless.py").write_text("from celery import Celery\napp = Celery('nameless')\n")
    said = folder.fails("observe", "-A", "nameless", "--port", "0", code="invalid_settings")
    assert "nameless names no broker" in said


@pytest.mark.parametrize(
    ("broker", "code"),
    [
        ("sqs://key:hunter2@", "broker_not_supported"),
        ("nonsense://h", "broker_not_supported"),
        ("redis://user:hunter2@127.0.0.1:port/0", "invalid_settings"),
    ],
)
def test_a_broker_that_cannot_be_watched(folder: Folder, broker: str, code: str) -> None:
    ran = folder.run("observe", "--broker", broker, "--port", "0", "--data-dir", "data")
    assert ran.returncode != 0
    assert f"error [{code}]: " in ran.stderr
    assert "\nhint: " in ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout
    assert "hunter2" not in ran.stderr + ran.stdout
    assert not (folder.path / "data").exists()


def test_strict_and_enable_events_exclude_each_other(folder: Folder) -> None:
    ran = folder.run("observe", "--broker", "redis://127.0.0.1:1/0", "--strict", "--enable-events")
    assert ran.returncode == 2
    assert "--strict writes nothing" in ran.stderr
    assert "hint: Leave one of them out." in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_broker_that_is_away_is_no_reason_not_to_start(folder: Folder) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    with folder.start("observe", "--broker", f"redis://:hunter2@127.0.0.1:{port}/0", "--port", "0") as running:
        url = running.ready()
        began = time.monotonic()
        report = httpx.get(f"{url}/api/v1/sitrep", timeout=20).json()
        assert time.monotonic() - began < 5
        assert (report["health_status"], report["task_metrics"]["success_rate"]) == ("unknown", None)
        assert "broker_away" in {one["code"] for one in report["attention"]}
        assert "hunter2" not in json.dumps(report)
        ran = folder.run("sitrep", "--url", url)
        assert (ran.returncode, "? UNKNOWN" in ran.stdout) == (1, True)
    assert "hunter2" not in running.said
