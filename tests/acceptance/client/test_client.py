from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headway.cli.follow import follow
from headway.client import Client, JobsApi, StreamEvent
from headway.client.local import LocalClient
from headway.http.security import SecuritySettings
from headway.model.actor import Actor, Role
from headway.model.commands import ListJobs, SubmitJob
from headway.model.errors import (
    HeadwayError,
    IdempotencyConflict,
    InvalidRequest,
    JobHasNoResult,
    JobNotFound,
    ResultNotReady,
    ServerUnreachable,
    TransitionConflict,
    Unauthenticated,
    WaitTimeout,
)
from headway.model.job import ErrorInfo
from headway.model.states import AttemptOutcome, JobState
from tests.acceptance.client.cutting import CuttingProxy
from tests.acceptance.http_node import WORKER, HttpNode
from tests.waiting import wait_until


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HttpNode]:
    with HttpNode(tmp_path) as node:
        yield node


@pytest.fixture
def proxy(node: HttpNode) -> Iterator[CuttingProxy]:
    with CuttingProxy(node.url) as proxy:
        yield proxy


@pytest.fixture(params=["remote", "local"])
def api(request: pytest.FixtureRequest, node: HttpNode) -> Iterator[JobsApi]:
    """Both ways to the same jobs: every verb means the same."""
    api: JobsApi
    if request.param == "remote":
        api = Client(node.url)
    else:
        api = LocalClient(node.services, Actor("local:test", Role.ADMIN), runs_jobs=True)
    with api:
        yield api


def test_the_way_of_one_job(node: HttpNode, api: JobsApi) -> None:
    accepted = api.send(SubmitJob("demo.add", args=[1], kwargs={"b": {"c": [2]}}, labels={"run": "7"}, priority=4))
    assert accepted.state is JobState.QUEUED
    assert api.get(accepted.id) == accepted
    with pytest.raises(ResultNotReady):
        api.result(accepted.id)
    begun = node.begin()
    node.log(begun, "one", "two")
    node.succeed(begun, '{"sum": 3}')
    ended = api.wait(accepted.id, timeout=10)
    assert ended.state is JobState.SUCCEEDED
    assert ended.finished_at is not None
    assert api.result(accepted.id) == {"sum": 3}
    (attempt,) = api.attempts(accepted.id)
    assert (attempt.number, attempt.outcome) == (1, AttemptOutcome.SUCCEEDED)
    lines = wait_until(lambda: api.logs(accepted.id), what="the log")
    assert [line.text for line in lines] == ["one", "two"]
    assert [line.text for line in api.logs(accepted.id, after=lines[0].id)] == ["two"]


def test_cancel_rerun_and_what_is_refused(node: HttpNode, api: JobsApi) -> None:
    job = api.send(SubmitJob("demo.add", args=[1], kwargs={"b": 2}))
    assert api.cancel(job.id, "not needed").state is JobState.CANCELLED
    with pytest.raises(TransitionConflict):
        api.cancel(job.id)
    with pytest.raises(JobHasNoResult):
        api.result(job.id)
    again = api.rerun(job.id, kwargs={"b": 5})
    assert (again.retry_of, again.args, again.kwargs) == (job.id, [1], {"b": 5})
    for verb in (api.get, api.cancel, api.attempts, api.logs, api.result, api.rerun):
        with pytest.raises(JobNotFound):
            verb("no such job?")


def test_batch_and_pages(api: JobsApi) -> None:
    ids = api.submit_batch([SubmitJob("demo.add", args=[number]) for number in range(5)])
    first = api.page(ListJobs(limit=3))
    second = api.page(ListJobs(limit=3, cursor=first.next_cursor))
    assert [job.id for job in (*first.items, *second.items)] == ids[::-1]
    assert second.next_cursor is None
    assert api.page(ListJobs(states=(JobState.FAILED,))).items == []


def events_of(api: JobsApi, job_id: str) -> list[str]:
    return [event.event for event in api.events(job_id) if event.event not in {"log", "progress", "reset"}]


def test_the_stream_of_an_ended_job_has_all_its_transitions(node: HttpNode, api: JobsApi) -> None:
    job = node.run()
    wait_until(lambda: not node.store.number_events(), what="positions")
    assert events_of(api, job.id) == ["queued", "running", "succeeded"]


def test_waiting_no_longer_than_asked(api: JobsApi) -> None:
    job = api.send(SubmitJob("demo.add"))
    with pytest.raises(WaitTimeout) as caught:
        api.wait(job.id, timeout=0.2)
    assert caught.value.details == {"state": "queued"}


def test_following_shows_states_progress_and_log(
    node: HttpNode, api: JobsApi, capsys: pytest.CaptureFixture[str]
) -> None:
    job = api.send(SubmitJob("demo.add"))

    def work() -> None:
        begun = node.begin()
        node.progress(begun, 1, 2, "half")
        node.log(begun, "a line")
        node.fail(begun, ErrorInfo("failed", "it broke", hint="mend it"))

    worker = threading.Thread(target=work)
    worker.start()
    ended = follow(api, job)
    worker.join()
    assert ended.state is JobState.FAILED
    shown = capsys.readouterr().out
    assert "  | a line" in shown
    assert "running (attempt 1)" in shown
    assert shown.count("a line") == 1


# ------------------------------------------------------------------------------------------- the network's faults


def test_an_answer_lost_on_its_way_makes_one_job(node: HttpNode, proxy: CuttingProxy) -> None:
    with Client(proxy.url) as client:
        proxy.swallow_next_answer()
        job = client.submit("demo.add", args=[1])
        assert [one.id for one in client.list()] == [job.id]
        assert proxy.accepted == 2
        proxy.swallow_next_answer()
        # Not safe to repeat: the batch may have been accepted.
        with pytest.raises(ServerUnreachable):
            client.submit_batch([SubmitJob("demo.add")])


def test_a_stream_that_is_cut_misses_nothing_and_repeats_nothing(node: HttpNode, proxy: CuttingProxy) -> None:
    job = node.submit()
    seen: list[StreamEvent] = []
    with Client(proxy.url) as client:
        reader = threading.Thread(target=lambda: seen.extend(client.events(job.id)))
        reader.start()
        for connections in (1, 2):
            if connections == 2:
                begun = node.begin()
            wait_until(lambda: proxy.accepted >= connections and seen, what="the stream")  # noqa: B023 - asked at once
            proxy.cut()
        node.log(begun, "while nobody listened")
        proxy.cut()
        node.succeed(begun)
        reader.join(20)
        assert not reader.is_alive()
    transitions = [(event.event, event.id) for event in seen if event.id and event.event != "reset"]
    assert [name for name, _ in transitions] == ["queued", "running", "succeeded"]
    assert len({identity for _, identity in transitions}) == 3


def test_a_stream_resumes_after_the_id_it_is_given(node: HttpNode) -> None:
    job = node.run()
    with Client(node.url) as client:
        first, *rest = client.events(job.id)
        assert [event.event for event in client.events(job.id, first.id)] == [event.event for event in rest]


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Client(url, patience=0.3) as client, pytest.raises(ServerUnreachable) as caught:
        client.get("x")
    assert url in caught.value.message
    assert "headway up" in caught.value.hint
    with Client(url, patience=0.1) as client, pytest.raises(ServerUnreachable):
        client.wait("x")


def test_a_server_that_is_not_ours_is_named_as_such(node: HttpNode) -> None:
    with Client(f"{node.url}/health") as client, pytest.raises(HeadwayError) as caught:
        client.get("x")
    assert caught.value.code in {"no_such_path", "unexpected_answer"}


# ----------------------------------------------------------------------------------------------- what is refused


def test_the_key_is_shown_and_a_wrong_one_refused(tmp_path: Path) -> None:
    key = "a-key-of-enough-letters"
    with HttpNode(tmp_path, settings=SecuritySettings(api_key=key)) as node:
        with Client(node.url, key) as client:
            assert client.submit("demo.add").actor.startswith("key:")
            assert client.ready()["status"] == "ok"
        with Client(node.url, "another-key-of-letters") as client, pytest.raises(Unauthenticated) as caught:
            client.submit("demo.add")
        assert "Bearer" in caught.value.hint


def test_times_labels_and_keys(node: HttpNode) -> None:
    with Client(node.url) as client:
        due = datetime.now(UTC) + timedelta(hours=1)
        job = client.submit("demo.add", run_at=due, labels={"a": "b"}, idempotency_key="k1")
        assert job.state is JobState.SCHEDULED
        assert client.submit("demo.add", run_at=due, labels={"a": "b"}, idempotency_key="k1") == job
        with pytest.raises(IdempotencyConflict):
            client.submit("demo.add", args=[1], idempotency_key="k1")
        with pytest.raises(InvalidRequest):
            client.submit("demo.add", run_at=datetime(2030, 1, 1))  # noqa: DTZ001 - the mistake under test
        assert [one.id for one in client.list(label=("a", "b"), state="scheduled", page_size=1)] == [job.id]
        assert list(client.list(since=due)) == []


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", ""])
def test_what_is_no_url_of_a_server(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Client(url)


def test_the_list_of_one_worker(node: HttpNode) -> None:
    begun = node.begin(node.submit())
    node.submit()
    with Client(node.url) as client:
        assert [job.id for job in client.list(worker=WORKER)] == [begun.job_id]
        assert list(client.list(worker="another")) == []
