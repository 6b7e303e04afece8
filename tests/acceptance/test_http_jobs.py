from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway.http.security import SecuritySettings
from headway.model.job import ErrorInfo
from headway.model.states import STATE_VIEWS
from headway.service import Limits, forget_result
from tests.acceptance.http_node import HttpNode

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNode]:
    limits = Limits(max_payload_bytes=20_000)
    settings = SecuritySettings(max_request_bytes=4_000_000)
    with HttpNode(tmp_path_factory.mktemp("node"), limits=limits, settings=settings) as node:
        yield node


@pytest.fixture
def client(node: HttpNode) -> Iterator[httpx.Client]:
    with node.client() as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert set(body) >= {"type", "title", "detail", "hint", "trace_id"}
    assert "Traceback" not in answer.text
    return body


def test_a_job_is_submitted_and_found(client: httpx.Client) -> None:
    answer = client.post("/api/v1/jobs", json={"task": "t.add", "args": [1, 2]}, headers={"traceparent": TRACE})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert answer.headers["traceparent"] == job["traceparent"] == TRACE
    assert (job["state"], job["celery_state"], job["args"]) == ("queued", "PENDING", [1, 2])
    assert job["submitted_at"].endswith("Z")
    assert client.get(answer.headers["location"]).json() == job


def test_every_request_has_a_trace(client: httpx.Client) -> None:
    given = client.get("/health").headers["traceparent"]
    assert len(given) == 55
    assert client.post("/api/v1/jobs", json={"task": "t"}).json()["traceparent"] not in {None, given}


def test_the_same_key_is_the_same_job(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "run-1"}
    first = client.post("/api/v1/jobs", json={"task": "t.key", "args": [1]}, headers=key)
    again = client.post("/api/v1/jobs", json={"task": "t.key", "args": [1]}, headers=key)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    other = client.post("/api/v1/jobs", json={"task": "t.key", "args": [2]}, headers=key)
    assert_problem(other, 409, "idempotency_conflict")
    assert_problem(
        client.post("/api/v1/jobs", json={"task": "t"}, headers={"Idempotency-Key": ""}), 422, "invalid_request"
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"task": "t", "colour": "red"}, "colour"),
        ({"task": "t", "run_at": "2026-03-01T12:00:00"}, "run_at"),
        ({"args": []}, "task"),
        ({"task": "t", "priority": "high"}, "priority"),
        ({"task": "t", "backoff": {"kind": "x"}}, "backoff.kind"),
    ],
)
def test_a_wrong_field_is_named(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    problem = assert_problem(client.post("/api/v1/jobs", json=body), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"task": "t", "args": [NaN]}', b"\xff", b'{"task": "t"} x', b"[" * 100_000]
)
def test_what_is_not_json_is_malformed(client: httpx.Client, raw: bytes) -> None:
    answer = client.post("/api/v1/jobs", content=raw, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "malformed_request")


def test_a_secret_in_a_wrong_body_is_not_repeated(client: httpx.Client) -> None:
    answer = client.post("/api/v1/jobs", json={"task": "t", "run_at": "password=hunter2"})
    assert_problem(answer, 422, "invalid_request")
    assert "hunter2" not in answer.text


def test_too_much_is_refused(client: httpx.Client) -> None:
    assert_problem(client.post("/api/v1/jobs", json={"task": "t", "args": ["x" * 30_000]}), 413, "payload_too_large")
    body = b'{"task": "t", "args": ["' + b"x" * 5_000_000 + b'"]}'
    json_type = {"Content-Type": "application/json"}
    assert_problem(client.post("/api/v1/jobs", content=body, headers=json_type), 413, "payload_too_large")


def test_too_much_is_counted_where_no_length_is_said(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(80):
            yield b"x" * 100_000

    answer = client.post("/api/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert_problem(answer, 413, "payload_too_large")


def test_a_batch_is_all_or_none(client: httpx.Client) -> None:
    jobs = [{"task": "t.batch", "args": [number]} for number in range(250)]
    answer = client.post("/api/v1/jobs/batch", json={"jobs": jobs})
    assert answer.status_code == 202
    ids = answer.json()["job_ids"]
    assert len(set(ids)) == 250
    assert client.get(f"/api/v1/jobs/{ids[249]}").json()["args"] == [249]
    wrong = client.post("/api/v1/jobs/batch", json={"jobs": [{"task": "t.none"}, {"task": "t.none", "argz": 1}]})
    assert assert_problem(wrong, 422, "invalid_request")["errors"][0]["field"] == "jobs.1.argz"
    assert_problem(client.post("/api/v1/jobs/batch", json={"jobs": []}), 422, "invalid_request")
    assert client.get("/api/v1/jobs?task=t.none").json()["items"] == []


def test_the_list_is_paged_to_its_end(client: httpx.Client, node: HttpNode) -> None:
    made = [node.submit("t.paged").id for _ in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"task": "t.paged", "limit": "3", **({"cursor": cursor} if cursor else {})}
        page = client.get("/api/v1/jobs", params=query).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_states_by_our_names_and_celerys(client: httpx.Client, node: HttpNode) -> None:
    done = node.run("t.states").id
    for view in STATE_VIEWS:
        for name in (view.state.value, view.celery):
            assert client.get("/api/v1/jobs", params={"state": name}).status_code == 200
    for name in ("succeeded", "SUCCESS", "failed,succeeded"):
        found = client.get("/api/v1/jobs", params={"state": name, "task": "t.states"}).json()["items"]
        assert [job["id"] for job in found] == [done]
    assert client.get("/api/v1/jobs", params={"state": "PENDING", "task": "t.states"}).json()["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        "colour=red",
        "limit=0",
        "limit=1001",
        "limit=x",
        "state=done",
        "state=",
        "label=a",
        "since=yesterday",
        "until=2026-03-01T12:00:00",
        "cursor=x",
        "cursor=%00",
        "task=%00",
    ],
)
def test_a_wrong_query_is_refused(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"/api/v1/jobs?{query}"), 422, "invalid_request")


def test_filters_by_label_text_and_time(client: httpx.Client, node: HttpNode) -> None:
    job = node.submit("t.filter", labels={"study": "A=12"}, kwargs={"note": "needle in it"})

    def found(**query: str) -> list[str]:
        return [job["id"] for job in client.get("/api/v1/jobs", params={"task": "t.filter", **query}).json()["items"]]

    assert found(label="study=A=12") == found(text="needle") == found(text=job.id) == [job.id]
    assert found(since="2000-01-01T00:00:00Z", until="2100-01-01T00:00:00+02:00") == [job.id]
    assert found(label="study=B") == found(text="haystack") == found(until="2000-01-01T00:00:00Z") == []


def test_cancel_and_rerun(client: httpx.Client, node: HttpNode) -> None:
    job = node.submit("t.cancel", args=[1]).id
    cancelled = client.post(f"/api/v1/jobs/{job}/cancel", json={"reason": "not needed"})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert_problem(client.post(f"/api/v1/jobs/{job}/cancel"), 409, "transition_refused")
    again = client.post(f"/api/v1/jobs/{job}/rerun", json={"args": [2]})
    assert again.status_code == 202
    new = client.get(again.headers["location"]).json()
    assert (new["retry_of"], new["args"], new["state"]) == (job, [2], "queued")
    assert client.post(f"/api/v1/jobs/{job}/rerun").json()["args"] == [1]


def test_attempts_logs_and_error(client: httpx.Client, node: HttpNode) -> None:
    submitted = node.submit("t.fail")
    begun, job = node.begin(submitted), submitted.id
    node.progress(begun, 2, 8, "a quarter")
    node.log(begun, *(f"line {number}" for number in range(5)))
    node.fail(begun, ErrorInfo("task_failed", "it broke", "Traceback …", "ValueError", "mend it"))
    found = client.get(f"/api/v1/jobs/{job}").json()
    assert found["error"] == {
        "code": "task_failed", "message": "it broke", "traceback": "Traceback …", "exc_type": "ValueError",
        "hint": "mend it", "exc_args": None,
    }  # fmt: skip
    assert found["progress"] == {"done": 2, "total": 8, "message": "a quarter"}
    (attempt,) = client.get(f"/api/v1/jobs/{job}/attempts").json()["items"]
    assert (attempt["number"], attempt["outcome"], attempt["error"]["code"]) == (1, "failed", "task_failed")
    first = client.get(f"/api/v1/jobs/{job}/logs", params={"limit": 2}).json()
    rest = client.get(f"/api/v1/jobs/{job}/logs", params={"after": first["next_after"]}).json()
    assert [line["text"] for line in first["items"] + rest["items"]] == [f"line {number}" for number in range(5)]
    end = client.get(f"/api/v1/jobs/{job}/logs", params={"after": rest["next_after"]}).json()
    assert end == {"items": [], "next_after": rest["next_after"]}
    assert_problem(client.get(f"/api/v1/jobs/{job}/result"), 409, "job_has_no_result")


def test_results_small_large_early_and_gone(client: httpx.Client, node: HttpNode) -> None:
    waiting = node.submit("t.result").id
    assert_problem(client.get(f"/api/v1/jobs/{waiting}/result"), 409, "result_not_ready")
    small = node.run("t.result", result='{"a": [1, null, "é"]}').id
    large_text = json.dumps({"rows": ["ü" * 50 for _ in range(20_000)]}, ensure_ascii=False)
    large = node.run("t.result", result=large_text).id
    assert client.get(f"/api/v1/jobs/{small}/result").json() == {"result": {"a": [1, None, "é"]}}
    answer = client.get(f"/api/v1/jobs/{large}/result")
    assert answer.json() == {"result": json.loads(large_text)}
    assert int(answer.headers["content-length"]) == len(answer.content)
    forget_result(node.context, small)
    assert_problem(client.get(f"/api/v1/jobs/{small}/result"), 410, "result_gone")


@pytest.mark.parametrize("path", ["", "/attempts", "/logs", "/result", "/events"])
@pytest.mark.parametrize("job", ["nobody", "a%00b", "x" * 300])
def test_an_unknown_job_is_not_found(client: httpx.Client, path: str, job: str) -> None:
    assert_problem(client.get(f"/api/v1/jobs/{job}{path}"), 404, "job_not_found")


@pytest.mark.parametrize("path", ["/cancel", "/rerun"])
def test_an_unknown_job_cannot_be_changed(client: httpx.Client, path: str) -> None:
    assert_problem(client.post(f"/api/v1/jobs/nobody{path}"), 404, "job_not_found")


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    assert_problem(client.get("/api/v1/nothing"), 404, "no_such_path")
    assert_problem(client.get("/api/v1/jobs/"), 404, "no_such_path")
    assert_problem(client.put("/api/v1/jobs", json={}), 405, "method_not_allowed")


def test_health_and_ready(client: httpx.Client, node: HttpNode) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["service"]) == ("ok", "headway")
    assert set(health) == {"status", "service", "version", "uptimeSeconds"}
    assert client.get("/ready").json()["status"] == "ok"
    from headway.http.health import Part, PartStatus

    node.parts["engine"] = Part(PartStatus.DEGRADED, "one slot lost")
    assert (client.get("/ready").status_code, client.get("/ready").json()["status"]) == (200, "degraded")
    node.parts["database"] = Part(PartStatus.UNKNOWN, "no answer", "look at the disk")
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "unknown")
    assert answer.json()["parts"]["database"] == {
        "status": "unknown",
        "detail": "no answer",
        "hint": "look at the disk",
    }
    del node.parts["engine"], node.parts["database"]


def test_openapi_describes_what_is_answered(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    submit = schema["paths"]["/api/v1/jobs"]["post"]
    assert submit["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/SubmitIn"}
    for path in ("/api/v1/jobs/{job_id}/events", "/api/v1/events", "/jobs/{job_id}/events"):
        assert "text/event-stream" in schema["paths"][path]["get"]["responses"]["200"]["content"]
    names = set(schema["components"]["schemas"])
    refs = {ref.rpartition("/")[2] for ref in _refs(schema)}
    assert refs <= names
    assert "HTTPValidationError" not in refs


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for child in value.values():
            yield from _refs(child)
    elif isinstance(value, list):
        for child in value:
            yield from _refs(child)


@pytest.mark.parametrize(
    "path",
    [
        "/console/stream?job={}&after={}",
        "/console/jobs/{}/log?after={}",
        "/api/v1/jobs/{}/logs?after={}",
        "/api/v1/jobs/{}/events?logs_after={}",
        "/jobs/{}/events?logs_after={}",
    ],
)
@pytest.mark.parametrize("after", [2**63, 99999999999999999999999, -1])
def test_a_line_that_no_database_can_hold_is_refused(
    node: HttpNode, client: httpx.Client, path: str, after: int
) -> None:
    job = node.run()
    assert client.get(path.format(job.id, after)).status_code in {400, 422}


class TestDocuments:
    """The documents' paths in the documents' spelling."""

    def test_the_status_of_a_job(self, client: httpx.Client, node: HttpNode) -> None:
        job = node.run("t.document", timeout_seconds=5.0, max_retries=1)
        status = client.post("/get_job_status", json={"jobId": job.id}).json()
        assert set(status) >= {
            "jobId", "status", "progress", "submittedAt", "startedAt", "finishedAt", "attempts", "maxRetries",
            "timeoutSeconds", "resultHandle", "error", "cancelRequested", "externalJobId",
        }  # fmt: skip
        assert (status["jobId"], status["status"]) == (job.id, "succeeded")
        assert status["submittedAt"] == job.submitted_at / 1_000_000 <= status["finishedAt"]
        assert (status["attempts"], status["maxRetries"], status["timeoutSeconds"]) == (1, 1, 5.0)
        assert status["resultHandle"] == {"resultsId": job.id}

    def test_scheduled_is_queued_there(self, client: httpx.Client, node: HttpNode) -> None:
        job = node.submit("t.document", run_at=node.services.clock.now() + 3_600_000_000)
        assert client.post("/get_job_status", json={"jobId": job.id}).json()["status"] == "queued"
        cancelled = client.post("/cancel_job", json={"jobId": job.id})
        assert cancelled.json()["status"] == "cancelled"
        other = node.submit("t.document")
        assert client.post(f"/mcp/jobs/{other.id}/cancel").json() == {
            "jobId": other.id, "status": "cancelled", "cancelRequested": False,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("method", "body", "status", "code"),
        [("GET", None, 405, "MethodNotAllowed"), ("POST", b'{"jobId": ', 400, "InvalidInput")],
    )
    def test_what_no_handler_sees_has_the_documents_body_too(
        self, client: httpx.Client, method: str, body: bytes | None, status: int, code: str
    ) -> None:
        headers = {"X-Correlation-Id": "mine", "Content-Type": "application/json"}
        answer = client.request(method, "/get_job_status", content=body, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert answer.headers["x-correlation-id"] == "mine"
        assert ("allow" in answer.headers) == (status == 405)
        error = answer.json()["error"]
        assert (error["code"], error["correlationId"], error["retryable"]) == (code, "mine", False)

    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "code"),
        [
            ("POST", "/get_job_status", {"jobId": "nobody"}, 404, "NotFound"),
            ("POST", "/get_job_status", {}, 400, "InvalidInput"),
            ("POST", "/get_job_status", {"jobId": "x", "more": 1}, 400, "InvalidInput"),
            ("POST", "/cancel_job", {"jobId": "nobody"}, 404, "NotFound"),
            ("POST", "/mcp/jobs/nobody/cancel", None, 404, "NotFound"),
            ("GET", "/jobs/nobody/events", None, 404, "NotFound"),
        ],
    )
    def test_errors_have_the_documents_body(
        self, client: httpx.Client, method: str, path: str, body: Any, status: int, code: str
    ) -> None:
        answer = client.request(method, path, json=body, headers={"X-Correlation-Id": "run-9"})
        assert answer.status_code == status
        error = answer.json()["error"]
        assert set(error) == {"code", "message", "correlationId", "retryable", "details"}
        assert (error["code"], error["correlationId"]) == (code, "run-9")
        assert answer.headers["x-correlation-id"] == "run-9"

    def test_a_correlation_id_is_minted(self, client: httpx.Client) -> None:
        answer = client.get("/mcp/capabilities")
        assert answer.headers["x-correlation-id"]
        assert set(answer.json()) >= {"transports", "adapter", "maxPayloadKb", "timeouts", "annotations"}
        assert set(answer.json()["adapter"]) >= {"name", "populationSupported", "health"}


def test_the_data_folder_holds_nothing_that_was_refused(node: HttpNode, client: httpx.Client, tmp_path: Path) -> None:
    before = client.get("/api/v1/jobs", params={"task": "t.refused"}).json()["items"]
    client.post("/api/v1/jobs", json={"task": "t.refused", "args": ["x" * 30_000]})
    client.post(
        "/api/v1/jobs/batch", json={"jobs": [{"task": "t.refused"}, {"task": "t.refused", "args": ["x" * 30_000]}]}
    )
    assert client.get("/api/v1/jobs", params={"task": "t.refused"}).json()["items"] == before == []


@pytest.mark.parametrize(
    "fields",
    [
        {"max_retries": 1, "backoff": {"kind": "fixed", "base_seconds": 1e12, "cap_seconds": 1e12}},
        {"timeout_seconds": 1e300},
        {"run_at": "9999-12-31T23:59:59-12:00"},
    ],
)
def test_what_lies_beyond_the_calendar_is_refused_and_hides_nothing(
    client: httpx.Client, fields: dict[str, Any]
) -> None:
    answer = client.post("/api/v1/jobs", json={"task": "pbpk", **fields})
    assert answer.status_code == 422, answer.text
    assert client.get("/api/v1/jobs").status_code == 200
