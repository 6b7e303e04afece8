"""Questions to workers over one reply queue that stays: what comes too late, what is lost with the queue, what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import NotFound
from celery import Celery
from kombu import Connection
from redis import Redis

from headway.model.errors import BrokerAway
from headway.observe.asking import Inspector
from headway.observe.observer import LiveAsker
from headway.observe.target import Target
from headway.service.sitrep import LIVE_SECONDS
from headway.system import SystemClock
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.servers.own import running_rabbitmq, running_valkey
from tests.servers.proxy import Proxy
from tests.servers.valkey import ValkeyServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

REPLIES = "headway-test-one.reply.celery.pidbox"
BINDINGS = "_kombu.binding.reply.celery.pidbox"
SECONDS = 20.0


@pytest.fixture(scope="module", params=["valkey", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A broker of this file's own."""
    with running_valkey() if request.param == "valkey" else running_rabbitmq() as one:
        yield one


@pytest.fixture(scope="module")
def worker(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker that can be asked."""
    with Worker(Cluster(server.url, tmp_path_factory.mktemp("asked")), pool="solo") as one:
        yield one


@pytest.fixture
def inspector(server: Any) -> Iterator[Inspector]:
    """One that asks."""
    app = Celery("asking", broker=server.url, set_as_current=False)
    one = Inspector(Target(app, own_app=True, observer_id="one"), "test")
    try:
        yield one
    finally:
        one.close()
        app.close()


def reply_queue(server: Any) -> tuple[int, int] | None:
    """(messages, consumers) of the reply queue, or None where there is none; consumers are not known on Valkey."""
    if isinstance(server, ValkeyServer):
        with Redis.from_url(server.url, decode_responses=True) as client:
            bound = any(str(one).endswith(REPLIES) for one in client.smembers(BINDINGS))
            return (int(client.llen(REPLIES)), 1) if bound or client.exists(REPLIES) else None
    with Connection(server.url) as connection:
        try:
            channel: Any = connection.default_channel
            found = channel.queue_declare(queue=REPLIES, passive=True)
        except NotFound:
            return None
        return int(found.message_count), int(found.consumer_count)


def test_the_reply_queue_stays_while_everybody_answers_and_is_gone_after(
    server: Any, worker: Worker, inspector: Inspector
) -> None:
    assert reply_queue(server) is None
    for _ in range(3):
        assert inspector.ask("ping", timeout=SECONDS, expected=1) == {worker.hostname: {"ok": "pong"}}
        assert reply_queue(server) == (0, 1)
    asked = inspector.ask("query_task", timeout=SECONDS, expected=1, arguments={"ids": ["nobody's"]})
    assert asked == {worker.hostname: {}}
    inspector.close()
    assert reply_queue(server) is None


def test_who_answers_too_late_answers_an_earlier_question(server: Any, worker: Worker, inspector: Inspector) -> None:
    assert inspector.ask("ping", timeout=SECONDS, expected=1)
    worker.freeze()
    try:
        assert inspector.ask("active", timeout=0.3, expected=1) == {}
        assert reply_queue(server) is None
    finally:
        worker.thaw()
    for _ in range(2):
        assert inspector.ask("ping", timeout=SECONDS, expected=1) == {worker.hostname: {"ok": "pong"}}


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_a_valkey_that_was_emptied_costs_one_answer(server: Any, worker: Worker, inspector: Inspector) -> None:
    assert inspector.ask("ping", timeout=SECONDS, expected=1)
    server.ask("FLUSHALL")
    assert inspector.ask("ping", timeout=1.0, expected=1) == {}
    assert inspector.ask("ping", timeout=SECONDS, expected=1) == {worker.hostname: {"ok": "pong"}}


def test_a_queue_that_somebody_deleted_is_made_anew(server: Any, worker: Worker, inspector: Inspector) -> None:
    assert inspector.ask("ping", timeout=SECONDS, expected=1)
    with Connection(server.url) as connection:
        channel: Any = connection.default_channel
        channel.queue_delete(REPLIES)
    answers: dict[str, Any] = {}
    for _ in range(3):
        try:
            answers = inspector.ask("ping", timeout=1.0, expected=1)
        except BrokerAway:
            # RabbitMQ says that the consumer was cancelled; the connection is opened anew.
            continue
        if answers:
            break
    assert answers == {worker.hostname: {"ok": "pong"}}


def test_a_connection_that_was_cut_while_nobody_asked_is_no_broker_that_is_away(server: Any, worker: Worker) -> None:
    """RabbitMQ and firewalls end what was idle for long: the first report after it must not say unknown."""
    with Proxy(server.port) as proxy:
        url = server.url.replace(f":{server.port}", f":{proxy.port}")
        app = Celery("idle", broker=url, set_as_current=False)
        asker = LiveAsker(Target(app, own_app=True, observer_id="idle"), SystemClock(), strict=False)
        asker.start()
        try:
            for _ in range(3):
                answer = asker.ask(LIVE_SECONDS, 1)()
                assert (answer.broker, answer.workers) == (True, frozenset({worker.hostname}))
                # So long is one answer good for all who ask.
                time.sleep(1.1)
                proxy.cut()
            proxy.refuse()
            assert not asker.ask(LIVE_SECONDS, 1)().broker
        finally:
            asker.stop(timeout=5.0)
            app.close()
