"""An application that nobody here wrote, unchanged and with its own configuration: OVH's celery-director.

It brings its own Celery, kombu and Redis client, defines its tasks' base class, its chains, groups and a database of its
own in which it writes what became of each task: that is what the observer's record is compared with.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from headway.client import Client
from tests.cluster.load import send
from tests.cluster.settings import Cluster
from tests.cluster.truth import settle
from tests.cluster.workers import Worker
from tests.compat.venvs import venv
from tests.faults.serving import Server
from tests.faults.test_observed_truth import backend_states, listening, observing, recorded
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.compat, pytest.mark.timeout(900)]

DIRECTOR = "celery-director==0.10.0"
WORKFLOWS = (("example.ETL", "{}"), ("example.RANDOMS", '{"start": 1, "end": 9}'))
ROUNDS = 3
# Its own words for a state, which it writes when a task begins and when it ends.
OWN_STATES = {"success": "SUCCESS", "error": "FAILURE"}


class Director:
    """The application in a folder, as its documentation says to set it up.

    Args:
        folder: its DIRECTOR_HOME.
        valkey: its broker in database 0, its results in database 1.
    """

    def __init__(self, folder: Path, valkey: ValkeyServer) -> None:
        self.folder = folder
        self.programs = venv("director", [DIRECTOR])
        self.results = f"redis://127.0.0.1:{valkey.port}/1"
        self.environment = {
            **os.environ,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "DIRECTOR_HOME": str(folder),
            "DIRECTOR_BROKER_URI": valkey.url,
            "DIRECTOR_RESULT_BACKEND_URI": self.results,
        }
        self.log = folder.parent / "director-worker.log"
        self.run("init", str(folder))
        self.run("db", "upgrade")

    def run(self, *arguments: str) -> str:
        """One of its commands; what it printed."""
        command = [str(self.programs / "director"), *arguments]
        done = subprocess.run(
            command, cwd=self.folder.parent, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def worker(self, *options: str) -> Iterator[None]:
        """Its worker, until it is left."""
        command = [str(self.programs / "director"), "celery", "worker", "--loglevel", "INFO", "--concurrency", "2"]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*command, *options],
                cwd=self.folder.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: " ready." in self.said() or process.poll() is not None,
                what="the worker",
                seconds=60,
                every=0.1,
            )
            assert process.poll() is None, self.said()
            yield
            process.terminate()
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)

    def said(self) -> str:
        """What its worker wrote."""
        return self.log.read_text(errors="replace")

    def own_record(self) -> dict[str, dict[str, str]]:
        """Its own database: state and name of every task, by id."""
        with closing(sqlite3.connect(self.folder / "director.db")) as connection:
            rows = connection.execute("SELECT id, key, status FROM tasks").fetchall()
        return {str(UUID(row[0])): {"name": row[1], "state": OWN_STATES.get(row[2], row[2])} for row in rows}

    def stored(self) -> dict[str, str]:
        """Its result backend: the state of every task, by id."""
        with Redis.from_url(self.results) as redis:
            keys = list(redis.scan_iter("celery-task-meta-*"))
            values = redis.mget(keys) if keys else []
        found = [json.loads(value) for value in values]
        return {one["task_id"]: one["status"] for one in found}


def _run_all(director: Director) -> None:
    for _ in range(ROUNDS):
        for name, payload in WORKFLOWS:
            director.run("workflow", "run", name, payload)


def _observer(tmp_path: Path, valkey: ValkeyServer, director: Director, *options: str) -> Server:
    home = tmp_path / "observer"
    home.mkdir()
    named = ("--broker", valkey.url, "--result-backend", director.results, *options)
    return Server(home, None, verb="observe", options=named)


def _compare(client: Client, director: Director) -> dict[str, Any]:
    """Everything that it recorded itself is in the observer's record, with the same end and name."""
    wanted = ROUNDS * (3 + 3)
    own = wait_until(
        lambda: next((r for r in [director.own_record()] if _ended(r) == wanted), None),
        what="its workflows to end",
        seconds=60,
        every=0.2,
    )
    assert own is not None

    def same() -> bool:
        found = {key: one["celery_state"] for key, one in recorded(client).items()}
        stored = director.stored()
        return (
            stored.items() <= found.items() and {key: one["state"] for key, one in own.items()}.items() <= found.items()
        )

    wait_until(same, what="the observer to know all of it", seconds=40, every=0.5)
    found = recorded(client)
    # Tasks around a workflow (its start, its end) are Celery tasks too, of which its database does not speak.
    beside = {one["name"] for key, one in found.items() if key not in own}
    assert all(name is None or name.startswith("director.") for name in beside), beside
    return found


def _ended(record: dict[str, dict[str, str]]) -> int:
    return sum(one["state"] == "SUCCESS" for one in record.values())


def test_unchanged_with_events(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    director = Director(tmp_path / "home", own_valkey)
    with _observer(tmp_path, own_valkey, director) as server:
        server.start()
        with server.client() as client, director.worker("-E"):
            listening(client)
            _run_all(director)
            found = _compare(client, director)
            own = director.own_record()
            assert {key: found[key]["name"] for key in own} == {key: one["name"] for key, one in own.items()}
            assert all(one["complete"] and one["started_at"] for one in found.values())
            report = client.sitrep()
            assert report["health_status"] == "ok", report["attention"]
            assert client.gaps() == []
            print(f"\n{len(own)} tasks of its own, {len(found)} recorded, {client.workers()[0]['facts']}")
        server.stop()


def test_unchanged_without_events(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    """A worker without -E is told to send events; nothing of the application is changed."""
    director = Director(tmp_path / "home", own_valkey)
    with _observer(tmp_path, own_valkey, director, "--enable-events") as server:
        server.start()
        with server.client() as client, director.worker():
            listening(client)
            wait_until(lambda: "enabled by remote" in director.said(), what="it to be told", seconds=30, every=0.1)
            _run_all(director)
            found = _compare(client, director)
            assert all(one["name"] and one["started_at"] for one in found.values())
            assert client.sitrep()["health_status"] == "ok", client.sitrep()["attention"]
        server.stop()


def test_observed_only_afterwards(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    """Nobody watched, and no events were sent: what the result backend keeps is found all the same."""
    director = Director(tmp_path / "home", own_valkey)
    with director.worker():
        _run_all(director)
        wait_until(
            lambda: _ended(director.own_record()) == ROUNDS * 6, what="its workflows to end", seconds=60, every=0.2
        )
    with _observer(tmp_path, own_valkey, director) as server:
        server.start()
        with server.client() as client:
            stored = director.stored()
            wait_until(lambda: stored.keys() <= recorded(client).keys(), what="its history", seconds=20, every=0.2)
            found = recorded(client)
            assert {key: found[key]["celery_state"] for key in stored} == stored
            assert client.sitrep()["health_status"] != "ok", "nobody works"
        server.stop()


@pytest.mark.parametrize("release", ["5.4.0", "5.5.3"])
def test_other_releases_of_celery(own_valkey: ValkeyServer, tmp_path: Path, release: str) -> None:
    """Workers of another release, observed by the one that Headway brings."""
    # As it was when it came out: a newer kombu refuses the Redis client that an older Celery asks for.
    programs = venv(
        f"celery-{release}", [f"celery[redis]=={release}", f"kombu=={release.rpartition('.')[0]}.*", "packaging"]
    )
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", f"redis://127.0.0.1:{own_valkey.port}/1")
    cluster.folder.mkdir()
    worker = Worker(cluster, "one")
    worker._command[0] = str(programs / "python")
    with worker, observing(tmp_path, cluster) as server:
        server.start()
        with server.client() as client:
            listening(client)
            records = [
                *send(cluster, "add", 1, 2, times=20),
                *send(cluster, "fail", "on purpose", times=5, state="FAILURE"),
                *send(cluster, "flaky", 2, times=5),
            ]
            truths = settle(cluster.effects, records)
            stored = backend_states(cluster)

            def same() -> bool:
                found = {key: one["celery_state"] for key, one in recorded(client).items()}
                return found == stored == {key: one.state for key, one in truths.items()}

            wait_until(same, what="the same states", seconds=20, every=0.2)
            found = recorded(client)
            assert all(found[key]["retries"] == one.retries for key, one in truths.items())
            (one,) = client.workers()
            assert one["version"] == release
            assert client.sitrep()["health_status"] == "ok"
        server.stop()
