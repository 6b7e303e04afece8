"""Deliveries as ordinary Celery messages: the task's own name, the job's id, its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog
from amqp.exceptions import ChannelError, NotFound

from headway.engine.codec import loads
from headway.model.errors import BrokerAway
from headway.model.redact import mask_secrets

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Connection

    from headway.ports.deliveries import Delivery

log = structlog.get_logger("headway.courier")

_ANSWER_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 4.0
_MARK: Final = "headway"
# In canvas by our names; in Celery's message by these.
_EMBEDDED: Final = ("callbacks", "errbacks", "chain")


class CeleryCourier:
    """The ``Courier`` port over kombu. Not thread-safe: one relay has one.

    Args:
        app: an attached application; its queues, routes and transport options hold.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None
        self._producer: Any = None
        self._known: set[str] = set()

    @property
    def label(self) -> str:
        """See ``Courier.label``."""
        with self._app.connection_for_write() as connection:
            return mask_secrets(connection.as_uri())

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """See ``Courier.send``."""
        sent = 0
        try:
            producer = self._open()
            for delivery in deliveries:
                self._there(producer, delivery.queue)
                self._publish(producer, delivery)
                sent += 1
        except Exception as error:
            self.close()
            if not sent:
                raise BrokerAway(f"the broker does not take deliveries: {mask_secrets(str(error))}") from error
            log.warning("courier.interrupted", sent=sent, of=len(deliveries), error=mask_secrets(str(error)))
        return sent

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        """See ``Courier.waiting``."""
        try:
            producer = self._open()
            if self._redis:
                return _in_redis(producer, queues)
            found = _in_amqp(producer, queues)
            # One that is gone is looked for again before anything more is sent to it.
            self._known &= {name for name, count in found.items() if count}
            return found
        except Exception as error:
            self.close()
            raise BrokerAway(f"the broker does not answer: {mask_secrets(str(error))}") from error

    def close(self) -> None:
        """See ``Courier.close``."""
        connection, self._connection, self._producer = self._connection, None, None
        self._known = set()
        with suppress(Exception):
            if connection is not None:
                # Not `release`: it would wait for a broker that does not answer.
                connection.collect(socket_timeout=0.5)

    @property
    def _redis(self) -> bool:
        assert self._connection is not None
        return bool(self._connection.transport.driver_type == "redis")

    def _open(self) -> Any:
        if self._producer is None:
            app = self._app
            options: dict[str, Any] = dict(app.conf.broker_transport_options or {})
            with app.connection_for_write() as named:
                redis = named.transport.driver_type == "redis"
            if redis:
                options |= {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _CONNECT_SECONDS}
                # A connection that is opened anew in the middle of a batch would hide that the broker was away.
                options["retry_on_timeout"] = False
            else:
                options |= {"confirm_publish": True, "read_timeout": _ANSWER_SECONDS, "write_timeout": _ANSWER_SECONDS}
            connection: Any = app.connection_for_write(transport_options=options, connect_timeout=_CONNECT_SECONDS)
            self._connection = connection
            connection.connect()
            self._producer = app.amqp.Producer(connection, auto_declare=False)
        return self._producer

    def _publish(self, producer: Any, delivery: Delivery) -> None:
        canvas: dict[str, Any] = loads(delivery.canvas_json) if delivery.canvas_json else {}
        soft = (canvas.get("timelimit") or (None, None))[1]
        stamps: dict[str, Any] = canvas.get("stamps") or {}
        amqp: Any = self._app.amqp
        message = amqp.as_task_v2(
            delivery.job_id,
            delivery.task,
            loads(delivery.args_json),
            loads(delivery.kwargs_json),
            retries=delivery.celery_retries,
            time_limit=delivery.timeout_seconds or None,
            soft_time_limit=soft,
            root_id=delivery.root_id or delivery.job_id,
            parent_id=delivery.parent_id,
            group_id=canvas.get("group"),
            group_index=canvas.get("group_index"),
            shadow=canvas.get("shadow"),
            argsrepr=canvas.get("argsrepr"),
            kwargsrepr=canvas.get("kwargsrepr"),
            ignore_result=bool(canvas.get("ignore_result")),
            replaced_task_nesting=canvas.get("replaced_task_nesting") or 0,
            stamped_headers=canvas.get("stamped_headers"),
            origin=_MARK,
            **{name: canvas.get(name) for name in _EMBEDDED},
            **stamps,
        )
        headers = {**(canvas.get("headers") or {}), **stamps}
        if delivery.traceparent:
            headers["traceparent"] = delivery.traceparent
        amqp.publish_task(
            producer,
            delivery.task,
            message,
            priority=delivery.priority,
            serializer="json",
            headers=headers,
            # To the queue itself, as it is there: its type and bindings are its workers' to say.
            exchange="",
            exchange_type="none",
            routing_key=delivery.queue,
            declare=[],
            retry=False,
            **(canvas.get("properties") or {}),
        )

    def _there(self, producer: Any, queue: str) -> None:
        """Make sure that RabbitMQ has the queue: what is sent to none is dropped without a word."""
        if queue in self._known or self._redis:
            return
        connection = producer.connection
        channel = connection.channel()
        try:
            channel.queue_declare(queue=queue, passive=True)
        except NotFound:
            # The first to need it declares it, as the application says.
            with connection.channel() as another:
                self._app.amqp.queues[queue](another).declare()
        else:
            channel.close()
        self._known.add(queue)


def _in_redis(producer: Any, queues: Sequence[str]) -> dict[str, int]:
    channel = producer.channel
    keys = [[channel._q_for_pri(name, step) for step in channel.priority_steps] for name in queues]  # noqa: SLF001
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
        for of_queue in keys:
            for key in of_queue:
                pipe.llen(key)
        lengths = iter(pipe.execute(raise_on_error=False))
    counted = {name: [next(lengths) for _ in of_queue] for name, of_queue in zip(queues, keys, strict=True)}
    return {name: sum(found) for name, found in counted.items() if all(isinstance(one, int) for one in found)}


def _in_amqp(producer: Any, queues: Sequence[str]) -> dict[str, int]:
    found = {}
    for name in queues:
        channel = producer.connection.channel()
        try:
            found[name] = int(channel.queue_declare(queue=name, passive=True).message_count)
        except ChannelError:
            # Not there: the broker was set up anew, or it was deleted with what was in it.
            found[name] = 0
        finally:
            with suppress(Exception):
                channel.close()
    return found
