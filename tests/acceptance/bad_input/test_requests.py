"""Requests that cannot be right: each a clear error with a code, and nothing stored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

JOBS = "/api/v1/jobs"
UNKNOWN = "01a200ea-2d5b-7000-84e5-000000000000"


@dataclass(frozen=True)
class Bad:
    """One bad request and what its answer must say."""

    name: str
    status: int
    code: str
    says: str
    body: Any = None
    raw: bytes | None = None
    method: str = "POST"
    path: str = JOBS
    headers: dict[str, str] = field(default_factory=dict)


def _job(**more: Any) -> dict[str, Any]:
    return {"task": "bad.add", "args": [1], **more}


BAD = [
    Bad("10 MB of arguments", 413, "payload_too_large", "HEADWAY_MAX_PAYLOAD_BYTES", _job(args=["x" * 10_000_000])),
    Bad("2 MB of arguments", 413, "payload_too_large", "1,048,576", _job(args=["x" * 2_000_000])),
    Bad("a body over any limit", 413, "payload_too_large", "", raw=b"[" + b" " * 70_000_000 + b"]"),
    Bad("not JSON", 400, "malformed_request", "JSON", raw=b"task=add"),
    Bad("half of JSON", 400, "malformed_request", "JSON", raw=b'{"task": "bad.add", "args": [1'),
    Bad("not UTF-8", 400, "malformed_request", "JSON", raw=b'{"task": "\xff\xfe"}'),
    Bad("an empty body", 400, "malformed_request", "JSON", raw=b""),
    Bad("a list for an object", 422, "invalid_request", "", raw=b"[]"),
    Bad("NaN in arguments", 400, "malformed_request", "", raw=b'{"task": "bad.add", "args": [NaN]}'),
    Bad("a lone surrogate", 400, "malformed_request", "", raw=b'{"task": "bad.add", "args": ["\\ud800"]}'),
    Bad(
        "nested a hundred thousand deep",
        400,
        "malformed_request",
        "",
        raw=b'{"task":"bad.add","args":[' + b"[" * 100_000,
    ),
    Bad("an unknown task", 404, "unknown_task", "bad.add", {"task": "bad.ad"}),
    Bad("an unknown task without near names", 404, "unknown_task", "-A", {"task": "zzz.qqq"}),
    Bad("no task", 422, "invalid_request", "task", {"args": [1]}),
    Bad("an empty name", 422, "invalid_request", "task", {"task": ""}),
    Bad("a name of a megabyte", 422, "invalid_request", "task", {"task": "x" * 1_000_000}),
    Bad("a NUL in the name", 422, "invalid_request", "task", {"task": "bad.\x00add"}),
    Bad("too many arguments", 422, "bad_arguments", "add", _job(args=[1, 2, 3])),
    Bad("a missing argument", 422, "bad_arguments", "'a'", _job(args=[])),
    Bad("an unknown keyword", 422, "bad_arguments", "'c'", _job(kwargs={"c": 1})),
    Bad("arguments that are no list", 422, "invalid_request", "args", _job(args="1")),
    Bad("an unknown field", 422, "invalid_request", "colour", _job(colour="red")),
    Bad("a priority of 10", 422, "invalid_request", "priority", _job(priority=10)),
    Bad("a negative timeout", 422, "invalid_request", "timeout_seconds", _job(timeout_seconds=-1)),
    Bad("a time without a zone", 422, "invalid_request", "run_at", _job(run_at="2030-01-01T00:00:00")),
    Bad("an unknown isolation", 422, "invalid_request", "isolation", _job(isolation="vm")),
    Bad("a label a megabyte long", 422, "invalid_request", "labels", _job(labels={"a": "x" * 1_000_000})),
    Bad("a label's name a megabyte long", 422, "invalid_request", "labels", _job(labels={"x" * 1_000_000: "a"})),
    Bad(
        "a hundred thousand labels",
        422,
        "invalid_request",
        "labels",
        _job(labels={f"l{n}": "" for n in range(100_000)}),
    ),
    Bad(
        "an endless idempotency key",
        422,
        "invalid_request",
        "Idempotency-Key",
        _job(),
        headers={"Idempotency-Key": "k" * 300},
    ),
    Bad("a form", 415, "unsupported_media_type", "application/json", _job(), headers={"Content-Type": "text/plain"}),
    Bad("another origin", 403, "forbidden", "", _job(), headers={"Origin": "http://evil.example"}),
    Bad("another host", 403, "forbidden", "", _job(), headers={"Host": "evil.example"}),
    Bad("an unknown job", 404, "job_not_found", UNKNOWN, method="GET", path=f"{JOBS}/{UNKNOWN}"),
    Bad("an unknown job to cancel", 404, "job_not_found", UNKNOWN, {}, path=f"{JOBS}/{UNKNOWN}/cancel"),
    Bad("an unknown job to rerun", 404, "job_not_found", UNKNOWN, {}, path=f"{JOBS}/{UNKNOWN}/rerun"),
    Bad("the result of an unknown job", 404, "job_not_found", UNKNOWN, method="GET", path=f"{JOBS}/{UNKNOWN}/result"),
    Bad("an id of 10,000 characters", 404, "job_not_found", "", method="GET", path=f"{JOBS}/{'x' * 10_000}"),
    Bad("a NUL in an id", 404, "job_not_found", "", method="GET", path=f"{JOBS}/a%00b"),
    Bad("a bad cursor", 422, "invalid_request", "cursor", method="GET", path=f"{JOBS}?cursor=%7Bnonsense"),
    Bad("a cursor of another kind", 422, "invalid_request", "cursor", method="GET", path=f"{JOBS}?cursor=WyJhIl0="),
    Bad("an unknown state", 422, "invalid_request", "state", method="GET", path=f"{JOBS}?state=lost"),
    Bad("a limit of a million", 422, "invalid_request", "limit", method="GET", path=f"{JOBS}?limit=1000000"),
    Bad("an unknown filter", 422, "invalid_request", "colour", method="GET", path=f"{JOBS}?colour=red"),
    Bad("an unknown path", 404, "no_such_path", "openapi", method="GET", path="/api/v1/jbos"),
    Bad("an unknown method", 405, "method_not_allowed", "", method="PUT", body={}),
    Bad("a time in words", 422, "invalid_request", "since", method="GET", path=f"{JOBS}?since=yesterday"),
]


def _count(http: httpx.Client) -> int:
    newest = http.get(f"{JOBS}?limit=1000").json()["items"]
    return len(newest)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_refused_with_a_code_and_not_stored(http: httpx.Client, bad: Bad) -> None:
    before = _count(http)
    raw = bad.raw if bad.raw is not None else (None if bad.body is None else json.dumps(bad.body).encode())
    headers = {"Content-Type": "application/json", **bad.headers} if bad.method != "GET" else bad.headers
    answer = http.request(bad.method, bad.path, content=raw, headers=headers)
    assert answer.status_code == bad.status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == bad.code
    assert problem["detail"]
    assert bad.says in json.dumps(problem, ensure_ascii=False)
    assert "Traceback" not in answer.text
    assert len(answer.content) < 20_000, "what was sent is not sent back"
    assert _count(http) == before


def test_a_bad_traceparent_is_ignored_and_a_new_one_made(http: httpx.Client) -> None:
    for wrong in ("nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-xyz-1-01", "x" * 5000, "ff-" + "1" * 32):
        answer = http.post(JOBS, json=_job(), headers={"traceparent": wrong})
        assert answer.status_code == 202, answer.text
        version, trace_id, span_id, _ = answer.json()["traceparent"].split("-")
        assert (version, len(trace_id), len(span_id)) == ("00", 32, 16)
        assert int(trace_id, 16) > 0
        assert trace_id not in wrong


def test_the_same_key_for_something_else(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "only-once"}
    first = http.post(JOBS, json=_job(), headers=headers)
    assert http.post(JOBS, json=_job(), headers=headers).json()["id"] == first.json()["id"]
    other = http.post(JOBS, json=_job(args=[2]), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


def test_a_batch_with_one_bad_job_stores_none(http: httpx.Client) -> None:
    before = _count(http)
    body = {"jobs": [{"task": "bad.add", "args": [1]}, {"task": "bad.nothing"}]}
    answer = http.post("/api/v1/jobs/batch", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task")
    assert _count(http) == before
