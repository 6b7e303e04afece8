"""Brokers, looked at: depths of queues without touching a message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from amqp.exceptions import ChannelError
from kombu import Connection
from redis.exceptions import ResponseError

from headway.model.errors import BrokerAway
from headway.observe.discovery import Discovery, queues_bound
from headway.observe.target import Target, keep_hands_off
from headway.ports.cluster import BrokerView, QueueDepth

_ANSWER_SECONDS: Final = 0.8
_MAX_ID: Final = 255


class RedisView:
    """See ``BrokerView``: lengths of lists, and the message at the end that is taken next."""

    name = "redis"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._channel: Any = None
        self._client: Any = None
        self._discovery = Discovery(target.app.conf)

    def _open(self) -> Any:
        if self._client is None:
            self._connection = self._target.connection(answer_seconds=_ANSWER_SECONDS)
            self._channel = self._connection.default_channel
            keep_hands_off(self._channel)
            self._client = self._channel.client
        return self._client

    def _ask(self, work: Any) -> Any:
        try:
            return work(self._open())
        except Exception as error:
            self.close()
            raise BrokerAway(f"the broker does not answer: {error}") from error

    def ping(self) -> None:
        """See ``BrokerView.ping``."""
        self._ask(lambda client: client.ping())

    def queues(self, names: Sequence[str]) -> list[QueueDepth]:
        """See ``BrokerView.queues``."""

        def work(client: Any) -> list[QueueDepth]:
            channel = self._channel
            keys = [[channel._q_for_pri(name, step) for step in channel.priority_steps] for name in names]  # noqa: SLF001
            with client.pipeline(transaction=False) as pipe:
                for of_queue in keys:
                    for key in of_queue:
                        pipe.llen(key)
                # A key of another type under that name must not hide the others.
                lengths = iter(pipe.execute(raise_on_error=False))
            found = []
            for name, of_queue in zip(names, keys, strict=True):
                depths = [next(lengths) for _ in of_queue]
                known = [depth for depth in depths if isinstance(depth, int)]
                oldest = self._oldest(client, of_queue, depths) if sum(known) else None
                found.append(QueueDepth(name, sum(known) if known else None, None, oldest))
            return found

        return self._ask(work) if names else []

    def _oldest(self, client: Any, keys: Sequence[str], depths: Sequence[Any]) -> str | None:
        """The id of the task that is taken next: the most urgent list first, from its end."""
        for key, depth in zip(keys, depths, strict=True):
            if isinstance(depth, int) and depth:
                with suppress(Exception):
                    # Unlike LLEN this is no command that kombu puts its prefix before.
                    return _task_id(client.lindex(f"{self._channel.global_keyprefix}{key}", -1))
                return None
        return None

    @property
    def commands(self) -> int:
        """See ``BrokerView.commands``."""
        return self._discovery.commands + 2

    def bound(self) -> set[str]:
        """See ``BrokerView.bound``: from kombu's binding table of the default exchange."""
        conf = self._target.app.conf
        exchange = str(conf.task_default_exchange or conf.task_default_queue)
        return self._ask(lambda _: queues_bound(self._channel, [exchange]))  # type: ignore[no-any-return]

    def discovered(self) -> set[str]:
        """See ``BrokerView.discovered``."""

        def work(_: Any) -> set[str]:
            try:
                return self._discovery.look(self._channel)
            except ResponseError:
                # SCAN may be forbidden: then the default exchange is what is known.
                return set()

        return self._ask(work)  # type: ignore[no-any-return]

    def unacknowledged(self) -> int | None:
        """See ``BrokerView.unacknowledged``."""
        return self._ask(lambda client: int(client.hlen(self._channel.unacked_key)))  # type: ignore[no-any-return]

    def close(self) -> None:
        """See ``BrokerView.close``."""
        connection, self._connection = self._connection, None
        self._client = self._channel = None
        with suppress(Exception):
            if connection is not None:
                connection.release()


def _task_id(message: bytes | None) -> str | None:
    if not message:
        return None
    envelope = json.loads(message)
    headers = envelope.get("headers") or {}
    found = headers.get("id") or (envelope.get("properties") or {}).get("correlation_id")
    return found if isinstance(found, str) and 0 < len(found) <= _MAX_ID else None


class AmqpView:
    """See ``BrokerView``: passive declarations, which fail for a queue that is not there and change nothing."""

    name = "rabbitmq"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._target.connection()
            connection.connect()
            self._connection = connection
        return self._connection

    def _ask(self, work: Any) -> Any:
        try:
            connection = self._open()
            channel: Any = connection.channel()
            try:
                return work(channel)
            finally:
                with suppress(Exception):
                    channel.close()
        except Exception as error:
            self.close()
            raise BrokerAway(f"the broker does not answer: {error}") from error

    def ping(self) -> None:
        """See ``BrokerView.ping``: a channel is opened, which takes a word from the broker."""
        self._ask(lambda channel: None)

    def queues(self, names: Sequence[str]) -> list[QueueDepth]:
        """See ``BrokerView.queues``."""
        return [self._ask(lambda channel, name=name: _depth(channel, name)) for name in names]

    @property
    def commands(self) -> int:
        """See ``BrokerView.commands``."""
        return 0

    def bound(self) -> set[str]:
        """See ``BrokerView.bound``: AMQP has no way to ask."""
        return set()

    def discovered(self) -> set[str]:
        """See ``BrokerView.discovered``: AMQP has no way to ask."""
        return set()

    def unacknowledged(self) -> int | None:
        """See ``BrokerView.unacknowledged``: AMQP has no way to ask."""
        return None

    def close(self) -> None:
        """See ``BrokerView.close``."""
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if connection is not None:
                connection.release()


def _depth(channel: Any, name: str) -> QueueDepth:
    try:
        answer = channel.queue_declare(queue=name, passive=True)
    except ChannelError:
        # Not there, another's alone, or not ours to look at: the others can be looked at all the same.
        return QueueDepth(name, None)
    return QueueDepth(name, int(answer.message_count), int(answer.consumer_count))


def broker_view(target: Target) -> BrokerView:
    """The way to look at this cluster's broker."""
    return RedisView(target) if target.transport == "redis" else AmqpView(target)
