"""`-A` on what people have: a Celery application, a Django project, one that names a broker."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from headway.client import Client
from headway.model.states import JobState
from tests.acceptance.ten_minutes.conftest import Desk

PLAIN = """
from celery import Celery, chain

app = Celery("proj")

@app.task
def add(a, b):
    return a + b

@app.task(bind=True, max_retries=3)
def tries(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=0.05)
    return self.request.retries

@app.task
def sends():
    return chain(add.s(1, 2), add.s(10)).delay().id
"""


def test_a_plain_celery_application(desk: Desk) -> None:
    desk.write("proj.py", PLAIN)
    with desk.up("-A", "proj") as running, Client(running.ready()) as client:
        assert client.wait(client.submit("proj.add", [1, 2]).id, 30).state is JobState.SUCCEEDED
        ended = client.wait(client.submit("proj.tries", [2]).id, 30)
        assert (ended.state, ended.attempts, client.result(ended.id)) == (JobState.SUCCEEDED, 3, 2)
        last = client.result(client.wait(client.submit("proj.sends").id, 30).id)
        assert client.wait(last, 30).state is JobState.SUCCEEDED
        assert client.result(last) == 13


@pytest.fixture
def broker() -> Iterator[socket.socket]:
    """A port that answers like a broker that is up; whoever dials it is heard."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_an_application_with_a_broker_that_answers(desk: Desk, broker: socket.socket) -> None:
    port = broker.getsockname()[1]
    _refuses_then_runs_without_dialling(desk, f"redis://:pass-word@127.0.0.1:{port}/0")


def test_an_application_with_a_broker_that_does_not_answer(desk: Desk) -> None:
    _refuses_then_runs_without_dialling(desk, "amqp://guest:pass-word@127.0.0.1:1//")


def _refuses_then_runs_without_dialling(desk: Desk, url: str) -> None:
    backend = url.replace("amqp://", "redis://")
    desk.write("live.py", PLAIN.replace('Celery("proj")', f'Celery("live", broker="{url}", backend="{backend}")'))
    ran = desk.run("up", "-A", "live", "--port", "0")
    assert ran.returncode == 1
    assert "error [invalid_settings]" in ran.stderr
    assert "headway up --engine thread" in ran.stderr
    assert "pass-word" not in ran.stderr + ran.stdout
    with desk.up("-A", "live", "--engine", "thread") as running, Client(running.ready()) as client:
        last = client.result(client.wait(client.submit("live.sends").id, 30).id)
        assert client.wait(last, 30).state is JobState.SUCCEEDED
        assert client.result(last) == 13
        assert "pass-word" not in running.said


SETTINGS = """
SECRET_KEY = "for a test"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.db"}}
USE_TZ = True
CELERY_TASK_DEFAULT_QUEUE = "orders"
"""
DJANGO_APP = """
import os
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")
app = Celery("site_")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
DJANGO_TASKS = """
from celery import shared_task
from django.db import connection
from shop.models import Order

@shared_task
def place(name):
    with connection.schema_editor() as editor:
        editor.create_model(Order)
    Order.objects.create(name=name)
    return Order.objects.count()

@shared_task(bind=True)
def queue_of(self):
    return self.request.delivery_info["routing_key"]
"""


def _django(desk: Desk, settings: str) -> None:
    desk.write("site_/__init__.py", "from site_.celery import app as celery_app\n__all__ = ('celery_app',)\n")
    desk.write("site_/settings.py", settings)
    desk.write("site_/celery.py", DJANGO_APP)
    desk.write("shop/__init__.py", "")
    desk.write(
        "shop/models.py", "from django.db import models\nclass Order(models.Model):\n    name = models.TextField()\n"
    )
    desk.write("shop/tasks.py", DJANGO_TASKS)
    desk.write(
        "order.py",
        "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'site_.settings'\ndjango.setup()\n"
        "from shop.tasks import queue_of\nprint(queue_of.delay().id)\n",
    )


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_django_project(desk: Desk, isolation: str) -> None:
    _django(desk, SETTINGS)
    with (
        desk.up("-A", "site_", env={"HEADWAY_ISOLATION": isolation}) as running,
        Client(running.ready()) as client,
    ):
        placed = client.wait(client.submit("shop.tasks.place", ["tea"]).id, 60)
        assert placed.state is JobState.SUCCEEDED, placed.error
        assert client.result(placed.id) == 1
        queued = client.wait(client.submit("shop.tasks.queue_of").id, 30)
        assert (queued.queue, client.result(queued.id)) == ("orders", "orders")


def test_a_django_project_with_a_broker(desk: Desk, broker: socket.socket) -> None:
    port = broker.getsockname()[1]
    _django(desk, f"{SETTINGS}CELERY_BROKER_URL = 'redis://:pass-word@127.0.0.1:{port}/0'\n")
    ran = desk.run("up", "-A", "site_", "--port", "0")
    assert ran.returncode == 1
    assert "headway up --engine thread" in ran.stderr
    assert "pass-word" not in ran.stderr
    with desk.up("-A", "site_", "--engine", "thread") as running, Client(running.ready()) as client:
        assert client.wait(client.submit("shop.tasks.queue_of").id, 30).state is JobState.SUCCEEDED


def test_a_taken_port(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with desk.start("up", "--port", str(port)) as running:
            assert running.ready() != f"http://127.0.0.1:{port}"
            assert f"Port {port} is taken; using " in running.said
