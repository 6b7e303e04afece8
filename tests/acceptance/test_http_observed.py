"""What is observed, over HTTP: tasks, workers, queues, gaps, the situation report, the documents' paths, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from headway.http import observed_schemas as schemas
from headway.http.observed import CeleryStatusOut, CeleryTaskOut
from headway.model.observed import ObservedQueue
from headway.model.sayings import OUR_STATE, CeleryState, Said
from headway.model.states import JobState
from headway.model.times import to_rfc3339
from tests.acceptance.http_node import HttpNode
from tests.observations import SECOND, batch, door_over, said, success, worker

BAD = "ValueError('password=hunter2')"


class Watched:
    """A node that knows a little cluster; ``began`` is when its first task was seen."""

    def __init__(self, node: HttpNode) -> None:
        self.node = node
        self.began = now = node.services.clock.now() - 60 * SECOND
        door = door_over(node.services)
        heard = [
            success("ok", now, eta=now + SECOND, parent_id="up"),
            [*success("bad", now, worker="two@host", name="app.fail", queue="mail")[:3],
             said("bad", Said.FAILED, now + 3 * SECOND, "two@host", error=BAD, traceback="lines")],
            success("runs", now, root_id="ok")[:3],
            success("taken", now)[:2],
            success("sent", now)[:1],
            [said("refused", Said.REJECTED, now)],
            [said("revoked", Said.REVOKED, now, error="expired before it was begun")],
            [*success("again", now)[:3], said("again", Said.RETRIED, now + 3 * SECOND, error="OSError()")],
        ]  # fmt: skip
        for place, one in enumerate(heard):
            door.record(batch(*one, seen_at=now + place * SECOND))
        at = node.services.clock.now()
        # Ahead of the clock: it must be online for as long as the tests of this file take on a slow machine.
        beat = worker(
            "one@host", at + 60 * SECOND, active=1, processed=9, pool="prefork", concurrency=2, queues=["celery"], pid=7
        )
        door.record(batch(seen_at=at, workers=[beat, worker("two@host", now)]))
        door.queues(
            [
                ObservedQueue(
                    "celery", at, {"depth": 4, "consumers": 1, "oldest_at": now, "oldest": "exact", "exists": True}
                )
            ]
        )
        door.close_gap(door.open_gap("broker_away", now, lost=2), now + 5 * SECOND)
        door.reconciled(2**62, 1)
        self.job = node.submit("demo.ours")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with HttpNode(tmp_path_factory.mktemp("node")) as node:
        yield Watched(node)


@pytest.fixture
def client(watched: Watched) -> Iterator[httpx.Client]:
    with watched.node.client() as client:
        yield client


def ids(client: httpx.Client, **parameters: Any) -> list[str]:
    answer = client.get("/api/v1/tasks", params=parameters)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["items"]]


def assert_problem(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["hint"]
    assert "Traceback" not in answer.text
    return str(answer.json()["detail"])


# Tasks


def test_tasks_and_jobs_stand_in_one_list_newest_first(client: httpx.Client, watched: Watched) -> None:
    items = client.get("/api/v1/tasks").json()["items"]
    assert [one["id"] for one in items] == [
        watched.job.id, "again", "revoked", "refused", "sent", "taken", "runs", "bad", "ok",
    ]  # fmt: skip
    assert [one["origin"] for one in items] == ["job"] + ["observed"] * 8
    assert [one["at"] for one in items] == sorted((one["at"] for one in items), reverse=True)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"task": "app.fail"}, ["bad"]),
        ({"queue": "mail"}, ["bad"]),
        ({"worker": "two@host"}, ["bad"]),
        ({"root": "ok"}, ["runs", "ok"]),
        ({"text": "valueerror"}, ["bad"]),
        ({"text": "re"}, ["revoked", "refused"]),
        ({"state": "SUCCESS"}, ["ok"]),
        ({"state": "succeeded,failed"}, ["refused", "bad", "ok"]),
        ({"state": ["succeeded", "running"]}, ["runs", "ok"]),
        ({"state": "queued", "task": "app.add"}, ["sent", "taken"]),
        ({"state": "RECEIVED"}, ["taken"]),
        ({"state": "PENDING", "task": "app.add"}, ["sent"]),
        ({"state": "REJECTED"}, ["refused"]),
        ({"state": "FAILURE"}, ["bad"]),
        ({"state": "failed"}, ["refused", "bad"]),
        ({"state": "rejected,cancelled,SUCCESS"}, ["revoked", "refused", "ok"]),
        ({"state": "REVOKED"}, ["revoked"]),
        ({"state": "RETRY"}, ["again"]),
        ({"state": "running", "queue": "mail"}, []),
        ({"orphaned": "true"}, []),
        ({"limit": 1, "state": "succeeded"}, ["ok"]),
    ],
)
def test_a_filter_means_what_it_says(client: httpx.Client, parameters: dict[str, Any], expected: list[str]) -> None:
    assert ids(client, **parameters) == expected


@pytest.mark.parametrize("state", [*CeleryState, *OUR_STATE.values()])
def test_every_state_is_known_by_celerys_name_and_by_ours(client: httpx.Client, state: str) -> None:
    ours = OUR_STATE[CeleryState(state)] if state in CeleryState.__members__ else state
    items = client.get("/api/v1/tasks", params={"state": str(state)}).json()["items"]
    assert items
    assert {one["state"] for one in items} >= {str(ours)}


def test_a_job_is_found_by_celerys_name_for_its_state(client: httpx.Client, watched: Watched) -> None:
    assert ids(client, state="PENDING") == [watched.job.id, "sent"]
    said = assert_problem(client.get("/api/v1/tasks", params={"state": "nonsense"}), 422, "invalid_request")
    assert all(name in said for name in (*CeleryState, *JobState))


def test_times_bound_the_list(client: httpx.Client, watched: Watched) -> None:
    at = [to_rfc3339(watched.began + seconds * SECOND) for seconds in (2, 4)]
    assert ids(client, since=at[0], until=at[1]) == ["taken", "runs"]


@pytest.mark.parametrize("path", ["tasks", "jobs"])
def test_a_plus_that_arrived_as_a_space_is_named(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/api/v1/{path}?since=2026-01-01T00:00:00+02:00")
    assert_problem(answer, 422, "invalid_request")
    assert "%2B" in answer.json()["hint"]
    assert client.get(f"/api/v1/{path}?since=2026-01-01T00:00:00%2B02:00").status_code == 200
    assert "%2B" not in client.get(f"/api/v1/{path}?since=yesterday").json()["hint"]


def test_pages_go_through_all_of_it(client: httpx.Client) -> None:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/api/v1/tasks", params={"limit": 2, **cursor}).json()
        found += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == ids(client)


@pytest.mark.parametrize(
    "parameters",
    [
        {"state": "nonsense"},
        {"state": ""},
        {"limit": 0},
        {"limit": 1001},
        {"limit": "x"},
        {"cursor": "x"},
        {"since": "2026-01-01T00:00:00"},
        {"until": "yesterday"},
        {"text": "x" * 201},
        {"task": "a\x00b"},
        {"orphaned": "perhaps"},
        {"colour": "red"},
    ],
)
def test_a_wrong_parameter_is_refused_with_a_code(client: httpx.Client, parameters: dict[str, Any]) -> None:
    assert_problem(client.get("/api/v1/tasks", params=parameters), 422, "invalid_request")


@pytest.mark.parametrize("path", ["tasks/ok", "tasks/ok/related", "workers", "queues", "gaps", "sitrep"])
def test_a_parameter_that_nobody_knows_is_refused_everywhere(client: httpx.Client, path: str) -> None:
    assert_problem(client.get(f"/api/v1/{path}", params={"colour": "red"}), 422, "invalid_request")


def test_one_task_has_everything_that_was_said_of_it(client: httpx.Client) -> None:
    task = client.get("/api/v1/tasks/bad").json()
    assert (task["state"], task["celery_state"], task["queue"], task["worker"]) == (
        "failed",
        "FAILURE",
        "mail",
        "two@host",
    )
    assert (task["error"], task["traceback"]) == (BAD, "lines")
    assert [one["said"] for one in task["trail"]] == ["sent", "received", "started", "failed"]
    assert [one["worker"] for one in task["trail"]] == ["gen1@client", "two@host", "two@host", "two@host"]
    assert task["trail"][1]["retries"] == 0
    assert client.get("/api/v1/tasks", params={"task": "app.fail"}).json()["items"][0]["traceback"] is None


def test_a_job_is_a_task_too(client: httpx.Client, watched: Watched) -> None:
    task = client.get(f"/api/v1/tasks/{watched.job.id}").json()
    assert (task["name"], task["origin"], task["state"], task["trail"]) == ("demo.ours", "job", "queued", [])


@pytest.mark.parametrize("task_id", ["nobody", "x" * 256, "a%00b", "%F0%9F%98%80", "%25"])
def test_a_task_that_nobody_knows_is_not_found(client: httpx.Client, task_id: str) -> None:
    assert_problem(client.get(f"/api/v1/tasks/{task_id}"), 404, "task_not_found")


def test_related_are_the_tasks_of_one_root(client: httpx.Client) -> None:
    for task_id in ("ok", "runs"):
        found = client.get(f"/api/v1/tasks/{task_id}/related").json()["items"]
        assert [one["id"] for one in found] == ["ok", "runs"]
    assert_problem(client.get("/api/v1/tasks/nobody/related"), 404, "task_not_found")


# The rest of the cluster


def test_workers_queues_and_gaps(client: httpx.Client, watched: Watched) -> None:
    workers = {one["name"]: one for one in client.get("/api/v1/workers").json()["items"]}
    assert set(workers) == {"one@host", "two@host", "test-worker"}
    one = workers["one@host"]
    assert (one["standing"], one["origin"], one["active"], one["pool"], one["queues"]) == (
        "online", "observed", 1, "prefork", ["celery"],
    )  # fmt: skip
    assert one["facts"] == {"pid": 7}
    assert workers["two@host"]["standing"] == "gone"
    (queue,) = client.get("/api/v1/queues").json()["items"]
    assert (queue["name"], queue["depth"], queue["oldest"]) == ("celery", 4, "exact")
    assert 59 < queue["oldest_age_seconds"] < 120
    (gap,) = client.get("/api/v1/gaps").json()["items"]
    assert (gap["reason"], gap["lost"], gap["recovered"]) == ("broker_away", 2, 1)


def test_the_situation_is_the_same_at_both_paths_and_not_called_ok(client: httpx.Client) -> None:
    ours, theirs = client.get("/api/v1/sitrep").json(), client.get("/api/scheduler/sitrep").json()
    assert set(ours) == set(theirs)
    assert ours["task_metrics"] == theirs["task_metrics"]
    assert ours["health_status"] == "unknown"
    assert ours["task_metrics"]["success_rate"] is None
    assert ours["figures"]["success_rate"]["last_known"] == pytest.approx(1 / 3, abs=0.001)
    assert ours["task_metrics"]["failed_tasks"] == 2
    assert "hunter2" not in str(ours)


def test_celery_in_the_documents_words(client: httpx.Client) -> None:
    status = client.get("/api/celery/status").json()
    assert set(status) == set(CeleryStatusOut.model_fields)
    # No observer runs in this server, so whether the broker answers is not known.
    assert (status["status"], status["health_status"]) == ("unknown", "unknown")
    assert (status["active_workers"], status["worker_count"]) == (["one@host"], 1)
    assert status["worker_stats"]["one@host"]["processed"] == 9


@pytest.mark.parametrize(
    ("task_id", "expected"),
    [
        ("ok", {"status": "SUCCESS", "ready": True, "result": "3", "error": None}),
        ("bad", {"status": "FAILURE", "ready": True, "result": None, "error": BAD, "traceback": "lines"}),
        ("again", {"status": "RETRY", "ready": False, "error": "OSError()"}),
        ("revoked", {"status": "REVOKED", "ready": True, "error": "expired before it was begun"}),
        ("refused", {"status": "REJECTED", "ready": True}),
        ("taken", {"status": "RECEIVED", "ready": False, "result": None}),
    ],
)
def test_a_task_in_celerys_words(client: httpx.Client, task_id: str, expected: dict[str, Any]) -> None:
    task = client.get(f"/api/celery/task/{task_id}").json()
    assert set(task) == set(CeleryTaskOut.model_fields)
    assert {key: task[key] for key in expected} == expected


def test_celery_does_not_know_a_task_that_nobody_knows(client: httpx.Client) -> None:
    answer = client.get("/api/celery/task/nobody")
    assert answer.status_code == 404
    assert "task_not_found" in answer.text


def test_metrics_are_read_by_prometheus(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {one.name: one for one in text_string_to_metric_families(answer.text)}
    (failed,) = found["celery_task_failed"].samples
    assert (failed.value, failed.labels) == (
        1,
        {"name": "app.fail", "hostname": "host", "queue_name": "mail", "exception": "ValueError"},
    )
    assert {one.labels["hostname"]: one.value for one in found["celery_worker_up"].samples} == {"host": 1}
    assert [one.value for one in found["celery_queue_length"].samples] == [4]
    assert {one.labels["state"]: one.value for one in found["headway_observed_tasks"].samples}["SUCCESS"] == 1


# What is described is what is answered


def shapes(client: httpx.Client) -> list[tuple[type[BaseModel], dict[str, Any]]]:
    def get(path: str) -> Any:
        return client.get(f"/api/v1/{path}").json()

    whole, page, sitrep = get("tasks/bad"), get("tasks"), get("sitrep")
    return [
        (schemas.TaskDetailOut, whole),
        (schemas.MarkOut, whole["trail"][0]),
        (schemas.TaskPageOut, page),
        (schemas.TaskOut, page["items"][0]),
        (schemas.TaskOut, page["items"][-1]),
        (schemas.TasksOut, get("tasks/ok/related")),
        (schemas.WorkersOut, get("workers")),
        *((schemas.WorkerOut, one) for one in get("workers")["items"]),
        (schemas.QueuesOut, get("queues")),
        (schemas.QueueOut, get("queues")["items"][0]),
        (schemas.GapsOut, get("gaps")),
        (schemas.GapOut, get("gaps")["items"][0]),
        (schemas.SitrepOut, sitrep),
        (schemas.TaskMetricsOut, sitrep["task_metrics"]),
        *((schemas.FigureOut, one) for one in sitrep["figures"].values()),
        (schemas.RecentTaskOut, sitrep["recent_tasks"][0]),
        (schemas.AttentionOut, sitrep["attention"][0]),
        *((schemas.SourceOut, one) for one in sitrep["sources"]),
    ]


def test_every_answer_has_exactly_the_fields_that_are_described(client: httpx.Client) -> None:
    for model, answered in shapes(client):
        assert set(answered) == set(model.model_fields), model.__name__
        model.model_validate(answered)


def test_openapi_names_these_models(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    for path, model in (
        ("/api/v1/tasks", "TaskPageOut"),
        ("/api/v1/tasks/{task_id}", "TaskDetailOut"),
        ("/api/v1/workers", "WorkersOut"),
        ("/api/v1/sitrep", "SitrepOut"),
        ("/api/scheduler/sitrep", "SitrepOut"),
        ("/api/celery/status", "CeleryStatusOut"),
        ("/api/celery/task/{task_id}", "CeleryTaskOut"),
    ):
        content = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        assert content["schema"]["$ref"].endswith(f"/{model}"), path
