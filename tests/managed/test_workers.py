"""What a managed worker does with ordinary tasks, in each pool: the states, results and records of the embedded engine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import ChordError, SoftTimeLimitExceeded, TimeLimitExceeded

from headway.bootstrap.managed import attach, release
from headway.client import Client
from headway.config import Settings
from headway.model.errors import TransitionConflict
from headway.model.states import AttemptOutcome, JobState
from tests.managed import app as tasks
from tests.managed.cluster import Managed, Part
from tests.servers.own import running_valkey
from tests.waiting import wait_until

SECONDS = 20.0


class Running:
    """A cluster that runs, and ways to it."""

    def __init__(self, cluster: Managed, service: Part, worker: Part, pool: str) -> None:
        self.cluster = cluster
        self.worker = worker
        self.pool = pool
        self.client = service.client()

    def wait(self, job_id: str, state: JobState = JobState.SUCCEEDED) -> Any:
        """The ended job."""
        job = self.client.wait(job_id, SECONDS)
        assert job.state is state, (job.state, job.error)
        return job


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test in every pool, or in those that its marker names."""
    if "running" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("pools")
        pools = marker.args if marker is not None else ("prefork", "threads", "solo")
        metafunc.parametrize("running", pools, indirect=True, scope="module")


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, shared_registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One cluster for the file: a service, and a worker of the pool."""
    folder = tmp_path_factory.mktemp(request.param)
    with running_valkey() as valkey:
        cluster = Managed(folder, shared_registry, f"{valkey.url}")
        slots = "1" if request.param == "solo" else "2"
        options = ("--pool", request.param, "-c", slots)
        with cluster.service() as service, cluster.worker(*options, name=request.param) as worker:
            settings = Settings(job_registry_path=shared_registry, job_backend="celery", data_dir=folder / "sender")
            tasks.app.conf.update(broker_url=cluster.broker, broker_read_url=None, broker_write_url=None)
            attach(tasks.app, settings)
            made = Running(cluster, service, worker, request.param)
            yield made
            made.client.close()
            release(tasks.app)
            tasks.app.close()
            # What it knows of this cluster's broker must not be used for the next one's.
            amqp: Any = tasks.app.amqp
            amqp._producer_pool = None


def test_delay_and_get(running: Running) -> None:
    result = tasks.add.delay(2, 3)
    assert result.get(timeout=SECONDS) == 5
    job = running.client.get(result.id)
    assert (job.state, job.origin, job.attempts, job.task) == (JobState.SUCCEEDED, "celery", 1, "tests.managed.app.add")
    assert job.worker_id is not None
    assert job.worker_id.startswith(running.pool)
    assert [attempt.outcome for attempt in running.client.attempts(result.id)] == [AttemptOutcome.SUCCEEDED]


def test_a_job_of_the_api(running: Running) -> None:
    job = running.client.submit("tests.managed.app.add", [20, 22])
    running.wait(job.id)
    assert running.client.result(job.id) == 42


def test_what_an_attempt_knows_of_itself(running: Running) -> None:
    result = tasks.who.delay()
    found = result.get(timeout=SECONDS)
    assert found["id"] == found["request_id"] == found["root_id"] == result.id
    assert (found["attempt"], found["fence"], found["queue"]) == (1, 1, "celery")
    assert found["hostname"].startswith(running.pool)
    mine = found["pid"] == running.worker.main.pid
    assert mine == (running.pool != "prefork")


def test_a_failure_keeps_its_exception_and_traceback(running: Running) -> None:
    result = tasks.boom.delay("no good")
    with pytest.raises(ValueError, match="no good"):
        result.get(timeout=SECONDS)
    job = running.client.get(result.id)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert (job.error.code, job.error.exc_type) == ("task_failed", "ValueError")
    assert job.error.traceback is not None
    assert "boom" in job.error.traceback


def test_the_tasks_own_retries(running: Running) -> None:
    result = tasks.flaky.delay(2)
    assert result.get(timeout=SECONDS) == 2
    outcomes = [attempt.outcome for attempt in running.client.attempts(result.id)]
    assert outcomes == [AttemptOutcome.RETRIED, AttemptOutcome.RETRIED, AttemptOutcome.SUCCEEDED]
    stubborn = tasks.stubborn.delay()
    with pytest.raises(OSError, match="still broken"):
        stubborn.get(timeout=SECONDS)
    assert len(running.client.attempts(stubborn.id)) == 3


def test_the_jobs_own_retries(running: Running) -> None:
    job = running.client.submit("tests.managed.app.boom", max_retries=2)
    running.wait(job.id, JobState.FAILED)
    assert [attempt.outcome for attempt in running.client.attempts(job.id)] == [AttemptOutcome.FAILED] * 3


def test_progress_and_log_of_a_running_job(running: Running) -> None:
    job = running.client.submit("tests.managed.app.steps", [60])
    wait_until(lambda: running.client.get(job.id).progress is not None, what="progress", seconds=SECONDS)
    seen = running.client.get(job.id)
    if seen.state is JobState.RUNNING:
        assert seen.progress is not None
        assert seen.progress.total == 60
    running.wait(job.id)
    assert [line.text for line in running.client.logs(job.id)] == ["all steps done"]


def test_a_running_job_stops_when_it_is_asked(running: Running) -> None:
    job = running.client.submit("tests.managed.app.steps", [1_000_000])
    wait_until(lambda: running.client.get(job.id).progress is not None, what="it to run", seconds=SECONDS)
    running.client.cancel(job.id)
    ended = running.wait(job.id, JobState.CANCELLED)
    assert ended.error is not None
    assert ended.error.code == "cancelled"
    # It stopped by itself: the worker is whole, and takes the next job.
    assert tasks.add.delay(1, 1).get(timeout=SECONDS) == 2


def test_a_job_that_was_cancelled_before_its_start_never_starts(running: Running) -> None:
    busy = [running.client.submit("tests.managed.app.nap", [0.6]) for _ in range(2)]
    waiting = running.client.submit("tests.managed.app.add", [1, 1])
    running.client.cancel(waiting.id)
    for job in busy:
        running.wait(job.id)
    assert running.client.get(waiting.id).state is JobState.CANCELLED
    assert running.client.attempts(waiting.id) == []
    with pytest.raises(TransitionConflict):
        running.client.cancel(waiting.id)


def test_a_chain_and_a_group(running: Running) -> None:
    from celery import chain, group

    assert chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4)).delay().get(timeout=SECONDS) == 10
    assert group(tasks.add.s(n, n) for n in range(5)).delay().get(timeout=SECONDS) == [0, 2, 4, 6, 8]


@pytest.mark.pools("solo")
def test_the_most_urgent_begins_first(running: Running) -> None:
    busy = running.client.submit("tests.managed.app.nap", [4.0])
    wait_until(lambda: running.client.get(busy.id).state is JobState.RUNNING, what="it to run", seconds=SECONDS)
    jobs = []
    for priority in (0, 4, 9):
        jobs.append(running.client.submit("tests.managed.app.add", [1, 1], priority=priority).id)
        wait_until(lambda: _unsent(running.client) == 0, what="it to be sent", seconds=SECONDS)
    assert running.client.get(busy.id).state is JobState.RUNNING, "it should have taken longer"
    begun = {job_id: running.wait(job_id).started_at for job_id in jobs}
    assert sorted(jobs, key=lambda job_id: begun[job_id]) == jobs[::-1]


def _unsent(client: Client) -> int:
    return sum(int(queue["jobs"]["unsent"]) for queue in client.queues() if queue["jobs"] is not None)


def test_chords_and_replacement(running: Running) -> None:
    from celery import chord, group

    assert chord([tasks.add.s(n, 1) for n in range(4)])(tasks.total.s()).get(timeout=SECONDS) == 10
    nested = chord([chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s()), tasks.add.s(3, 3)], tasks.total.s())
    assert nested.delay().get(timeout=SECONDS) == 12
    assert tasks.becomes.delay("chain").get(timeout=SECONDS) == 6
    assert tasks.becomes.delay("group").get(timeout=SECONDS) == [2, 4]
    broken = chord(group(tasks.add.s(1, 1), tasks.boom.s("in the header")), tasks.total.s()).delay()
    with pytest.raises(ChordError, match="in the header"):
        # By its id: Celery's own result of a chord raises what its header raised.
        tasks.app.AsyncResult(broken.id).get(timeout=SECONDS)


def test_a_countdown_is_a_due_row(running: Running) -> None:
    result = tasks.add.apply_async((1, 2), countdown=0.5)
    assert running.client.get(result.id).state is JobState.SCHEDULED
    assert result.get(timeout=SECONDS) == 3


def test_what_a_body_sends_is_recorded_with_its_parent(running: Running) -> None:
    result = tasks.sends.delay(2)
    ids = result.get(timeout=SECONDS)
    for job_id in ids:
        job = running.wait(job_id)
        assert (job.parent_id, job.root_id) == (result.id, result.id)


@pytest.mark.pools("prefork")
def test_a_task_that_opted_out_is_no_job(running: Running) -> None:
    result = tasks.plain.delay(4)
    wait_until(lambda: f"plain[{result.id}] succeeded" in running.worker.said(), what="it to run", seconds=SECONDS)
    from headway.model.errors import JobNotFound

    with pytest.raises(JobNotFound):
        running.client.get(result.id)


def test_a_message_of_somebody_who_is_not_attached_is_adopted(running: Running, tmp_path: Path) -> None:
    from celery import Celery

    foreign = Celery("foreign", broker=running.cluster.broker, set_as_current=False)
    sent = foreign.send_task("tests.managed.app.add", (5, 6), queue="celery")
    foreign.close()
    wait_until(lambda: _known(running.client, sent.id), what="it to be adopted", seconds=SECONDS)
    job = running.wait(sent.id)
    assert (job.origin, running.client.result(sent.id)) == ("external", 11)


def _known(client: Client, job_id: str) -> bool:
    from headway.model.errors import JobNotFound

    try:
        client.get(job_id)
    except JobNotFound:
        return False
    return True


@pytest.mark.pools("prefork")
@pytest.mark.parametrize("limit", ["soft", "hard"])
def test_time_limits(running: Running, limit: str) -> None:
    result = getattr(tasks, limit).delay()
    job = running.wait(result.id, JobState.FAILED if limit == "soft" else JobState.TIMEOUT)
    assert job.error is not None
    with pytest.raises(SoftTimeLimitExceeded if limit == "soft" else TimeLimitExceeded):
        result.get(timeout=SECONDS)


@pytest.mark.pools("prefork")
def test_a_timeout_kills_the_child_and_nothing_else(running: Running) -> None:
    children = {child.pid for child in running.worker.children()}
    job = running.client.submit("tests.managed.app.nap", [30], timeout_seconds=0.5)
    ended = running.wait(job.id, JobState.TIMEOUT)
    assert ended.error is not None
    assert ended.error.code == "timeout"
    wait_until(lambda: {c.pid for c in running.worker.children()} - children, what="another child", seconds=SECONDS)
    assert tasks.add.delay(1, 1).get(timeout=SECONDS) == 2


@pytest.mark.pools("prefork")
def test_a_cancel_kills_what_does_not_stop(running: Running) -> None:
    job = running.client.submit("tests.managed.app.nap", [30])
    wait_until(lambda: running.client.get(job.id).state is JobState.RUNNING, what="it to run", seconds=SECONDS)
    running.client.cancel(job.id)
    running.wait(job.id, JobState.CANCELLED)
    assert tasks.add.delay(1, 1).get(timeout=SECONDS) == 2


@pytest.mark.pools("prefork")
def test_a_child_that_dies_gives_its_job_to_another(running: Running, tmp_path: Path) -> None:
    job = running.client.submit("tests.managed.app.die", [int(signal.SIGKILL), str(tmp_path / "once")])
    running.wait(job.id)
    assert running.client.result(job.id) == "survived"
    attempts = running.client.attempts(job.id)
    assert [attempt.outcome for attempt in attempts] == [AttemptOutcome.ABANDONED, AttemptOutcome.SUCCEEDED]


@pytest.mark.pools("prefork", "threads")
def test_revoking_is_cancelling(running: Running) -> None:
    result = tasks.nap.delay(30)
    wait_until(lambda: running.client.get(result.id).state is JobState.RUNNING, what="it to run", seconds=SECONDS)
    result.revoke(terminate=True)
    running.wait(result.id, JobState.CANCELLED)
