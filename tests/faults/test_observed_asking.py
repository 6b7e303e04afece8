"""Questions to workers over one reply queue that stays: what comes too late, what is lost with the queue, what is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from amqp.exceptions import NotFound
from celery import Celery
from kombu import Connection, Exchange, Producer
from redis import Redis

from headway.model.errors import BrokerAway
from headway.observe.asking import Inspector
from headway.observe.live import LiveAsker
from headway.observe.target import Target
from headway.service.sitrep import LIVE_SECONDS
from headway.system import SystemClock
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.servers.own import running_rabbitmq, running_valkey
from tests.servers.proxy import Proxy
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

REPLIES = "headway-test-one.reply.celery.pidbox"
BINDINGS = "_kombu.binding.reply.celery.pidbox"
SECONDS = 20.0
PONG = {"ok": "pong"}
# Machines that run tests do other things, too.
SLOW = 3


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


def _app(url: str, **options: Any) -> Celery:
    app = Celery("asking", broker=url, set_as_current=False)
    app.conf.broker_transport_options = options
    return app


@contextmanager
def asking(url: str, **options: Any) -> Iterator[Inspector]:
    """One that asks and keeps its reply queue."""
    app = _app(url, **options)
    one = Inspector(Target(app, own_app=True, observer_id="one"), "test", SystemClock(), keep=True)
    try:
        yield one
    finally:
        one.close()
        app.close()


def pings(inspector: Inspector, expected: int = 1, tries: int = 2) -> dict[str, Any]:
    """The first answer to a ping; what is refused is asked again."""
    for _ in range(tries - 1):
        with suppress(BrokerAway):
            return inspector.ask("ping", timeout=SECONDS, expected=expected)
    return inspector.ask("ping", timeout=SECONDS, expected=expected)


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


def delete_replies(server: Any) -> None:
    """Take the reply queue away behind the back of who listens on it."""
    if isinstance(server, ValkeyServer):
        with Redis.from_url(server.url) as client:
            assert client.delete(BINDINGS) == 1
        return
    with Connection(server.url) as connection:
        channel: Any = connection.default_channel
        channel.queue_delete(REPLIES)


def test_the_reply_queue_stays_while_everybody_answers_and_is_gone_after(server: Any, worker: Worker) -> None:
    with asking(server.url) as inspector:
        assert reply_queue(server) is None
        for _ in range(3):
            assert inspector.ask("ping", timeout=SECONDS, expected=1) == {worker.hostname: PONG}
            assert reply_queue(server) == (0, 1)
        asked = inspector.ask("query_task", timeout=SECONDS, expected=1, arguments={"ids": ["nobody's"]})
        assert asked == {worker.hostname: {}}
        inspector.rest()
        assert reply_queue(server) is None
        assert inspector.ask("ping", timeout=SECONDS, expected=1) == {worker.hostname: PONG}
        # One more is waited for than there are.
        assert inspector.ask("ping", timeout=0.5, expected=2) == {worker.hostname: PONG}
        assert reply_queue(server) is None
        assert inspector.ask("ping", timeout=SECONDS, expected=1)
    assert reply_queue(server) is None


def test_who_answers_too_late_answers_an_earlier_question(server: Any, worker: Worker) -> None:
    with asking(server.url) as inspector, Worker(worker.cluster, "two", pool="solo") as two:
        assert set(inspector.ask("ping", timeout=SECONDS, expected=2)) == {worker.hostname, two.hostname}
        two.freeze()
        try:
            assert set(inspector.ask("active", timeout=SECONDS, expected=1)) == {worker.hostname}
            assert reply_queue(server) == (0, 1)
        finally:
            two.thaw()
        # Its answer to the first question is the first that arrives.
        wait_until(lambda: server_holds(server), what="the late answer", seconds=SECONDS)
        assert inspector.ask("ping", timeout=SECONDS, expected=2) == {worker.hostname: PONG, two.hostname: PONG}


def server_holds(server: Any) -> bool:
    """Whether the late answer is there: on Valkey it lies in the queue, RabbitMQ hands it over at once."""
    return not isinstance(server, ValkeyServer) or reply_queue(server) == (1, 1)


def test_answers_to_nobody_do_not_prolong_a_question(server: Any, worker: Worker) -> None:
    ended = threading.Event()

    def chatter() -> None:
        with Connection(server.url) as connection:
            producer = Producer(connection.default_channel, auto_declare=False)
            exchange = Exchange("reply.celery.pidbox", "direct", durable=False, delivery_mode="transient")
            for _ in range(int(SECONDS / 0.05)):
                if ended.wait(0.05):
                    return
                producer.publish(
                    {"stranger": PONG},
                    exchange=exchange,
                    declare=[exchange],
                    routing_key="headway-test-one",
                    headers={"ticket": "another"},
                )

    with asking(server.url) as inspector:
        thread = threading.Thread(target=chatter)
        thread.start()
        try:
            assert inspector.ask("ping", timeout=1.0, expected=2) == {worker.hostname: PONG}
            assert thread.is_alive()
        finally:
            ended.set()
            thread.join()


def test_what_is_not_answered_once_is_answered_when_asked_anew(server: Any, worker: Worker) -> None:
    with asking(server.url) as inspector:
        assert pings(inspector)
        delete_replies(server)
        # RabbitMQ tells who listened; of an emptied Redis nobody hears but by the missing answer.
        with suppress(BrokerAway):
            assert inspector.ask("ping", timeout=1.0, expected=1) == {}
        assert inspector.ask("ping", timeout=SECONDS, expected=1) == {worker.hostname: PONG}


def test_a_connection_that_only_the_server_believes_in_takes_no_answers(server: Any, worker: Worker) -> None:
    with Proxy(server.port) as proxy, asking(through(server, proxy)) as inspector:
        assert pings(inspector) == {worker.hostname: PONG}
        proxy.forget()
        proxy.take()
        # Every other answer would go to the one that is dead.
        for _ in range(3):
            assert pings(inspector) == {worker.hostname: PONG}
            assert reply_queue(server) == (0, 1)


def test_nothing_is_left_where_the_broker_was_away_in_between(server: Any, worker: Worker) -> None:
    with Proxy(server.port) as proxy, asking(through(server, proxy)) as inspector:
        assert pings(inspector) == {worker.hostname: PONG}
        proxy.refuse()
        with pytest.raises(BrokerAway):
            inspector.ask("ping", timeout=1.0, expected=1)
        proxy.take()
        inspector.close()
        assert reply_queue(server) is None


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_an_application_that_wants_retries_is_answered_after_a_cut(server: Any, worker: Worker) -> None:
    options = {"retry_on_timeout": True, "health_check_interval": 1}
    with Proxy(server.port) as proxy, asking(through(server, proxy), **options) as inspector:
        assert pings(inspector) == {worker.hostname: PONG}
        proxy.cut()
        time.sleep(1.5)
        assert pings(inspector) == {worker.hostname: PONG}


def test_a_connection_that_was_cut_while_nobody_asked_is_no_broker_that_is_away(server: Any, worker: Worker) -> None:
    """RabbitMQ and firewalls end what was idle for long: the first report after it must not say unknown."""
    with Proxy(server.port) as proxy:
        app = _app(through(server, proxy))
        asker = LiveAsker(Target(app, own_app=True, observer_id="idle"), SystemClock(), strict=False)
        asker.start()
        try:
            for _ in range(3):
                answer = asker.ask(SLOW * LIVE_SECONDS, 1)()
                assert (answer.broker, answer.workers) == (True, frozenset({worker.hostname}))
                # So long is one answer good for all who ask.
                time.sleep(1.1)
                proxy.cut()
            proxy.refuse()
            assert not asker.ask(SLOW * LIVE_SECONDS, 1)().broker
        finally:
            asker.stop(timeout=5.0)
            app.close()


def through(server: Any, proxy: Proxy) -> str:
    """The broker's URL behind a proxy."""
    return str(server.url).replace(f":{server.port}", f":{proxy.port}")
