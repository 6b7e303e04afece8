"""Headway's own Celery application: ordinary, and configured so that nothing is lost on the way to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from kombu import Queue


def own_app(
    *, broker: str | None, default_queue: str, include: Sequence[str], routes: Mapping[str, str], **conf: Any
) -> Celery:
    """Make the application; nothing is connected.

    On RabbitMQ its queues are quorum queues, and what is sent is confirmed.

    Args:
        broker: its URL; None where somebody says it later.
        default_queue: of tasks that name none.
        include: modules that define tasks.
        routes: queues of tasks that have one of their own, by the task's name. Its workers consume these too.
        conf: further settings of Celery.
    """
    app = Celery("headway", set_as_current=False, include=list(include))
    on_rabbitmq = (broker or "").startswith(("amqp", "pyamqp"))
    arguments = {"x-queue-type": "quorum"} if on_rabbitmq else None
    names = dict.fromkeys([default_queue, *routes.values()])
    conf |= {
        "task_default_queue": default_queue,
        "task_queues": [Queue(name, routing_key=name, queue_arguments=arguments) for name in names],
        "task_routes": {task: {"queue": queue} for task, queue in routes.items()},
        "broker_connection_retry_on_startup": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "timezone": "UTC",
    }
    if broker is not None:
        conf["broker_url"] = broker
    if on_rabbitmq:
        conf |= {"broker_transport_options": {"confirm_publish": True}, "worker_detect_quorum_queues": True}
    app.conf.update(conf)
    return app
