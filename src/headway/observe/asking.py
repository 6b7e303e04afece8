"""Asking workers: Celery's remote control, over one connection, with a reply queue that is always the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from kombu import Connection, Consumer, Producer
from kombu.pidbox import Mailbox
from kombu.utils.uuid import uuid

from headway.model.errors import BrokerAway
from headway.observe.target import Target, keep_hands_off
from headway.ports.clock import Clock

T = TypeVar("T")

_ANSWER_SECONDS: Final = 3.0
# Shorter than any time that an answer is waited for, and longer than a busy machine takes to say that a socket is shut.
_AT_ONCE_SECONDS: Final = 0.6


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

    kombu's own ``Mailbox`` makes and deletes the reply queue around every question, which costs more than the question.

    Args:
        target: the cluster.
        purpose: makes the reply queue's name; two inspectors of one observer must not share it.
        clock: measures how long is waited.
        keep: leave the reply queue for the next question, for as long as all who are expected answer. Who says so calls
            ``rest`` when no question comes for a while.
        answer_seconds: how long the broker itself may take (Redis).
    """

    def __init__(
        self,
        target: Target,
        purpose: str,
        clock: Clock,
        *,
        keep: bool = False,
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> None:
        self._target = target
        self._clock = clock
        self._keep = keep
        self._answer_seconds = answer_seconds
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
        self._queue: Any = None
        self._consumer: Any = None
        self._ticket = ""
        self._answers: dict[str, Any] = {}
        # Whether a reply queue of ours may be at the broker, whoever holds the connection to it.
        self._made = False

    def connect(self) -> None:
        """Be ready to ask, so that the time of a question is not spent on it. Raises ``BrokerAway``."""
        with self._translated("asked"):
            self._open()
            self._listen()

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
        self.connect()
        with self._translated("asked"):
            self._ticket, self._answers = uuid(), {}
            reply_to = {"exchange": self._mailbox.reply_exchange.name, "routing_key": self._mailbox.oid}
            self._send(command, arguments, ticket=self._ticket, reply_to=reply_to)
            complete = self._collect(timeout, expected)
            # Who is missing may have answered where nobody reads any more: somebody emptied a Redis, say.
            if not (complete and self._keep):
                self._remove()
        return self._answers

    def tell(self, command: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Send a command and wait for no answer. Raises ``BrokerAway``."""
        with self._translated("told"):
            self._open()
            self._send(command, arguments)

    def rest(self) -> None:
        """Take the reply queue away until the next question; never raises."""
        if self._consumer is not None:
            with suppress(BrokerAway), self._translated("asked"):
                self._remove()

    def drop(self) -> None:
        """Let the connection go; never raises."""
        connection, self._connection = self._connection, None
        self._channel = self._producer = self._queue = self._consumer = None
        with suppress(Exception):
            if connection is not None:
                connection.release()

    def close(self) -> None:
        """Leave no reply queue behind, if the broker can be reached; never raises."""
        if self._made:
            # To open a connection is to remove what an earlier one left.
            with suppress(BrokerAway), self._translated("asked"):
                self._open()
                self._remove()
        self.drop()

    @contextmanager
    def _translated(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.drop()
            raise BrokerAway(f"the workers could not be {done}: {error}") from error

    def _open(self) -> None:
        if self._connection is not None:
            self._connection.heartbeat_check()
            return
        self._connection = self._target.connection(answer_seconds=self._answer_seconds)
        self._connection.connect()
        self._channel = self._connection.default_channel
        keep_hands_off(self._channel)
        self._producer = Producer(self._channel, auto_declare=False)
        self._queue = self._mailbox.get_reply_queue()(self._channel)
        # RabbitMQ may not know yet that an earlier connection is dead: its consumer would take our answers. On Redis an
        # observer that was killed leaves a binding.
        self._delete()

    def _send(self, command: str, arguments: Mapping[str, Any] | None, **reply: Any) -> None:
        exchange = self._mailbox.exchange
        message = {"method": command, "arguments": dict(arguments or {}), "destination": None,
                   "pattern": None, "matcher": None, **reply}  # fmt: skip
        headers = {"clock": self._mailbox.clock.forward(), "expires": 0}
        # Not tried again by kombu: that would open the connection anew, and forget who listens on it.
        self._producer.publish(message, exchange=exchange.name, declare=[exchange], headers=headers, serializer="json")

    def _listen(self) -> None:
        if self._consumer is None:
            self._made = True
            self._consumer = Consumer(
                self._channel, [self._queue], accept=self._mailbox.accept, no_ack=True, callbacks=[self._answered]
            )
            self._consumer.consume()

    def _collect(self, timeout: float, expected: int) -> bool:
        """Wait for answers; False when the time ended before as many came as are expected."""
        assert self._connection is not None
        count, ends = 0, self._clock.monotonic() + timeout
        while not expected or len(self._answers) < expected:
            left = ends - self._clock.monotonic()
            if left <= 0:
                return False
            try:
                self._connection.drain_events(timeout=left)
            except TimeoutError:
                return False
            if len(self._answers) > count:
                # What answers an earlier question does not prolong this one.
                count, ends = len(self._answers), self._clock.monotonic() + timeout
        return True

    def _answered(self, body: Any, message: Any) -> None:
        # Who answers too late answers an earlier question.
        if message.headers.get("ticket") == self._ticket and isinstance(body, dict):
            self._answers.update((str(node), answer) for node, answer in body.items())

    def _remove(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.cancel()
        self._delete()

    def _delete(self) -> None:
        self._made = True
        if self._target.transport == "redis":
            # kombu removes only those bindings from Redis that this connection made itself.
            self._queue.declare()
        self._queue.delete()
        self._made = False
