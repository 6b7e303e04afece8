"""Messages of producers that are not attached: adopted as jobs, and their ends told where those producers look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError, TimeLimitExceeded

from headway.client import Client
from headway.model.errors import JobNotFound
from headway.model.states import JobState
from tests.managed.cluster import Managed, Part
from tests.servers.own import running_valkey
from tests.waiting import wait_until

SECONDS = 20.0
NAME = "tests.managed.foreign_app."


class Foreign:
    """A cluster with a worker, and an application that knows nothing of Headway."""

    def __init__(self, cluster: Managed, client: Client, worker: Part) -> None:
        self.cluster = cluster
        self.client = client
        self.worker = worker
        self.app: Any = Celery("producer", broker=cluster.broker, backend=cluster.broker, set_as_current=False)

    def sig(self, name: str, *args: Any, **options: Any) -> Any:
        """A signature of a task of the workers."""
        return self.app.signature(NAME + name, args, app=self.app, **options)

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        """Send one message; its result."""
        return self.app.send_task(NAME + name, args, **options)


@pytest.fixture(scope="module")
def foreign(shared_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    """One cluster for the file."""
    with running_valkey() as valkey:
        cluster = Managed(tmp_path_factory.mktemp("foreign"), shared_registry, valkey.url)
        app = "tests.managed.foreign_app"
        with (
            cluster.service(app=app) as service,
            cluster.worker("--pool", "prefork", "-c", "2", app=app) as worker,
            service.client() as client,
        ):
            made = Foreign(cluster, client, worker)
            yield made
            # A result unsubscribes when it is collected. With the server gone it would look for it for twenty seconds, in
            # whatever test runs then.
            consumer = made.app.backend.result_consumer
            consumer.stop()
            consumer._pubsub = None
            made.app.close()


def test_a_result(foreign: Foreign) -> None:
    result = foreign.send("add", 2, 3)
    assert result.get(timeout=SECONDS) == 5
    job = foreign.client.get(result.id)
    assert (job.state, job.origin, job.attempts) == (JobState.SUCCEEDED, "external", 1)


def test_a_failure(foreign: Foreign) -> None:
    result = foreign.send("boom")
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=SECONDS)
    assert "ValueError" in result.traceback
    assert foreign.client.get(result.id).state is JobState.FAILED


def test_a_result_after_retries(foreign: Foreign) -> None:
    result = foreign.send("flaky", 2)
    assert result.get(timeout=SECONDS) == 2
    assert foreign.client.get(result.id).attempts == 3


def test_a_task_that_becomes_a_chain(foreign: Foreign) -> None:
    assert foreign.send("becomes").get(timeout=SECONDS) == 6


def test_what_is_killed(foreign: Foreign) -> None:
    result = foreign.send("hard")
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=SECONDS)
    assert foreign.client.get(result.id).state is JobState.TIMEOUT


def test_a_chain(foreign: Foreign) -> None:
    result: Any = chain(foreign.sig("add", 1, 2), foreign.sig("add", 3), foreign.sig("add", 4)).apply_async()
    assert result.get(timeout=SECONDS) == 10
    assert result.parent.get(timeout=SECONDS) == 6


def test_a_chain_that_breaks(foreign: Foreign) -> None:
    result: Any = chain(foreign.sig("boom"), foreign.sig("add", 3)).apply_async()
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=SECONDS)


def test_a_group(foreign: Foreign) -> None:
    result = group(foreign.sig("add", number, number) for number in range(5)).apply_async()
    assert result.get(timeout=SECONDS) == [0, 2, 4, 6, 8]


def test_a_chord(foreign: Foreign) -> None:
    parts = [foreign.sig("add", 1, 1), chain(foreign.sig("add", 2, 2), foreign.sig("add", 3)), foreign.sig("flaky", 1)]
    result = chord(parts, app=foreign.app)(foreign.sig("total"))
    assert result.get(timeout=SECONDS) == 2 + 7 + 1


def test_a_chord_of_a_part_that_fails(foreign: Foreign) -> None:
    result = chord([foreign.sig("add", 1, 1), foreign.sig("boom")], app=foreign.app)(foreign.sig("total"))
    # Otherwise Celery may raise the part's own error first.
    assert isinstance(result.get(timeout=SECONDS, propagate=False), ChordError)


def test_a_part_that_becomes_a_chain(foreign: Foreign) -> None:
    result = chord([foreign.sig("add", 1, 1), foreign.sig("becomes")], app=foreign.app)(foreign.sig("total"))
    assert result.get(timeout=SECONDS) == 8


def test_chords_in_chords(foreign: Foreign) -> None:
    inner = chord([foreign.sig("add", 1, 1), foreign.sig("add", 2, 2)], foreign.sig("total"), app=foreign.app)
    result = chord([inner, foreign.sig("add", 5, 5)], app=foreign.app)(foreign.sig("total"))
    assert result.get(timeout=SECONDS) == 16


def test_a_chord_that_a_foreign_job_makes(foreign: Foreign) -> None:
    made = foreign.send("own_chord").get(timeout=SECONDS)
    assert foreign.app.AsyncResult(made).get(timeout=SECONDS) == 6


def test_callbacks_and_errbacks_are_called_once(foreign: Foreign) -> None:
    mark = foreign.sig("note", "linked")
    result = foreign.send("add", 1, 1, link=mark)
    wait_until(lambda: "linked" in _effects(foreign), what="the callback", seconds=SECONDS)
    failed = foreign.send("boom", link_error=foreign.sig("note", "failed", immutable=True))
    with pytest.raises(ValueError, match="boom"):
        failed.get(timeout=SECONDS)
    wait_until(lambda: "failed" in _effects(foreign), what="the errback", seconds=SECONDS)
    assert foreign.send("add", 0, 0).get(timeout=SECONDS) == 0
    assert result.get(timeout=SECONDS) == 2
    assert (_effects(foreign).count("linked"), _effects(foreign).count("failed")) == (1, 1)


def _effects(foreign: Foreign) -> list[str]:
    path = foreign.cluster.effects
    return path.read_text().split() if path.exists() else []


def test_a_message_that_comes_twice_runs_once(foreign: Foreign) -> None:
    for _ in range(2):
        foreign.send("note", "twice", task_id="the-same")
    foreign.app.AsyncResult("the-same").get(timeout=SECONDS)
    # Two children: what is sent after it has ended when both copies were taken.
    assert group(foreign.sig("add", 1, 1) for _ in range(4)).apply_async().get(timeout=SECONDS) == [2] * 4
    assert _effects(foreign).count("twice") == 1
    assert foreign.client.get("the-same").attempts == 1


def test_a_second_copy_tells_what_the_first_could_not(foreign: Foreign) -> None:
    result = foreign.send("add", 4, 4)
    assert result.get(timeout=SECONDS) == 8
    # As if its worker had died after the record and before it told.
    result.backend.client.delete(result.backend.get_key_for_task(result.id))
    foreign.send("add", 4, 4, task_id=result.id)
    assert foreign.app.AsyncResult(result.id).get(timeout=SECONDS) == 8
    assert foreign.client.get(result.id).attempts == 1


def test_ignored_results_are_not_told(foreign: Foreign) -> None:
    result = foreign.send("add", 1, 1, ignore_result=True)
    wait_until(lambda: _ended(foreign, result.id), what="it to end", seconds=SECONDS)
    assert foreign.send("add", 1, 2).get(timeout=SECONDS) == 3
    assert foreign.app.AsyncResult(result.id).state == "PENDING"


def _ended(foreign: Foreign, job_id: str) -> bool:
    try:
        return foreign.client.get(job_id).state is JobState.SUCCEEDED
    except JobNotFound:
        return False


def test_a_cancel_is_told(foreign: Foreign) -> None:
    result = foreign.send("hard", time_limit=60)
    wait_until(lambda: _runs(foreign, result.id), what="it to run", seconds=SECONDS)
    foreign.client.cancel(result.id)
    wait_until(lambda: result.state == "REVOKED", what="the producer to be told", seconds=SECONDS)


def _runs(foreign: Foreign, job_id: str) -> bool:
    try:
        return foreign.client.get(job_id).state is JobState.RUNNING
    except JobNotFound:
        return False


def test_a_backend_that_refuses_harms_no_job(foreign: Foreign) -> None:
    backend = foreign.app.backend
    # What counts the parts of this chord is of a wrong type.
    backend.client.set(backend.get_key_for_group("broken", ".j"), "no set")
    result = foreign.send("add", 1, 1, group_id="broken", chord=foreign.sig("total"))
    wait_until(lambda: _ended(foreign, result.id), what="it to end", seconds=SECONDS)
    wait_until(
        lambda: f"worker.foreign_result_lost job={result.id}" in _said(foreign), what="a warning", seconds=SECONDS
    )
    assert foreign.client.get(result.id).attempts == 1
    assert foreign.send("add", 1, 1).get(timeout=SECONDS) == 2


def _said(foreign: Foreign) -> str:
    return " ".join(foreign.worker.said().split())


def test_what_cannot_be_stored_runs_unrecorded(foreign: Foreign) -> None:
    result = foreign.send("size_of", [float("nan")] * 3)
    assert result.get(timeout=SECONDS) == 3
    with pytest.raises(JobNotFound):
        foreign.client.get(result.id)
    assert "worker.unrecorded" in foreign.worker.said()
    # And its slot records again.
    assert _ended(foreign, _done(foreign.send("add", 1, 1)))


def _done(result: Any) -> str:
    result.get(timeout=SECONDS)
    return str(result.id)


def test_an_opted_out_task(foreign: Foreign) -> None:
    result: Any = chain(foreign.sig("plain", 4), foreign.sig("twice_plain")).apply_async()
    assert result.get(timeout=SECONDS) == 9
    with pytest.raises(JobNotFound):
        foreign.client.get(result.parent.id)
    assert foreign.client.get(result.id).state is JobState.SUCCEEDED
