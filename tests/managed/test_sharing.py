"""What a process with attached applications shares, and what a purge does: the service runs, no worker does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from headway.bootstrap.managed import attach, release
from headway.client import Client
from headway.config import Settings
from headway.model.states import JobState
from tests.managed.cluster import Managed
from tests.waiting import wait_until

_SECONDS = 20


def _connections(registry: str) -> int:
    with psycopg.connect(registry) as connection:
        others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        found = connection.execute(others).fetchone()
    assert found is not None
    return int(found[0])


def test_applications_of_one_process_share_what_is_opened(postgres_url: str) -> None:
    settings = Settings(job_registry_path=postgres_url, job_backend="celery")
    apps = [attach(Celery(f"app-{number}", broker="memory://"), settings) for number in range(5)]
    assert apps[0].AsyncResult("nobody").state == "PENDING"
    alone = _connections(postgres_url)
    for app in apps:
        assert app.AsyncResult("nobody").state == "PENDING"
    assert _connections(postgres_url) == alone
    for app in apps[1:]:
        release(app)
    assert apps[0].AsyncResult("nobody").state == "PENDING"
    release(apps[0])
    wait_until(lambda: _connections(postgres_url) == 0, what="all to be closed", seconds=_SECONDS)


@pytest.fixture
def app(cluster: Managed) -> Iterator[Celery]:
    """An application of this process, whose broker has no worker."""
    settings = Settings(job_registry_path=cluster.registry, job_backend="celery")
    made = attach(Celery("purging", broker=cluster.broker), settings)
    yield made
    release(made)


def test_purge_cancels_what_is_queued(app: Celery, cluster: Managed, client: Client) -> None:
    def waiting() -> int:
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            size: int = channel._size("celery")
            return size

    def sent(count: int) -> list[str]:
        ids = [app.send_task("tests.managed.app.add", (1, 1)).id for _ in range(count)]
        wait_until(lambda: waiting() == count, what="the relay", seconds=_SECONDS)
        return ids

    # By somebody else: an application knows every queue that it has sent to, and purges these.
    elsewhere = client.submit("tests.managed.app.add", [1, 1], queue="elsewhere").id
    first = sent(3)
    assert app.control.purge() == 3
    assert app.control.purge() == 0
    second = sent(2)
    command = [sys.executable, "-m", "celery", "-A", "tests.managed.app", "purge", "-f"]
    done = subprocess.run(
        command, env=cluster.environment, cwd=cluster.folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert "Purged 2 messages" in done.stdout
    assert {client.get(job_id).state for job_id in first + second} == {JobState.CANCELLED}
    assert client.get(elsewhere).state is JobState.QUEUED
    assert waiting() == 0


def test_a_process_runs_one_worker_after_another(cluster: Managed, client: Client) -> None:
    settings = Settings(job_registry_path=cluster.registry, job_backend="celery")
    one, other = (attach(Celery(name, broker=cluster.broker), settings) for name in ("one", "other"))
    names = set()
    for app in (one, one, other):
        app.conf.broker_connection_retry_on_startup = True
        double = app.task(_double, name="test.double")
        with start_worker(app, pool="solo", perform_ping_check=False):
            result = double.delay(4)
            assert result.get(timeout=_SECONDS) == 8
            names.add(client.get(result.id).worker_id)
        # Without a worker the application still sends and reads.
        assert result.state == "SUCCESS"
        double.delay(4)
        app.control.purge()
    assert len(names) == 3
    release(one)
    release(other)


def _double(number: int) -> int:
    return 2 * number
