"""Headway's own Celery application, from the settings."""

from __future__ import annotations

from typing import Any

from headway.bootstrap.managed import attach
from headway.bootstrap.workloads import workload
from headway.config import Settings, load_settings
from headway.engine.celery.own_app import own_app


def make_celery_app(settings: Settings | None = None) -> Any:
    """The application with the tasks that come with Headway, managed.

    Tasks that run long and in great numbers have queues of their own, which its workers consume unless ``-Q`` says
    otherwise.

    Args:
        settings: what the environment and the working folder say if None.
    """
    settings = settings or load_settings()
    work = workload()
    app = own_app(
        broker=settings.celery_broker_url or settings.redis_url,
        default_queue=settings.celery_queue_name,
        include=["headway.engine.builtin", *work.task_modules],
        routes=work.queues,
        task_always_eager=settings.celery_task_always_eager,
        task_eager_propagates=settings.celery_task_eager_propagates,
        worker_concurrency=settings.celery_worker_concurrency,
    )
    return attach(app, settings)
