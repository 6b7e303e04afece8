"""Sends of an attached process: stored when the call returns, whatever the broker does. No worker, no broker, no service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from celery import Celery, chain, chord, current_app, group, shared_task
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult, GroupResult

from headway.bootstrap.database import open_store
from headway.bootstrap.managed import attach, release
from headway.config import Settings
from headway.model.commands import ListJobs
from headway.model.errors import IdempotencyConflict, InvalidSettings, NotSerializable, StoreUnavailable
from headway.model.job import Job
from headway.model.states import JobState
from tests.managed.cluster import ROOT
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer

# Nothing listens there.
NO_BROKER = "redis://127.0.0.1:1/0"


def settings_for(registry: str, folder: Path, **more: Any) -> Settings:
    """Settings of a sender."""
    return Settings(job_registry_path=registry, job_backend="celery", data_dir=folder / "data", **more)


def stored(registry: str, folder: Path) -> list[Job]:
    """What the database holds, oldest first: read by somebody else's connection."""
    opened = open_store(settings_for(registry, folder), own=False, upgrade=True)
    try:
        return list(opened.store.read(lambda reader: reader.list_jobs(ListJobs(limit=500))).items)[::-1]
    finally:
        opened.close()


def an_app(registry: str, folder: Path, *, broker: str = NO_BROKER) -> Any:
    """An attached application with a few tasks."""
    app = Celery("sending", broker=broker, backend=NO_BROKER, set_as_current=False)
    attach(app, settings_for(registry, folder))

    @app.task(name="add")
    def add(x: int = 0, y: int = 0) -> int:
        return x + y

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="unmanaged", headway=False)
    def unmanaged() -> None:
        return None

    return app


@pytest.fixture
def app(shared_registry: str, tmp_path: Path) -> Iterator[Any]:
    """One application; its broker refuses connections."""
    made = an_app(shared_registry, tmp_path)
    yield made
    release(made)


def job_of(app: Any, result: Any) -> Job:
    """The record of a result."""
    job = app._headway.door().get(result.id)
    assert job is not None
    found: Job = job
    return found


def test_delay(app: Any) -> None:
    result = app.tasks["add"].delay(1, y=2)
    job = job_of(app, result)
    assert (job.state, job.task, job.args, job.kwargs) == (JobState.QUEUED, "add", [1], {"y": 2})
    assert (job.origin, job.queue, result.state) == ("celery", "celery", "PENDING")


def test_the_options_of_apply_async(app: Any) -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)
    result = app.tasks["add"].apply_async(
        (1, 2),
        eta=eta,
        expires=eta + timedelta(hours=1),
        priority=7,
        queue="wide",
        time_limit=30,
        soft_time_limit=20,
        task_id="mine",
        shadow="a-name",
        headers={"tenant": "x"},
        link=app.tasks["total"].s(),
        link_error=app.tasks["total"].s(),
        stamp="s",
        labels={"who": "me"},
    )
    job = job_of(app, result)
    assert (job.id, job.state, job.priority, job.queue) == ("mine", JobState.SCHEDULED, 7, "wide")
    assert (job.timeout_seconds, job.labels) == (30.0, {"who": "me"})
    assert job.run_at == pytest.approx(eta.timestamp() * 1e6, abs=1)
    assert job.expires_at == pytest.approx((eta.timestamp() + 3600) * 1e6, abs=1)


def test_a_countdown_is_not_yet_due(app: Any) -> None:
    before = time.time()
    job = job_of(app, app.tasks["add"].apply_async(countdown=60))
    assert job.state is JobState.SCHEDULED
    assert job.run_at is not None
    assert before + 59 < job.run_at / 1e6 < time.time() + 61


def test_a_task_that_only_another_application_knows(app: Any) -> None:
    job = job_of(app, app.send_task("elsewhere.work", [1], {"a": 2}, queue="far"))
    assert (job.task, job.args, job.kwargs, job.queue) == ("elsewhere.work", [1], {"a": 2}, "far")


def test_the_pieces_of_a_canvas(app: Any) -> None:
    add, total = app.tasks["add"], app.tasks["total"]
    steps: Any = chain(add.s(1, 1), add.s(2)).apply_async()
    assert job_of(app, steps.parent).state is JobState.QUEUED
    # Its next step is sent by the end of the first.
    assert app._headway.door().get(steps.id) is None
    parts: Any = group(add.s(number, 0) for number in range(3)).apply_async()
    assert [job_of(app, part).args for part in parts] == [[0, 0], [1, 0], [2, 0]]
    body: Any = chord([add.s(1, 1), add.s(2, 2)])(total.s())
    assert job_of(app, body).state is JobState.SCHEDULED
    assert [job_of(app, part).state for part in body.parent] == [JobState.QUEUED] * 2
    for result in (add.map([1, 2]).apply_async(), add.starmap([(1, 2)]).apply_async()):
        assert job_of(app, result).task.startswith("celery.")
    pieces = add.chunks([(1, 2), (3, 4), (5, 6)], 2).apply_async()
    assert len([job_of(app, piece) for piece in pieces]) == 2


def test_an_idempotency_key(app: Any) -> None:
    first = app.tasks["add"].apply_async((1, 2), idempotency_key="once")
    app.tasks["add"].apply_async((1, 2), idempotency_key="once")
    made = [job.id for job in _all(app) if job.submitted_at >= job_of(app, first).submitted_at]
    assert made == [first.id]
    # With an id of the caller's both results are of the one job.
    twice = [app.tasks["add"].apply_async((7,), idempotency_key="named", task_id="named") for _ in range(2)]
    assert [job_of(app, one).args for one in twice] == [[7], [7]]
    with pytest.raises(IdempotencyConflict):
        app.tasks["add"].apply_async((8,), idempotency_key="named")


def _all(app: Any) -> list[Job]:
    ctx = app._headway.door()._door()._services
    return list(ctx.store.read(lambda reader: reader.list_jobs(ListJobs(limit=500))).items)


def test_what_cannot_be_stored_is_refused_at_once(app: Any) -> None:
    with pytest.raises(NotSerializable):
        app.tasks["add"].delay(object())
    before = len(_all(app))
    with pytest.raises(NotSerializable):
        group(app.tasks["add"].s(1), app.tasks["add"].s(object())).apply_async()
    assert len(_all(app)) == before


def test_results_in_the_sender(app: Any) -> None:
    result = app.tasks["add"].delay(1, 1)
    assert app.AsyncResult(result.id).state == "PENDING"
    assert result.children == []
    saved: Any = group(app.tasks["add"].s(1), app.tasks["add"].s(2)).apply_async()
    saved.save()
    assert GroupResult.restore(saved.id, app=app) == saved
    saved.delete()
    assert GroupResult.restore(saved.id, app=app) is None
    result.revoke()
    assert job_of(app, result).state is JobState.CANCELLED
    with pytest.raises(TaskRevokedError):
        result.get(timeout=5)
    result.forget()
    assert app.AsyncResult("nobody").state == "PENDING"


def test_attached_before_it_is_configured_and_twice(shared_registry: str, tmp_path: Path) -> None:
    app: Any = Celery("late", set_as_current=False)
    default = current_app._get_current_object()  # type: ignore[attr-defined]
    settings = settings_for(shared_registry, tmp_path)
    assert attach(attach(app, settings), settings) is app
    app.config_from_object({"broker_url": NO_BROKER, "result_backend": NO_BROKER, "task_default_queue": "late"})
    try:
        assert job_of(app, app.send_task("late.work")).queue == "late"
        assert app.conf.result_backend == NO_BROKER
        assert current_app._get_current_object() is default  # type: ignore[attr-defined]
    finally:
        release(app)


def test_attached_after_it_was_used(shared_registry: str, tmp_path: Path) -> None:
    app: Any = Celery("used", broker=NO_BROKER, backend=NO_BROKER, set_as_current=False)

    @app.task(name="used.add")
    def add() -> None:
        return None

    app.finalize()
    assert app.amqp.queues is not None
    assert type(add.backend).__name__ == "RedisBackend"
    attach(app, settings_for(shared_registry, tmp_path))
    try:
        assert job_of(app, add.delay()).task == "used.add"
    finally:
        release(app)


def test_several_applications_in_one_process(app: Any, shared_registry: str, tmp_path: Path) -> None:
    other = an_app(shared_registry, tmp_path / "other")
    try:
        one, two = app.tasks["add"].delay(1), other.tasks["add"].delay(2)
        assert [job_of(app, two).args, job_of(other, one).args] == [[2], [1]]
        app.close()
        assert job_of(app, app.tasks["add"].delay(3)).args == [3]
    finally:
        release(other)


def test_shared_tasks(app: Any) -> None:
    before = current_app._get_current_object()  # type: ignore[attr-defined]

    @shared_task(name="sending.shared")
    def shared() -> None:
        return None

    app.set_current()
    try:
        assert job_of(app, shared.delay()).task == "sending.shared"
    finally:
        before.set_current()


def test_always_eager_runs_inline_and_says_so(shared_registry: str, tmp_path: Path) -> None:
    app = an_app(shared_registry, tmp_path)
    before = len(stored(shared_registry, tmp_path))
    with structlog.testing.capture_logs() as said:
        app.conf.task_always_eager = True
        attach(app, settings_for(shared_registry, tmp_path))
        assert app.tasks["add"].delay(1, 2).get() == 3
        assert app.tasks["add"].delay(2, 2).get() == 4
    assert [line["event"] for line in said].count("attach.eager") == 1
    assert len(stored(shared_registry, tmp_path)) == before
    release(app)


def test_a_registry_that_cannot_be_shared_is_refused_by_workers_only(tmp_path: Path) -> None:
    from headway.bootstrap.managed import House

    with pytest.raises(InvalidSettings):
        House(Settings(data_dir=tmp_path)).check()


def test_an_opted_out_task_goes_to_the_broker(shared_registry: str, tmp_path: Path, own_valkey: ValkeyServer) -> None:
    app = an_app(shared_registry, tmp_path, broker=own_valkey.url)
    try:
        app.conf.result_backend = own_valkey.url
        result = app.tasks["unmanaged"].delay()
        assert own_valkey.ask("LLEN celery") == ":1"
        assert app._headway.door().get(result.id) is None
    finally:
        release(app)
        app.close()


def test_a_broker_that_is_frozen_costs_nothing(shared_registry: str, tmp_path: Path, own_valkey: ValkeyServer) -> None:
    app = an_app(shared_registry, tmp_path, broker=own_valkey.url)
    try:
        app.tasks["add"].delay(0)
        own_valkey.pause()
        began = time.monotonic()
        results = [app.tasks["add"].delay(number) for number in range(20)]
        # It would wait for its answer for ever; twenty commits take less than this on any disk.
        assert time.monotonic() - began < 5
        assert all(job_of(app, result).state is JobState.QUEUED for result in results)
    finally:
        own_valkey.resume()
        release(app)
        app.close()


KILLED = """
import os, signal
from tests.managed.sender import add, total
from celery import chord
first = add.delay(1, 2).id
body = chord([add.s(1, 1), add.s(2, 2)])(total.s())
print(first, body.id, *[part.id for part in body.parent], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_sender(code: str, registry: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    environment = {**os.environ, "JOB_BACKEND": "celery", "JOB_REGISTRY_PATH": registry}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | more,
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_was_sent_is_there_when_its_sender_is_killed(shared_registry: str, tmp_path: Path) -> None:
    ended = run_sender(KILLED, shared_registry, tmp_path)
    assert ended.returncode == -9, ended.stderr
    jobs = {job.id: job for job in stored(shared_registry, tmp_path)}
    assert [jobs[one].task.rpartition(".")[2] for one in ended.stdout.split()] == ["add", "total", "add", "add"]


def test_a_database_that_is_down_or_frozen(
    own_postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.store.postgres.SILENCE_SECONDS", 1.0)
    monkeypatch.setattr("headway.store.postgres._REACH_SECONDS", 2)
    registry = own_postgres.create_database()
    app = an_app(registry, tmp_path)
    add = app.tasks["add"]
    try:
        kept = [add.delay(0).id]
        own_postgres.stop()
        with pytest.raises(StoreUnavailable) as refused:
            add.delay(1)
        assert refused.value.code == "store_unavailable"
        with pytest.raises(StoreUnavailable):
            group(add.s(2), add.s(3)).apply_async()
        own_postgres.start()
        kept.append(add.delay(4).id)
        own_postgres.pause()
        began = time.monotonic()
        try:
            with pytest.raises(StoreUnavailable):
                add.delay(5)
            assert time.monotonic() - began < 30
        finally:
            own_postgres.resume()
        kept.append(add.delay(6).id)
        found = [json.dumps(job.args) for job in stored(registry, tmp_path)]
        # What was frozen on its way may have been stored: it was not answered.
        assert [one for one in found if one != "[5]"] == ["[0]", "[4]", "[6]"]
        assert AsyncResult(kept[-1], app=app).state == "PENDING"
    finally:
        release(app)
