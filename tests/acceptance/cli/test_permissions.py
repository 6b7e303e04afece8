"""A user of the broker who may do what the documents say watching takes, and no more."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from headway.model.permissions import RABBITMQ, REDIS
from tests.acceptance.cli.conftest import Folder
from tests.cluster.app import make_app
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.servers.own import running_rabbitmq, running_valkey
from tests.waiting import wait_until

PAGE = Path(__file__).parents[3] / "docs/how-to/watch-a-cluster.md"


@dataclass
class Guarded:
    """A broker, and a user of it whom `allow` gives the documented permissions and `refuse` takes all of them."""

    url: str
    users_url: str
    results: str | None
    command: str
    allow: Callable[[], object]
    refuse: Callable[[], object]


def valkey() -> Iterator[Guarded]:
    with running_valkey() as server, Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "watch", "on", ">secret")
        words = shlex.split(REDIS.replace("(", "'(").replace(")", ")'").replace("USER %", "watch %"))
        users_url = f"redis://watch:secret@127.0.0.1:{server.port}"
        yield Guarded(
            server.url, f"{users_url}/0", f"{users_url}/1", REDIS,
            lambda: client.execute_command(*words),
            # All commands, but neither keys nor channels: that is refused in other words.
            lambda: client.execute_command("ACL", "SETUSER", "watch", "resetkeys", "resetchannels", "+@all"),
        )  # fmt: skip


def rabbitmq() -> Iterator[Guarded]:
    with running_rabbitmq() as server:
        server.control("add_user", "watch", "secret")
        words = shlex.split(RABBITMQ.replace("VHOST USER", "/ watch"))[1:]
        yield Guarded(
            server.url, f"amqp://watch:secret@127.0.0.1:{server.port}//", None, RABBITMQ,
            lambda: server.control(*words),
            lambda: server.control("set_permissions", "-p", "/", "watch", "^$", "^$", ".*"),
        )  # fmt: skip


@pytest.fixture(
    params=[pytest.param(valkey, marks=pytest.mark.valkey), pytest.param(rabbitmq, marks=pytest.mark.long)]
)  # fmt: skip
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    yield from request.param()


def test_a_user_who_may_do_what_is_documented_sees_all_and_another_is_told_what_is_missing(
    guarded: Guarded, folder: Folder, tmp_path: Path
) -> None:
    results = guarded.url.replace("/0", "/1") if guarded.results else None
    cluster = Cluster(guarded.url, tmp_path, results, {"task_send_sent_event": True})
    named = ("--broker", guarded.users_url, *(("--result-backend", guarded.results) if guarded.results else ()))
    guarded.refuse()
    with Worker(cluster, concurrency=1), folder.start("observe", *named, "--port", "0") as running:
        url = running.ready()

        def report() -> Any:
            return httpx.get(f"{url}/api/v1/sitrep", timeout=20).json()

        def refused() -> bool:
            told = {one["code"]: one["remedy"] for one in report()["attention"]}
            return {"broker_away", "events_lost"} <= set(told) and all(
                guarded.command in told[code] for code in ("broker_away", "events_lost")
            )

        wait_until(refused, what="what is missing", seconds=30, every=0.2)
        ran = folder.run("doctor", *named)
        assert (ran.returncode, "Allow it: " in ran.stdout) == (1, True), ran.stdout
        guarded.allow()
        wait_until(lambda: report()["health_status"] == "ok", what="all to be well", seconds=30, every=0.2)
        app = make_app(cluster)
        try:
            task_id = app.tasks["cluster.add"].apply_async((1, 2)).id
        finally:
            app.close()
        said = {"sent", "received", "started", "succeeded"}

        def heard() -> set[str]:
            answer = httpx.get(f"{url}/api/v1/tasks/{task_id}", timeout=20)
            return {one["said"] for one in answer.json().get("trail", [])}

        # The result backend may have told its end, too: there was a gap a moment ago.
        wait_until(lambda: said <= heard(), what="the whole of a task", seconds=30, every=0.2)
        told = report()
        assert {one["name"]: one["ok"] for one in told["sources"] if one["name"] != "results"} == dict.fromkeys(
            ("jobs", "events", "workers", "broker"), True
        )
        # Queues are looked at every five seconds.
        wait_until(
            lambda: [one["depth"] for one in report()["queues"] if one["name"] == "celery"] == [0],
            what="the queue to be known",
            seconds=30,
            every=0.2,
        )

        def all_well() -> bool:
            said = folder.run("doctor", *named).stdout
            answers = re.search(r"^cluster: broker +ok .* answers", said, re.MULTILINE)
            return bool(answers) and "permission" not in said and "ACCESS_REFUSED" not in said

        # The server's own parts ask again within ten seconds.
        wait_until(all_well, what="doctor to be well", seconds=30, every=1)


@pytest.mark.parametrize("command", [RABBITMQ, REDIS.removeprefix("ACL SETUSER USER ")])
def test_the_page_says_the_same(command: str) -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert command in page
