"""Queues that nobody names, found in a real Valkey: those in which tasks of Celery wait, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from redis import Redis

from headway.model.errors import BrokerAway
from headway.observe.brokers import RedisView
from headway.observe.target import Target
from tests.servers.own import running_valkey
from tests.servers.valkey import ValkeyServer

pytestmark = pytest.mark.valkey


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with running_valkey() as one:
        yield one


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[Redis]:
    with Redis.from_url(server.url) as one:
        one.flushall()
        yield one


@pytest.fixture(params=["", "app:"])
def app(request: pytest.FixtureRequest, server: ValkeyServer, client: Redis) -> Iterator[Celery]:
    """An application, also one that puts a prefix before all keys."""
    one = Celery("discovery", broker=server.url, set_as_current=False)
    if request.param:
        one.conf.broker_transport_options = {"global_keyprefix": request.param}
    yield one
    one.close()


def found_in(app: Celery, looks: int) -> tuple[set[str], int]:
    """What so many looks find, and the most commands that one took."""
    view = RedisView(Target(app, own_app=True, observer_id="one"))
    found: set[str] = set()
    most = 0
    try:
        for _ in range(looks):
            found |= view.discovered()
            most = max(most, view.commands)
    finally:
        view.close()
    return found, most


def test_a_queue_with_tasks_is_found_and_one_of_somebody_else_is_not(
    app: Celery, server: ValkeyServer, client: Redis
) -> None:
    app.send_task("a", queue="lonely")
    app.send_task("b", queue="empty")
    prefix = str(app.conf.broker_transport_options.get("global_keyprefix", ""))
    assert client.delete(f"{prefix}empty") == 1
    with Connection(server.url, transport_options=app.conf.broker_transport_options) as connection:
        logs = connection.SimpleQueue("logs")
        logs.put({"a": "line"})
        logs.close()
    # Keys of another kind than their names let expect.
    client.set(f"{prefix}_kombu.binding.text", "text")
    client.sadd(f"{prefix}_kombu.binding.set", "\x06\x16\x06\x16aset")
    client.sadd(f"{prefix}aset", "member")
    assert found_in(app, 1)[0] == {"lonely"}


def test_many_leftovers_are_looked_at_in_turns(app: Celery, client: Redis) -> None:
    prefix = str(app.conf.broker_transport_options.get("global_keyprefix", ""))
    app.send_task("a", queue="zz-last")
    with client.pipeline() as pipe:
        for number in range(400):
            pipe.sadd(f"{prefix}_kombu.binding.broadcast", f"\x06\x16\x06\x16bcast.{number}")
        for number in range(150):
            pipe.sadd(f"{prefix}_kombu.binding.queue{number:03}", f"\x06\x16\x06\x16queue{number:03}")
            pipe.set(f"other{number}", "x")
        pipe.execute()
    found, most = found_in(app, 60)
    assert found == {"zz-last"}
    assert most <= 60


def test_where_scan_is_forbidden_nothing_is_found_and_nothing_breaks(server: ValkeyServer, client: Redis) -> None:
    settings: Any = client
    settings.execute_command("ACL", "SETUSER", "noscan", "on", ">secret", "~*", "&*", "+@all", "-scan")
    app = Celery("noscan", broker=server.url.replace("redis://", "redis://noscan:secret@"), set_as_current=False)
    try:
        app.send_task("a", queue="lonely")
        assert found_in(app, 2)[0] == set()
        app.conf["broker_url"] = server.url.replace("redis://", "redis://noscan:wrong@")
        with pytest.raises(BrokerAway):
            found_in(app, 1)
    finally:
        app.close()
