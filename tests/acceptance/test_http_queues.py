"""Queues over REST and on the command line: pause, resume, and what waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.http_node import HttpNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HttpNode]:
    with HttpNode(tmp_path) as node:
        yield node


@pytest.fixture
def client(node: HttpNode) -> Iterator[httpx.Client]:
    with node.client() as client:
        yield client


def test_pause_and_resume(client: httpx.Client, node: HttpNode) -> None:
    node.submit("t.ok")
    answer = client.post("/api/v1/queues/celery/pause", json={"reason": "too hot"})
    assert answer.status_code == 200
    paused = answer.json()
    assert (paused["name"], paused["changed"], paused["paused"]["reason"]) == ("celery", True, "too hot")
    assert client.post("/api/v1/queues/celery/pause").json()["changed"] is False
    (queue,) = client.get("/api/v1/queues").json()["items"]
    assert queue["jobs"] == {"waiting": 1, "running": 0, "unsent": 0}
    assert queue["paused"] == paused["paused"]
    assert client.post("/api/v1/queues/celery/resume").json() == {"name": "celery", "paused": None, "changed": True}
    assert client.post("/api/v1/queues/celery/resume").json()["changed"] is False
    (queue,) = client.get("/api/v1/queues").json()["items"]
    assert queue["paused"] is None


def test_wrong_requests_are_refused(client: httpx.Client) -> None:
    assert client.post("/api/v1/queues/q/pause", json={"why": "x"}).status_code == 422
    assert client.post("/api/v1/queues/q/pause", json={"reason": "x" * 1001}).status_code == 422
    assert client.post(f"/api/v1/queues/{'q' * 300}/pause").status_code == 422
    assert client.post("/api/v1/queues/%0a/pause").json()["code"] == "invalid_request"
    assert client.post("/api/v1/queues/q/pause?now=1").status_code == 422
