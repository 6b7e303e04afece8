"""A Django project with an attached application: its own database and Headway's registry are two, and stay apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.model.states import JobState
from tests.managed.cluster import ROOT
from tests.managed.test_sending import stored
from tests.servers.postgres import ExternalPostgres, PostgresServer, drop_database

PROJECT = """
import json, os, sys
from urllib.parse import urlsplit

import django
from celery import Celery
from django.conf import settings

url = urlsplit(os.environ["DJANGO_DATABASE"])
settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
        "PASSWORD": url.password or "", "HOST": url.hostname, "PORT": url.port,
    }},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    CELERY_BROKER_URL="redis://127.0.0.1:1/0",
    CELERY_TASK_DEFAULT_QUEUE="django",
    USE_TZ=True,
)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project")
sys.modules["project"] = sys.modules["__main__"]
import headway

app = Celery("project")
headway.attach(app)
app.config_from_object("django.conf:settings", namespace="CELERY")
django.setup()

from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection, transaction
from headway.model.commands import ListJobs

call_command("migrate", verbosity=0)

@app.task
def greet(name):
    return name

said = {}
class Undone(Exception):
    pass

with transaction.atomic():
    Group.objects.create(name="kept")
    said["atomic"] = greet.delay("kept").id
    # It is there before Django's transaction ends, by another connection.
    said["seen"] = app._headway.door().get(said["atomic"]) is not None

try:
    with transaction.atomic():
        Group.objects.create(name="undone")
        said["rolled_back"] = greet.delay("undone").id
        greet.delay_on_commit("never")
        raise Undone
except Undone:
    pass

with transaction.atomic():
    Group.objects.create(name="later")
    greet.delay_on_commit("on commit")
    store = app._headway.door()._door()._services.store
    jobs = store.read(lambda reader: reader.list_jobs(ListJobs())).items
    said["before_commit"] = sum(job.args == ["on commit"] for job in jobs)

# Django's row is locked meanwhile: nobody waits for it.
with transaction.atomic():
    Group.objects.select_for_update().get(name="kept")
    said["locked"] = greet.delay("locked").id

said["groups"] = sorted(Group.objects.values_list("name", flat=True))
with connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM information_schema.tables WHERE table_name = 'jobs'")
    said["tables_of_ours"] = cursor.fetchone()[0]
print(json.dumps(said))
"""


@pytest.fixture
def django_database(postgres_server: PostgresServer | ExternalPostgres) -> Iterator[str]:
    """Django's own database."""
    url = postgres_server.create_database()
    yield url
    drop_database(url)


def test_sends_around_an_open_transaction(shared_registry: str, django_database: str, tmp_path: Path) -> None:
    environment = {**os.environ, "JOB_REGISTRY_PATH": shared_registry, "DJANGO_DATABASE": django_database}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", PROJECT],
        env=environment,
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    jobs = {job.args[0]: job for job in stored(shared_registry, tmp_path)}
    # `delay` is a job at once, whatever becomes of Django's transaction; `delay_on_commit` is one if it commits.
    assert sorted(jobs) == ["kept", "locked", "on commit", "undone"]
    assert said["seen"]
    assert said["before_commit"] == 0
    assert (jobs["kept"].id, jobs["undone"].id) == (said["atomic"], said["rolled_back"])
    assert {job.state for job in jobs.values()} == {JobState.QUEUED}
    assert {job.queue for job in jobs.values()} == {"django"}
    assert said["groups"] == ["kept", "later"]
    assert said["tables_of_ours"] == 0
