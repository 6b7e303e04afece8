"""A look-up in a real result backend: found, nobody knows, not asked. Never longer than it may."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from headway.observe.observer import Observer, ObserverSettings
from headway.observe.target import Target
from headway.ports.cluster import LookedUp
from headway.system import SystemClock
from tests.observations import door_over
from tests.servers.valkey import ValkeyServer
from tests.unit.store.house import House, open_house

SECONDS = 0.3
pytestmark = pytest.mark.valkey


@pytest.fixture
def house(tmp_path: Path) -> House:
    return open_house(tmp_path)


def observer_of(house: House, broker: str, results: str | None) -> Observer:
    """An observer that was not started: a look-up needs no thread of it."""
    app = Celery("looked", broker=broker, backend=results)
    return Observer(
        Target(app, own_app=True, observer_id="looker"),
        door_over(house.services),
        SystemClock(),
        ObserverSettings("looker"),
        list,
    )


@pytest.fixture
def observer(house: House, own_valkey: ValkeyServer) -> Iterator[Observer]:
    made = observer_of(house, own_valkey.url, own_valkey.url)
    app: Any = made._target.app
    app.backend.store_result("known", 3, "SUCCESS")
    yield made
    app.close()


def test_found_or_not(observer: Observer, house: House) -> None:
    assert observer.look_up("known", 5.0) is LookedUp.FOUND
    assert house.store.read(lambda r: r.observed.task("known")) is not None
    assert observer.look_up("nobody", 5.0) is LookedUp.NOBODY_KNOWS


def test_a_frozen_backend_does_not_say_that_there_is_none(observer: Observer, own_valkey: ValkeyServer) -> None:
    own_valkey.pause()
    try:
        began = time.monotonic()
        # More than may wait at once.
        assert {observer.look_up("known", SECONDS) for _ in range(10)} == {LookedUp.NOT_ASKED}
        assert time.monotonic() - began < 10 * SECONDS + 2
    finally:
        own_valkey.resume()


def test_a_backend_that_refuses_does_not_say_that_there_is_none(observer: Observer, own_valkey: ValkeyServer) -> None:
    with Redis.from_url(own_valkey.url) as client:
        client.lpush("celery-task-meta-other", "no result")
        assert observer.look_up("other", 5.0) is LookedUp.NOBODY_KNOWS
        client.execute_command("ACL", "SETUSER", "default", "-strlen")
        try:
            assert observer.look_up("known", 5.0) is LookedUp.NOT_ASKED
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+strlen")


@pytest.mark.parametrize("results", [None, "rpc://"])
def test_what_nobody_can_read_is_not_waited_for(house: House, own_valkey: ValkeyServer, results: str | None) -> None:
    observer = observer_of(house, own_valkey.url, results)
    assert observer.look_up("known", SECONDS) is LookedUp.NOT_READABLE
