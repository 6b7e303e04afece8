"""What an observer recorded, beside what the tasks themselves wrote down: recorded and declared gaps are the truth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headway.client import Client
from headway.model.observed import ListTasks
from tests.cluster.load import drive, send
from tests.cluster.settings import Cluster
from tests.cluster.truth import Effect, Truth, read_effects, running, settle
from tests.cluster.workers import Worker
from tests.faults.serving import Server
from tests.servers.rabbitmq import RabbitServer
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = pytest.mark.faults

SHORT, LONG = 300, 20_000
FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED"})
# An event is heard some moments after what it tells of.
MARGIN = 1.0
PREFIX = "celery-task-meta-"
Task = dict[str, Any]


def count_of(fault_rounds: int) -> int:
    """Tasks of a run: few in `make test`, 20,000 in `make faults`."""
    return LONG if fault_rounds >= 50 else SHORT


@contextmanager
def observing(folder: Path, cluster: Cluster, **options: Any) -> Iterator[Server]:
    """An observer of the cluster, over a data directory of its own."""
    home = folder / "observer"
    home.mkdir(exist_ok=True)
    named = ["--broker", cluster.broker, *(["--result-backend", cluster.results] if cluster.results else [])]
    with Server(home, None, verb="observe", options=tuple(named), **options) as server:
        yield server


def listening(client: Client) -> None:
    """Wait until events are heard."""

    def source() -> bool:
        found = {one["name"]: one for one in client.sitrep()["sources"]}
        return bool(found["events"]["ok"] and found["events"]["seen_at"])

    wait_until(source, what="events to be heard", seconds=30, every=0.2)


def recorded(client: Client) -> dict[str, Task]:
    """Every task that was recorded, by its id."""
    found: dict[str, Task] = {}
    cursor: str | None = None
    while True:
        page = client.tasks(ListTasks(limit=1000, cursor=cursor))
        for one in page["items"]:
            assert one["id"] not in found, f"{one['id']} is in the list twice"
            found[one["id"]] = one
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def backend_states(cluster: Cluster) -> dict[str, str]:
    """What the result backend, a Redis, says of each task that it knows."""
    assert cluster.results is not None
    with Redis.from_url(cluster.results) as client:
        keys = list(client.scan_iter(match=f"{PREFIX}*", count=1000))
        values = client.mget(keys) if keys else []
    return {
        key.decode().removeprefix(PREFIX): json.loads(value)["status"] for key, value in zip(keys, values, strict=True)
    }


def expected(truth: Truth, stored: str | None) -> str | None:
    """The last state that somebody who knows everything would record; None where nobody can say."""
    if truth.state == "IGNORED":
        # Celery says nothing of the end of such a task, to nobody.
        return None
    return stored if stored in FINAL else truth.state


def in_gaps(effects: list[Effect], gaps: list[dict[str, Any]]) -> set[str]:
    """Ids of the tasks of which something happened while a gap was declared."""
    spans = [(_seconds(gap["began_at"]) - MARGIN, _seconds(gap["ended_at"]) + MARGIN) for gap in gaps]
    return {one.id for one in effects if any(began <= one.time <= ended for began, ended in spans)}


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def compare(
    found: dict[str, Task], truths: dict[str, Truth], stored: dict[str, str], excused: set[str]
) -> Counter[str]:
    """Check that nothing recorded is wrong and nothing is missing that is not declared; what there was.

    Args:
        found: what was recorded.
        truths: what happened.
        stored: what the result backend says.
        excused: tasks of which something happened in a declared gap.
    """
    counted: Counter[str] = Counter()
    wrong: list[str] = []
    for task_id, truth in truths.items():
        wanted, task = expected(truth, stored.get(task_id)), found.get(task_id)
        state = task["celery_state"] if task else None
        if task is None and not truth.runs:
            # A task that was never sent, of a chain that broke: its end is written by the one that failed.
            counted["never sent"] += 1
        elif task is None:
            counted["missing, in a gap"] += 1
            if task_id not in excused or stored.get(task_id) in FINAL:
                wrong.append(f"{task_id} {truth.kind}: ran {truth.runs} times and was not recorded")
        elif wanted is None:
            counted["end unknown to Celery"] += 1
        elif state == wanted:
            counted[f"{wanted} as it is"] += 1
            if truth.runs and task["retries"] != truth.retries and task_id not in excused:
                wrong.append(f"{task_id} {truth.kind}: {truth.retries} retries, recorded {task['retries']}")
        elif state in FINAL or task_id not in excused or task["complete"]:
            wrong.append(f"{task_id} {truth.kind}: is {wanted}, recorded {state}, complete {task['complete']}")
        else:
            counted["open, in a gap"] += 1
    wrong += [f"{task_id}: recorded, and nobody sent it" for task_id in found.keys() - truths.keys()]
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])
    return counted


def quiet(
    client: Client, cluster: Cluster, truths: dict[str, Truth], stored: dict[str, str], seconds: float
) -> Counter[str]:
    """Compare as soon as all that can be known has arrived: events travel for a moment, gaps are looked through."""
    last: list[AssertionError] = []

    def done() -> Counter[str] | None:
        gaps = client.gaps()
        if any(gap["ended_at"] is None or gap["reconciled_at"] is None for gap in gaps):
            return None
        assert "events_off" not in {gap["reason"] for gap in gaps}, "every worker here sends events"
        declared = [gap for gap in gaps if gap["reason"] not in {"kept_by_broker", "another_watched"}]
        try:
            return compare(recorded(client), truths, stored, in_gaps(read_effects(cluster.effects), declared))
        except AssertionError as error:
            last[:] = [error]
            return None

    try:
        answer = wait_until(done, what="everything to be recorded", seconds=seconds, every=0.5)
    except AssertionError as error:
        raise (last[0] if last else error) from error
    assert answer is not None
    return answer


def _half_way(cluster: Cluster, folder: Path, count: int) -> None:
    """Half the load, kill -9 of the observer, the other half without one, a new observer."""
    cluster.folder.mkdir()
    with Worker(cluster, "one"), Worker(cluster, "two"), observing(folder, cluster) as server:
        server.start()
        with server.client() as client:
            listening(client)
        records = drive(cluster, count // 2, seed=1, workers=2)
        server.kill_group()
        records += drive(cluster, count // 2, seed=2, workers=2)
        server.start()
        with server.client() as client:
            records += drive(cluster, max(60, count // 20), seed=3, workers=2)
            truths = settle(cluster.effects, records, seconds=120 + count / 20)
            counted = quiet(client, cluster, truths, backend_states(cluster), seconds=60 + count / 100)
            report = client.sitrep()
            print(f"\n{cluster.broker.split(':')[0]}: {len(records)} tasks, {dict(counted)}, gaps {client.gaps()}")
            assert report["health_status"] in {"ok", "degraded"}
            assert counted.total() == len(records)
        server.stop()


def test_half_way_killed_on_valkey(own_valkey: ValkeyServer, tmp_path: Path, fault_rounds: int) -> None:
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", f"redis://127.0.0.1:{own_valkey.port}/1",
                      {"task_send_sent_event": True})  # fmt: skip
    _half_way(cluster, tmp_path, count_of(fault_rounds))


def test_half_way_killed_on_rabbitmq(
    own_rabbitmq: RabbitServer, own_valkey: ValkeyServer, tmp_path: Path, fault_rounds: int
) -> None:
    cluster = Cluster(own_rabbitmq.url, tmp_path / "cluster", own_valkey.url)
    _half_way(cluster, tmp_path, count_of(fault_rounds))


@pytest.mark.long
def test_a_killed_worker_leaves_orphans_that_are_shown(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    cluster = Cluster(own_valkey.url, tmp_path / "cluster", f"redis://127.0.0.1:{own_valkey.port}/1")
    cluster.folder.mkdir()
    with Worker(cluster, "one") as one, observing(tmp_path, cluster) as server:
        server.start()
        with server.client() as client:
            listening(client)
            send(cluster, "sleepy", 30.0, times=6)
            wait_until(lambda: len(running(read_effects(cluster.effects))) == 2, what="two to run", seconds=20)
            lost = running(read_effects(cluster.effects))
            wait_until(
                lambda: (
                    {
                        one["id"]
                        for one in client.tasks(ListTasks(text="", limit=50))["items"]
                        if one["celery_state"] == "STARTED"
                    }
                    == set(lost)
                ),
                what="both to be seen running",
                seconds=10,
                every=0.2,
            )
            one.kill()
            # Whoever asks now hears within a second that nobody answers.
            wait_until(
                lambda: client.sitrep()["health_status"] == "degraded", what="it to be degraded", seconds=5, every=0.1
            )
            orphans = wait_until(
                lambda: client.tasks(ListTasks(orphaned=True))["items"],
                what="orphans to be shown",
                seconds=90,
                every=1.0,
            )
            assert {task["id"] for task in orphans} == set(lost)
            report = client.sitrep()
            assert "orphans" in {one["code"] for one in report["attention"]}
            assert report["task_metrics"]["active_tasks"] == 0
        server.stop()
