"""Ids of observed tasks are whatever their producer chose: with slashes, signs of URLs, spaces, any letters."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from headway.client import Client
from tests.acceptance.http_node import HttpNode
from tests.observations import batch, door_over, success

IDS = ["a/b c?#é", "/", "a/../b", "a%2Fb", "a//b/", "a/view", "a&b=c;d", "日本"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNode]:
    with HttpNode(tmp_path_factory.mktemp("node")) as node:
        now = node.services.clock.now()
        for task_id in IDS:
            door_over(node.services).record(batch(*success(task_id, now), seen_at=now))
        yield node


@pytest.fixture
def client(node: HttpNode) -> Iterator[httpx.Client]:
    with node.client() as client:
        yield client


@pytest.mark.parametrize("task_id", IDS)
def test_every_path_takes_every_id(client: httpx.Client, node: HttpNode, task_id: str) -> None:
    path = quote(task_id, safe="")
    assert client.get(f"/api/v1/tasks/{path}").json()["id"] == task_id
    assert [one["id"] for one in client.get(f"/api/v1/tasks/{path}/related").json()["items"]] == [task_id]
    assert client.get(f"/api/celery/task/{path}").json()["task_id"] == task_id
    page = client.get(f"/tasks/{path}/view")
    assert page.status_code == 200
    assert f'hx-get="/console/tasks/{path}"' in page.text
    assert client.get(f"/console/tasks/{path}").status_code == 200
    with Client(node.url) as own:
        assert own.task(task_id)["id"] == own.related(task_id)[0]["id"] == task_id


@pytest.mark.parametrize("task_id", IDS)
def test_the_documents_path_has_the_documents_body(client: httpx.Client, task_id: str) -> None:
    answer = client.get(f"/api/celery/task/{quote(task_id, safe='')}not")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NotFound"
