"""A seeded load of tasks of which the end is known beforehand."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.result import AsyncResult

from tests.cluster.app import make_app
from tests.cluster.settings import Cluster
from tests.waiting import wait_until

# Of a hundred tasks, so many; chains, groups and chords count with their members.
SHARES = {
    "success": 36,
    "failure": 14,
    "flaky": 7,
    "hopeless": 7,
    "revoked_unseen": 3,
    "revoked_waiting": 3,
    "terminated": 1,
    "expired": 3,
    "rejected": 2,
    "ignored": 2,
    "chain": 5,
    "broken_chain": 3,
    "group": 7,
    "chord": 5,
    "broken_chord": 2,
}
MEMBERS = {"chain": 3, "broken_chain": 3, "group": 4, "chord": 4, "broken_chord": 3}
# Sent before the mix, each at a worker that has nothing else: the test itself revokes them.
REVOKED = ("revoked_unseen", "revoked_waiting", "terminated")
TERMINATED_AT_MOST = 5
# Long enough that the revocation is everywhere before the task may start, on a slow machine too.
COUNTDOWN_SECONDS = 8.0
REPLY_SECONDS = 30.0
# Revocations can only be timed where nothing waits before them.
IDLE_SECONDS = 1.0
BACKLOG_SECONDS = 300.0


@dataclass(frozen=True)
class Record:
    """One task that was sent, or that another one will send.

    `state` is the last one in Celery's words, None where it cannot be known; `executed` says whether the task itself
    comes to an end, so that its effects say the same; `kind` is the key of SHARES for which it stands. `root_id` None is
    unknown, and `parent_id` then, too: the body of a chord has for its parent whichever member ended last.
    """

    id: str
    name: str
    kind: str
    state: str | None
    root_id: str | None
    parent_id: str | None
    executed: bool = True


@dataclass
class Load:
    """Sends tasks to a cluster and notes each; `drive` is a mix of all of it.

    Args:
        cluster: where to.
        seed: of the mix and of the arguments.
        workers: how many workers run, all of which have to confirm a revocation.
        queue: the queue to send to; None is Celery's default queue.
    """

    cluster: Cluster
    seed: int = 1
    workers: int = 1
    queue: str | None = None
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app: Celery = make_app(self.cluster)
        self.random = random.Random(self.seed)

    def close(self) -> None:
        """Close the connections of this sender."""
        self.app.close()

    def sign(self, name: str, *args: Any, **kwargs: Any) -> Signature[Any]:
        """A task of the application, not yet sent."""
        signature = self.app.tasks[f"cluster.{name}"].signature(args, kwargs)
        return signature.set(queue=self.queue) if self.queue else signature

    def note(
        self,
        result: AsyncResult[Any],
        name: str,
        kind: str,
        state: str | None,
        *,
        root: str | None = "own",
        parent: str | None = None,
        executed: bool = True,
    ) -> None:
        """Add a record of a task that was sent as `result`; its own root where none is said."""
        root = result.id if root == "own" else root
        self.records.append(Record(result.id, f"cluster.{name}", kind, state, root, parent, executed))

    def success(self) -> None:
        """One of the tasks that succeed."""
        name = self.random.choices(("add", "sleepy", "secret", "unicode_huge"), weights=(80, 12, 4, 4))[0]
        signature = {
            "add": lambda: self.sign("add", self.random.randrange(100), 1),
            "sleepy": lambda: self.sign("sleepy", self.random.choice((0.01, 0.02, 0.05))),
            "secret": lambda: self.sign("secret", password="hunter2-of-tests", token="token-of-tests"),
            "unicode_huge": lambda: self.sign(
                "unicode_huge", "Grüße, 世界 \U0001f680 " * self.random.randrange(10, 500)
            ),
        }[name]()
        self.note(signature.apply_async(), name, "success", "SUCCESS")

    def failure(self) -> None:
        """One that fails at once."""
        self.note(self.sign("fail", "on purpose").apply_async(), "fail", "failure", "FAILURE")

    def flaky(self) -> None:
        """One that succeeds after one to three retries."""
        self.note(self.sign("flaky", self.random.randint(1, 3)).apply_async(), "flaky", "flaky", "SUCCESS")

    def hopeless(self) -> None:
        """One that fails after one or two retries."""
        self.note(self.sign("hopeless", self.random.randint(1, 2)).apply_async(), "hopeless", "hopeless", "FAILURE")

    def rejected(self) -> None:
        """One that is rejected and not requeued: no state is ever stored."""
        self.note(self.sign("reject").apply_async(), "reject", "rejected", "REJECTED")

    def ignored(self) -> None:
        """One that asks Celery to ignore its end: no state is ever stored."""
        self.note(self.sign("ignored").apply_async(), "ignored", "ignored", "IGNORED")

    def expired(self) -> None:
        """One that was too late when it was sent. RabbitMQ drops it on its own, unless a consumer waits for it."""
        expires = datetime.now(UTC) - timedelta(seconds=60)
        state = None if self.cluster.broker.startswith("amqp") else "REVOKED"
        self.note(self.sign("add", 1, 1).apply_async(expires=expires), "add", "expired", state, executed=False)

    def chain(self) -> None:
        """Three, one after the other; each is the parent of the next."""
        self._chain("chain", ["add", "add", "add"], ["SUCCESS", "SUCCESS", "SUCCESS"])

    def broken_chain(self) -> None:
        """Three of which the second fails: the third is never sent, and Celery stores FAILURE for it all the same."""
        self._chain("broken_chain", ["add", "fail", "add"], ["SUCCESS", "FAILURE", "FAILURE"])

    def group(self) -> None:
        """Four beside each other, each its own root."""
        result: Any = group([self.sign("add", n, 1) for n in range(4)], app=self.app).apply_async()
        for member in result.results:
            self.note(member, "add", "group", "SUCCESS")

    def chord(self) -> None:
        """Three and one that sums them up."""
        self._chord("chord", ["add", "add", "add"])

    def broken_chord(self) -> None:
        """Two of which one fails: the body is never sent, and Celery stores FAILURE for it all the same."""
        self._chord("broken_chord", ["add", "fail"])

    def terminated(self) -> None:
        """One that is revoked with terminate while it runs."""
        result = self.sign("forever").apply_async()
        self.note(result, "forever", "terminated", "REVOKED", executed=False)
        self._until_running(result.id, REPLY_SECONDS)
        self.revoke([result.id], terminate=True)

    def revoked_unseen(self, count: int) -> None:
        """So many that are revoked before they are sent: a worker drops them unreceived."""
        ids = [str(uuid4()) for _ in range(count)]
        self.revoke(ids)
        for task_id in ids:
            result = self.sign("add", 1, 1).apply_async(task_id=task_id)
            self.note(result, "add", "revoked_unseen", "REVOKED", executed=False)

    def revoked_waiting(self, count: int) -> None:
        """So many that are revoked while they wait for their countdown.

        Celery stores REVOKED at once (for whatever id is revoked), and sends the event when the countdown is over.
        """
        results = [self.sign("add", 1, 1).apply_async(countdown=COUNTDOWN_SECONDS) for _ in range(count)]
        for result in results:
            self.note(result, "add", "revoked_waiting", "REVOKED", executed=False)
        ids = {result.id for result in results}
        # Revoked any sooner it would be dropped unreceived, as `revoked_unseen` is.
        wait_until(lambda: ids <= self._scheduled(), what="the countdowns to be received", seconds=REPLY_SECONDS)
        self.revoke(sorted(ids))

    def until_idle(self) -> None:
        """Send one after the other until one ran at once: what was sent before, by whomever, is no longer waiting."""
        while True:
            result = self.sign("add", 1, 1).apply_async()
            self.note(result, "add", "success", "SUCCESS")
            begun = monotonic()
            self._until_running(result.id, BACKLOG_SECONDS)
            if monotonic() - begun < IDLE_SECONDS:
                return

    def revoke(self, ids: list[str], *, terminate: bool = False) -> None:
        """Revoke, and return when every worker has confirmed it."""
        if not ids:
            return
        replies = (
            self.app.control.revoke(ids, terminate=terminate, reply=True, limit=self.workers, timeout=REPLY_SECONDS)
            or []
        )
        assert len(replies) == self.workers, f"{len(replies)} of {self.workers} workers confirmed the revocation"

    def _until_running(self, task_id: str, seconds: float) -> None:
        mark, effects = f'"id": "{task_id}"', self.cluster.effects
        wait_until(
            lambda: effects.exists() and mark in effects.read_text(encoding="utf-8"),
            what=f"{task_id} to run",
            seconds=seconds,
        )

    def _scheduled(self) -> set[str]:
        answers = self.app.control.inspect(timeout=REPLY_SECONDS, limit=self.workers).scheduled() or {}
        return {entry["request"]["id"] for entries in answers.values() for entry in entries}

    def _chain(self, kind: str, names: list[str], states: list[str]) -> None:
        numbers = [self.sign(name, *((1, 1) if at == 0 else (1,))) for at, name in enumerate(names)]
        if "fail" in names:
            numbers[names.index("fail")] = self.sign("fail", "on purpose").set(immutable=True)
        last: Any = chain(*numbers, app=self.app).apply_async()
        results: list[AsyncResult[Any]] = []
        while last is not None:
            results.insert(0, last)
            last = last.parent
        assert len(results) == len(names)
        broken = False
        for at, (result, name, state) in enumerate(zip(results, names, states, strict=True)):
            parent = results[at - 1].id if at else None
            self.note(result, name, kind, state, root=results[0].id, parent=parent, executed=not broken)
            broken = broken or state == "FAILURE"

    def _chord(self, kind: str, names: list[str]) -> None:
        header = [self.sign(name, *(("on purpose",) if name == "fail" else (at, 1))) for at, name in enumerate(names)]
        body: Any = chord(header, app=self.app)(self.sign("total"))
        for member, name in zip(body.parent.results, names, strict=True):
            self.note(member, name, kind, "FAILURE" if name == "fail" else "SUCCESS")
        whole = "fail" not in names
        self.note(body, "total", kind, "SUCCESS" if whole else "FAILURE", root=None, executed=whole)


def plan(count: int, *, chords: bool = True, terminate: bool = True) -> dict[str, int]:
    """How many of each kind make about `count` tasks; at least one of each.

    Args:
        count: tasks, members of chains, groups and chords included.
        chords: without a result backend there are none.
        terminate: only the prefork pool can end a task that runs.
    """
    kinds = {kind: max(1, round(count * share / 100 / MEMBERS.get(kind, 1))) for kind, share in SHARES.items()}
    kinds["terminated"] = min(kinds["terminated"], TERMINATED_AT_MOST) if terminate else 0
    for kind in ("chord", "broken_chord"):
        kinds[kind] = kinds[kind] if chords else 0
    others = sum(units * MEMBERS.get(kind, 1) for kind, units in kinds.items() if kind != "success")
    kinds["success"] = max(1, count - others)
    return kinds


def mix(
    cluster: Cluster,
    count: int,
    *,
    seed: int = 1,
    workers: int = 1,
    queue: str | None = None,
    chords: bool = True,
    terminate: bool = True,
) -> list[Record]:
    """Send a seeded mix of about `count` tasks and return what will become of each.

    Args:
        cluster: where to; workers must run, since revocations are confirmed by them.
        count: tasks, members of chains, groups and chords included.
        seed: the same seed sends the same tasks in the same order, with other ids.
        workers: how many workers run.
        queue: the queue to send to; None is Celery's default queue.
        chords: whether to send chords, if there is a result backend.
        terminate: whether to end tasks that run, which only the prefork pool can.
    """
    load = Load(cluster, seed=seed, workers=workers, queue=queue)
    kinds = plan(count, chords=chords and cluster.results is not None, terminate=terminate)
    send: dict[str, Callable[[], None]] = {
        kind: getattr(load, kind) for kind in kinds if not kind.startswith("revoked")
    }
    try:
        load.until_idle()
        for _ in range(kinds["terminated"]):
            load.terminated()
        load.revoked_unseen(kinds["revoked_unseen"])
        load.revoked_waiting(kinds["revoked_waiting"])
        mix = [kind for kind, units in kinds.items() if kind not in REVOKED for _ in range(units)]
        load.random.shuffle(mix)
        for kind in mix:
            send[kind]()
    finally:
        load.close()
    return load.records


def drive(cluster: Cluster, count: int, **options: Any) -> list[Record]:
    """`mix` by a process of its own: what Celery's clients leave open ends with it."""
    return _apart(cluster, {"count": count, **options})


def send(cluster: Cluster, name: str, *args: Any, times: int = 1, state: str | None = "SUCCESS") -> list[Record]:
    """Send one task, or the same several times, by a process of its own."""
    return _apart(cluster, {"name": name, "args": args, "times": times, "state": state})


def _apart(cluster: Cluster, wish: dict[str, Any]) -> list[Record]:
    environment = {**os.environ, **cluster.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-m", "tests.cluster.load", json.dumps(wish)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [Record(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def _send(cluster: Cluster, name: str, args: list[Any], times: int, state: str | None) -> list[Record]:
    load = Load(cluster)
    for _ in range(times):
        load.note(load.sign(name, *args).apply_async(), name, name, state)
    return load.records


def main() -> None:
    """Do what the argument says and print the records."""
    wish = json.loads(sys.argv[1])
    cluster = Cluster.from_environment()
    records = _send(cluster, **wish) if "name" in wish else mix(cluster, **wish)
    print(json.dumps([asdict(one) for one in records]), flush=True)
    # Nothing more is wanted of this process, least of all what results do when they are forgotten.
    os._exit(0)


if __name__ == "__main__":
    main()
