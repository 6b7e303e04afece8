"""Managed workers on RabbitMQ: the application's classic queue, and the quorum queues of Headway's own application."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
from amqp.exceptions import PreconditionFailed

from headway.client import Client
from headway.model.commands import SubmitJob
from headway.model.states import JobState
from tests.managed.cluster import Managed
from tests.servers.own import running_rabbitmq
from tests.servers.rabbitmq import RabbitServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.shares_processes]

SECONDS = 40.0


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    """A RabbitMQ for the file."""
    with running_rabbitmq() as server:
        yield server


def _ended(client: Client, ids: list[str]) -> list[str]:
    states = [client.get(job_id).state for job_id in ids]
    return [str(state) for state in states if state is not JobState.SUCCEEDED]


def _is_quorum(rabbit: RabbitServer, queue: str) -> bool:
    """Whether RabbitMQ refuses to take it for a classic one."""
    with kombu.Connection(rabbit.url) as connection:
        channel: Any = connection.channel()
        try:
            channel.queue_declare(queue=queue, durable=True, auto_delete=False, arguments={"x-queue-type": "classic"})
        except PreconditionFailed:
            return True
        return False


def test_an_applications_own_queue_and_a_broker_that_restarts(
    rabbit: RabbitServer, shared_registry: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cluster = Managed(tmp_path_factory.mktemp("rabbit"), shared_registry, rabbit.url)
    with (
        cluster.service() as service,
        cluster.worker("-c", "2", name="rabbit"),
        service.client() as client,
    ):
        ids = list(client.submit_batch([SubmitJob("tests.managed.app.work", [0.05]) for _ in range(60)]))
        wait_until(lambda: _ended(client, ids[:5]) == [], what="the first to end", seconds=SECONDS)
        rabbit.restart()
        ids += client.submit_batch([SubmitJob("tests.managed.app.work", [0.0]) for _ in range(10)])
        wait_until(lambda: _ended(client, ids) == [], what="all to end", seconds=SECONDS, every=0.2)
        assert all(len(client.attempts(job_id)) == 1 for job_id in ids)


@pytest.mark.long
def test_quorum_queues_of_our_own_application(
    rabbit: RabbitServer, shared_registry: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("quorum")
    cluster = Managed(
        folder, shared_registry, rabbit.url, {"CELERY_BROKER_URL": rabbit.url, "CELERY_QUEUE_NAME": "headway"}
    )
    with (
        cluster.service(app=None) as service,
        cluster.worker("-c", "2", name="own", app=None),
        service.client() as client,
    ):
        ids = [client.submit("headway.demo", [2]).id for _ in range(5)]
        wait_until(lambda: _ended(client, ids) == [], what="all to end", seconds=SECONDS, every=0.2)
        assert client.get(ids[0]).queue == "headway"
        assert _is_quorum(rabbit, "headway")
        # A restart loses nothing of them either.
        ids += [client.submit("headway.demo", [1]).id for _ in range(20)]
        rabbit.restart()
        began = time.monotonic()
        wait_until(lambda: _ended(client, ids) == [], what="all to end", seconds=SECONDS, every=0.2)
        assert time.monotonic() - began < SECONDS
