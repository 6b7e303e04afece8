"""Where events come from: a subscription on Redis, a queue on RabbitMQ."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from amqp.exceptions import NotFound
from amqp.transport import TCPTransport
from celery.events.event import get_exchange
from kombu import Connection, Consumer, Queue
from kombu.serialization import loads

from headway.model.errors import BrokerAway
from headway.observe.target import Target, keep_hands_off

AT_ONCE: Final = 500
"""So many messages of one look mean that more may wait."""
_GATHER_SECONDS: Final = 0.02
_PREFETCH: Final = 5_000
_MORE_SECONDS: Final = 0.001
_AHEAD_BYTES: Final = 8_192
_CHECK_SECONDS: Final = 5.0
RETAIN_SECONDS: Final = 300
"""So long RabbitMQ keeps what is published for an observer that went without a word."""
_EPOCH_BITS: Final = 40
_RETAIN_MESSAGES: Final = 500_000


class Raw(NamedTuple):
    """One message as it came: it is taken apart later, by another thread."""

    body: bytes | str
    content_type: str
    encoding: str
    tag: int = 0


def decode(raw: Raw, accept: frozenset[str]) -> Any:
    """The message's content. Raises whatever a wrong one makes the serializer raise.

    Args:
        raw: the message.
        accept: content types that are read; a message in another, such as pickle, is refused.
    """
    if raw.content_type == "application/json":
        return json.loads(raw.body)
    return loads(raw.body, raw.content_type, raw.encoding, accept=accept)


def _breathe() -> None:
    time.sleep(_GATHER_SECONDS)


class EventSource(Protocol):
    """Events of a cluster as they are published.

    Attributes:
        drained: whether the last look read all that had come: more may wait where it took as much as it may, and nobody
            knows what was lost where the connection broke.
    """

    drained: bool

    def connect(self) -> bool:
        """Begin to listen.

        Returns:
            Whether what was published since the last connection was kept by the broker: nothing was missed then.

        Raises:
            BrokerAway: the broker does not answer.
        """
        ...

    def poll(self, seconds: float) -> list[Raw]:
        """What has come, waiting so long at most. Raises ``BrokerAway`` when the connection is lost."""
        ...

    def check(self) -> None:
        """Return if the connection works. Raises ``BrokerAway`` when it does not, or does not answer in time."""
        ...

    def stored(self, tag: int) -> None:
        """Everything up to this tag is safe; called by the thread that polls. Tags of a lost connection mean nothing."""
        ...

    def close(self, *, for_good: bool) -> None:
        """Stop listening; ``for_good`` leaves nothing behind at the broker. Never raises."""
        ...


class RedisEvents:
    """A subscription to the channels that Celery publishes to: it writes nothing, and Redis keeps nothing for it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._subscription: Any = None
        self._early: list[Raw] = []
        self._broken: Exception | None = None
        self.drained = False

    def connect(self) -> bool:
        """See ``EventSource.connect``."""
        self.close(for_good=False)
        self._early, self._broken = [], None
        self._connection = self._target.connection()
        try:
            channel: Any = self._connection.default_channel
            keep_hands_off(channel)
            # As kombu builds it, with TLS, Sentinel and all; prefixes are the application's own options.
            subscription = channel._create_client().pubsub()  # noqa: SLF001
            self._subscription = subscription
            topic = f"{channel.keyprefix_fanout}{self._target.app.conf.event_exchange}"
            subscription.psubscribe(f"{topic}/*", topic)
            # Where the application wants retries, redis-py would subscribe anew by itself, and what was missed between
            # would be a gap that nobody knows of.
            subscription.connection.retry.update_retries(0)
            for _ in range(2):
                if subscription.get_message(timeout=5.0) is None:
                    raise BrokerAway("the broker did not confirm the subscription to events")
        except BrokerAway:
            raise
        except Exception as error:
            raise BrokerAway(f"events cannot be heard: {error}") from error
        return False

    def poll(self, seconds: float) -> list[Raw]:
        """See ``EventSource.poll``."""
        found, self._early = self._early, []
        self.drained = False
        wait = 0.0 if found else seconds
        try:
            if self._broken is not None:
                raise self._broken
            while len(found) < AT_ONCE:
                # Not get_message(): taking its answer apart costs as much as reading it.
                message = self._subscription.parse_response(block=False, timeout=wait)
                if message is None:
                    self.drained = True
                    break
                if message[0] == b"pmessage":
                    found.append(_of_envelope(message[3]))
                    if wait:
                        # To wake up for each message by itself costs more than to take it.
                        _breathe()
                wait = 0
        except Exception as error:
            if found:
                # What was read before it broke is not lost with it.
                self._broken = error
                return found
            raise BrokerAway(f"the subscription to events was lost: {error}") from error
        return found

    def check(self) -> None:
        """See ``EventSource.check``."""
        try:
            self._subscription.ping()
            ends = time.monotonic() + _CHECK_SECONDS
            while (left := ends - time.monotonic()) > 0:
                message = self._subscription.parse_response(block=False, timeout=left)
                if message is not None and message[0] == b"pong":
                    return
                if message is not None and message[0] == b"pmessage":
                    self._early.append(_of_envelope(message[3]))
        except Exception as error:
            raise BrokerAway(f"the subscription to events was lost: {error}") from error
        raise BrokerAway(f"the subscription to events did not answer within {_CHECK_SECONDS:g} s")

    def stored(self, tag: int) -> None:
        """See ``EventSource.stored``: Redis keeps nothing that could be let go."""

    def close(self, *, for_good: bool) -> None:
        """See ``EventSource.close``."""
        subscription, self._subscription = self._subscription, None
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if subscription is not None:
                subscription.close()
        with suppress(Exception):
            if connection is not None:
                connection.release()


def _of_envelope(data: bytes) -> Raw:
    try:
        envelope = json.loads(data)
        body = envelope["body"]
        if envelope.get("properties", {}).get("body_encoding") == "base64":
            body = b64decode(body)
        if not isinstance(body, bytes | str):
            raise TypeError("no body")
        return Raw(body, str(envelope.get("content-type")), str(envelope.get("content-encoding") or "utf-8"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Counted as malformed by whoever takes it apart.
        return Raw(b"", "application/json", "utf-8")


def _read_ahead(connection: Connection) -> None:
    """Take what has arrived from the kernel at once: py-amqp asks for every piece of a frame, nine times a message."""
    driver: Any = connection.connection
    if isinstance(driver.transport, TCPTransport):
        transport: Any = driver.transport
        receive = transport.sock.recv
        transport._quick_recv = lambda size: receive(max(size, _AHEAD_BYTES))  # noqa: SLF001 - keeps what is too much


class AmqpEvents:
    """A queue of the observer's own at the exchange of events.

    The broker keeps it for some minutes after its observer went without a word, and messages are acknowledged once
    they are stored: an observer that is killed and started again misses nothing.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._channel: Any = None
        self._queue: Any = None
        self._found: list[Raw] = []
        self._epoch = 0
        self._unproven = False
        self.drained = False

    @property
    def queue_name(self) -> str:
        """The queue's name at the broker."""
        return f"{self._target.app.conf.event_queue_prefix}.headway.{self._target.observer_id}"

    def connect(self) -> bool:
        """See ``EventSource.connect``."""
        self.close(for_good=False)
        self._found = []
        # Tags begin anew with each channel: what was read from the one before must not be told to this one.
        self._epoch += 1
        try:
            connection = self._connection = self._target.connection()
            connection.connect()
            _read_ahead(connection)
            # A queue that we have just made ourselves, before something else failed, has kept nothing.
            kept = self._kept(connection) and not self._unproven
            self._unproven = not kept
            exchange = get_exchange(connection, name=self._target.app.conf.event_exchange)
            self._channel = connection.channel()
            self._queue = Queue(
                self.queue_name,
                exchange=exchange,
                routing_key="#",
                durable=False,
                auto_delete=False,
                expires=RETAIN_SECONDS,
                max_length=_RETAIN_MESSAGES,
            )
            self._channel.basic_qos(0, _PREFETCH, False)
            consumer = Consumer(self._channel, [self._queue], on_message=self._take, no_ack=False)
            consumer.consume()
        except Exception as error:
            raise BrokerAway(f"events cannot be heard: {error}") from error
        self._unproven = False
        return kept

    def _kept(self, connection: Connection) -> bool:
        channel: Any = connection.channel()
        try:
            answer = channel.queue_declare(queue=self.queue_name, passive=True)
        except NotFound:
            return False
        else:
            # A full queue has dropped its oldest.
            return bool(answer.message_count < _RETAIN_MESSAGES)
        finally:
            with suppress(Exception):
                channel.close()

    def _take(self, message: Any) -> None:
        self._found.append(
            Raw(
                message.body,
                str(message.content_type),
                str(message.content_encoding or "utf-8"),
                (self._epoch << _EPOCH_BITS) | message.delivery_tag,
            )
        )

    def poll(self, seconds: float) -> list[Raw]:
        """See ``EventSource.poll``."""
        assert self._connection is not None
        try:
            self.drained = False
            try:
                self._drain(seconds, 1)
                _breathe()
                self._drain(_MORE_SECONDS, AT_ONCE)
            except TimeoutError:
                self.drained = True
            self._connection.heartbeat_check()
        except Exception as error:
            raise BrokerAway(f"the queue of events was lost: {error}") from error
        found, self._found = self._found, []
        return found

    def _drain(self, seconds: float, messages: int) -> None:
        """Read until there are so many. Raises ``TimeoutError`` when nothing more came for so long."""
        assert self._connection is not None
        amqp: Any = self._connection.connection
        socket = amqp.transport.sock
        # Once for all frames: Connection.drain_events tells the socket its time limit anew for each.
        socket.settimeout(seconds)
        try:
            while len(self._found) < messages:
                amqp.on_inbound_frame(amqp.transport.read_frame())
        finally:
            with suppress(OSError):
                # Closed by a broker that says why: that is what must be heard of.
                socket.settimeout(None)

    def check(self) -> None:
        """See ``EventSource.check``."""
        assert self._connection is not None
        try:
            socket: Any = self._connection.connection.transport.sock
            socket.settimeout(_CHECK_SECONDS)
            try:
                self._channel.queue_declare(queue=self.queue_name, passive=True)
            finally:
                socket.settimeout(None)
        except Exception as error:
            raise BrokerAway(f"the queue of events was lost: {error}") from error

    def stored(self, tag: int) -> None:
        """See ``EventSource.stored``."""
        epoch, delivery = tag >> _EPOCH_BITS, tag & ((1 << _EPOCH_BITS) - 1)
        if delivery and epoch == self._epoch and self._channel is not None:
            try:
                self._channel.basic_ack(delivery, multiple=True)
            except Exception as error:
                raise BrokerAway(f"the queue of events was lost: {error}") from error

    def close(self, *, for_good: bool) -> None:
        """See ``EventSource.close``."""
        connection, self._connection = self._connection, None
        channel, self._channel = self._channel, None
        if connection is None:
            return
        if for_good and channel is not None:
            with suppress(Exception):
                channel.queue_delete(self.queue_name)
        with suppress(Exception):
            connection.release()


def event_source(target: Target) -> EventSource:
    """The way in which this cluster's broker lets events be heard."""
    return RedisEvents(target) if target.transport == "redis" else AmqpEvents(target)
