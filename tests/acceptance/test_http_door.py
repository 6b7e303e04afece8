from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
import structlog.testing

from headway.http.security import COOKIE, SecuritySettings
from tests.acceptance.http_node import HttpNode

KEY = "a-very-secret-key-of-1234"


@pytest.fixture(scope="module")
def open_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNode]:
    settings = SecuritySettings(owner_token="owner", uid=1000, hosts=("jobs.example",))
    with HttpNode(tmp_path_factory.mktemp("open"), settings=settings) as node:
        yield node


@pytest.fixture(scope="module")
def keyed_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNode]:
    settings = SecuritySettings(api_key=KEY, owner_token="owner", uid=1000)
    with HttpNode(tmp_path_factory.mktemp("keyed"), settings=settings) as node:
        yield node


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_without_a_key_the_local_user_is_the_actor(open_node: HttpNode) -> None:
    job = open_node.client().post("/api/v1/jobs", json={"task": "t"}).json()
    assert job["actor"] == "local:1000"


def test_another_host_name_is_refused(open_node: HttpNode) -> None:
    client = open_node.client()
    assert code(client.get("/api/v1/jobs", headers={"Host": "evil.example"})) == (403, "forbidden")
    assert client.get("/api/v1/jobs", headers={"Host": "jobs.example:8000"}).status_code == 200


def test_a_page_of_another_origin_changes_nothing(open_node: HttpNode) -> None:
    client = open_node.client()
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.post("/api/v1/jobs", json={"task": "t.evil"}, headers=headers)
        assert code(answer) == (403, "forbidden")
    own = client.post("/api/v1/jobs", json={"task": "t"}, headers={"Origin": open_node.url})
    assert own.status_code == 202
    assert client.get("/api/v1/jobs?task=t.evil").json()["items"] == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_only_json_changes(open_node: HttpNode, kind: str) -> None:
    client = open_node.client()
    for path in ("/api/v1/jobs", "/api/v1/jobs/batch", "/api/v1/jobs/x/cancel", "/run_anything"):
        answer = client.post(path, content=b'{"task": "t"}', headers={"Content-Type": kind})
        assert code(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/events", "/openapi.json", "/nothing", "/jobs/x/events"])
def test_with_a_key_everything_asks_for_it(keyed_node: HttpNode, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}=v1.99999999999.x.y"}):
        answer = keyed_node.client().get(path, headers=headers)
        assert answer.status_code == 401
        assert KEY not in answer.text


def test_health_needs_no_key(keyed_node: HttpNode) -> None:
    for path in ("/health", "/ready", "/static/console.css", "/login", "/mcp/capabilities", "/favicon.ico"):
        assert keyed_node.client().get(path).status_code == 200, path


def test_the_key_and_the_owners_token_come_in(keyed_node: HttpNode) -> None:
    by_key = keyed_node.client(Authorization=f"Bearer {KEY}").post("/api/v1/jobs", json={"task": "t"})
    assert by_key.json()["actor"] == "key:1234"
    by_token = keyed_node.client(Authorization="Bearer owner").post("/api/v1/jobs", json={"task": "t"})
    assert by_token.json()["actor"] == "local:1000"


def test_signing_in_by_the_form_and_out_again(keyed_node: HttpNode) -> None:
    client = keyed_node.client()
    page = {"Accept": "text/html"}
    asked = client.get("/?state=failed", headers=page)
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/%3Fstate%3Dfailed")
    failed = client.post("/login", data={"key": "wrong", "next": "/?state=failed&text=a b"})
    again = "/login?failed=1&next=/%3Fstate%3Dfailed%26text%3Da%20b"
    assert (failed.status_code, failed.headers["location"]) == (303, again)
    shown = client.get(again).text
    assert "not the key" in shown
    assert 'value="/?state=failed&amp;text=a b"' in shown
    elsewhere = client.post("/login", data={"key": "wrong", "next": "//evil.example"})
    assert elsewhere.headers["location"] == "/login?failed=1&next=/"
    right = client.post("/login", data={"key": KEY, "next": "/?state=failed"})
    assert (right.status_code, right.headers["location"]) == (303, "/?state=failed")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert KEY not in cookie
    assert client.get("/", headers=page).status_code == 200
    assert client.post("/api/v1/jobs", json={"task": "t"}).json()["actor"] == "key:1234"
    client.post("/logout")
    assert client.get("/", headers=page).status_code == 303


def test_signing_in_by_json(keyed_node: HttpNode) -> None:
    client = keyed_node.client()
    assert code(client.post("/login", json={"key": "wrong"})) == (401, "unauthenticated")
    assert client.post("/login", json={"key": KEY}).status_code == 204
    assert client.get("/api/v1/jobs").status_code == 200


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]
)
def test_a_sign_in_never_leads_elsewhere(keyed_node: HttpNode, target: str) -> None:
    answer = keyed_node.client().post("/login", data={"key": KEY, "next": target})
    assert answer.headers["location"] == "/"


def test_headers_of_every_answer(open_node: HttpNode) -> None:
    client = open_node.client()
    for path in ("/", "/health", "/api/v1/jobs", "/nothing", "/static/console.js"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path", ["/static/../router.py", "/static/..%2frouter.py", "/static/", "/static//etc/passwd", "/static/x"]
)
def test_only_files_of_the_page_are_served(open_node: HttpNode, path: str) -> None:
    with socket.create_connection(("127.0.0.1", int(open_node.url.rpartition(":")[2]))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == b"404"


def test_one_line_per_request_with_its_trace_and_no_secret(open_node: HttpNode) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = open_node.client().get("/api/v1/jobs/token=hunter2?text=password")
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["status"], line["actor"]) == ("GET", 422, "local:1000")
    assert line["trace_id"] == answer.headers["traceparent"][3:35]
    assert "hunter2" not in json.dumps(line)


def test_what_nobody_foresaw_is_a_problem_without_a_traceback(
    open_node: HttpNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("secret=hunter2")

    monkeypatch.setattr(open_node.store, "read", lambda work: broken())
    with structlog.testing.capture_logs() as lines:
        answer = open_node.client().get("/api/v1/jobs")
    assert code(answer) == (500, "internal_error")
    assert "hunter2" not in answer.text
    assert "ZeroDivision" not in answer.text
    assert answer.headers["content-security-policy"]
    (line,) = [line for line in lines if line["event"] == "request_failed"]
    assert line["trace_id"] == answer.json()["trace_id"]
