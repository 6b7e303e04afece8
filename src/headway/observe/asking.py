"""Asking workers: Celery's remote control, over one connection, with a reply queue that is always the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from kombu import Connection, Consumer, Producer
from kombu.pidbox import Mailbox
from kombu.utils.uuid import uuid

from headway.model.errors import BrokerAway
from headway.observe.target import Target, keep_hands_off
from headway.ports.clock import Clock

T = TypeVar("T")

_ANSWER_SECONDS: Final = 3.0
_AT_ONCE_SECONDS: Final = 0.2


def at_once(clock: Clock, ask: Callable[[], T]) -> T:
    """Ask once more where the first refusal came at once: so does that of a connection that was cut while idle."""
    begun = clock.monotonic()
    try:
        return ask()
    except BrokerAway:
        if clock.monotonic() - begun > _AT_ONCE_SECONDS:
            raise
    return ask()


class _NamedMailbox(Mailbox):
    """A mailbox whose replies arrive under a name of ours: what a killed observer left is found and removed."""

    fixed = ""

    @property
    def oid(self) -> str:
        return self.fixed


class Inspector:
    """Asks all workers of a cluster; used by one thread.

    kombu's own ``Mailbox`` makes and deletes the reply queue around every question, which costs more than the
    question. Here it stays for as long as everybody who is expected answers.

    Args:
        target: the cluster.
        purpose: makes the reply queue's name; two inspectors of one observer must not share it.
    """

    def __init__(self, target: Target, purpose: str) -> None:
        self._target = target
        conf: Any = target.app.conf
        self._mailbox: Any = _NamedMailbox(
            conf.control_exchange,
            type="fanout",
            accept=conf.accept_content,
            serializer="json",
            queue_ttl=conf.control_queue_ttl,
            reply_queue_ttl=conf.control_queue_ttl,
            reply_queue_expires=conf.control_queue_expires,
        )
        self._mailbox.fixed = f"headway-{purpose}-{target.observer_id}"
        self._connection: Connection | None = None
        self._channel: Any = None
        self._producer: Any = None
        self._consumer: Any = None
        self._ticket = ""
        self._answers: dict[str, Any] = {}

    def ask(
        self, command: str, *, timeout: float, expected: int = 0, arguments: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What each worker answers to a command of Celery's remote control.

        Args:
            command: for example ``active``.
            timeout: seconds to wait for the next answer.
            expected: return as soon as so many have answered; 0 waits the whole time for any more.
            arguments: of the command.

        Returns:
            Node name to answer; empty when nobody answered.

        Raises:
            BrokerAway: the broker does not answer.
        """
        try:
            connection = self._open()
            self._listen()
            self._ticket, self._answers = uuid(), {}
            reply_to = {"exchange": self._mailbox.reply_exchange.name, "routing_key": self._mailbox.oid}
            self._send(command, arguments, ticket=self._ticket, reply_to=reply_to)
            try:
                while not expected or len(self._answers) < expected:
                    connection.drain_events(timeout=timeout)
            except TimeoutError:
                # Nobody is left, or the way back is gone, as it is after somebody emptied a Redis.
                self._listen_no_more()
        except Exception as error:
            self.drop()
            raise BrokerAway(f"the workers could not be asked: {error}") from error
        return self._answers

    def tell(self, command: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Send a command and wait for no answer. Raises ``BrokerAway``."""
        try:
            self._open()
            self._send(command, arguments)
        except Exception as error:
            self.drop()
            raise BrokerAway(f"the workers could not be told: {error}") from error

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._target.connection(answer_seconds=_ANSWER_SECONDS)
            self._connection.connect()
            self._channel = self._connection.default_channel
            keep_hands_off(self._channel)
            self._producer = Producer(self._channel, auto_declare=False)
        else:
            self._connection.heartbeat_check()
        return self._connection

    def _send(self, command: str, arguments: Mapping[str, Any] | None, **reply: Any) -> None:
        exchange = self._mailbox.exchange
        message = {"method": command, "arguments": dict(arguments or {}), "destination": None,
                   "pattern": None, "matcher": None, **reply}  # fmt: skip
        headers = {"clock": self._mailbox.clock.forward(), "expires": 0}
        # Not tried again by kombu: that would open the connection anew, and forget who listens on it.
        self._producer.publish(message, exchange=exchange.name, declare=[exchange], headers=headers, serializer="json")

    def _listen(self) -> None:
        if self._consumer is None:
            queue = self._mailbox.get_reply_queue()
            self._consumer = Consumer(
                self._channel, [queue], accept=self._mailbox.accept, no_ack=True, callbacks=[self._answered]
            )
            self._consumer.consume()

    def _listen_no_more(self) -> None:
        consumer, self._consumer = self._consumer, None
        consumer.cancel()
        # RabbitMQ deletes the queue with its last consumer, on Redis we do.
        self._channel.after_reply_message_received(consumer.queues[0].name)

    def _answered(self, body: Any, message: Any) -> None:
        # Who answers too late answers an earlier question.
        if message.headers.get("ticket") == self._ticket and isinstance(body, dict):
            self._answers.update((str(node), answer) for node, answer in body.items())

    def drop(self) -> None:
        """Let the connection go; never raises."""
        connection, self._connection = self._connection, None
        self._channel = self._producer = self._consumer = None
        with suppress(Exception):
            if connection is not None:
                connection.release()

    def close(self) -> None:
        """Leave no reply queue behind; never raises."""
        if self._channel is not None:
            with suppress(Exception):
                self._mailbox.get_reply_queue()(self._channel).delete()
        self.drop()
