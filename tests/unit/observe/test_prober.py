"""What is said of answers: as old as the last answer, not as the last question. A real Valkey and a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from headway.observe.live import LiveAsker
from headway.observe.parse import Parser, Privacy
from headway.observe.prober import Prober
from headway.observe.target import Target
from headway.testing.clock import FakeClock
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker
from tests.observations import NOW, door_over
from tests.servers.valkey import ValkeyServer
from tests.unit.store.house import House, open_house

pytestmark = pytest.mark.valkey
SECONDS = 20.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def house(tmp_path: Path, clock: FakeClock) -> Iterator[House]:
    one = open_house(tmp_path, clock=clock)
    yield one
    one.store.close()
    one.signal.close()


@pytest.fixture
def target(own_valkey: ValkeyServer) -> Iterator[Target]:
    app = Celery("probed", broker=own_valkey.url, set_as_current=False)
    yield Target(app, own_app=True, observer_id="test")
    app.close()


@pytest.fixture
def asks(target: Target, house: House, clock: FakeClock) -> Iterator[Prober]:
    one = Prober(
        target,
        door_over(house.services),
        Parser(Privacy()),
        clock,
        strict=False,
        online=set,
        beating=set,
        sent_to=set,
        mute=set,
        answered=lambda answers: None,
        enable_events=False,
    )
    yield one
    one._inspector.close()
    one._broker.close()


def told(asks: Prober) -> tuple[int | None, str]:
    return asks.workers_at, asks.workers_say


def last(asker: LiveAsker) -> int | None:
    return asker.workers_at


def test_the_age_of_workers_is_that_of_their_last_answer(
    asks: Prober, target: Target, own_valkey: ValkeyServer, clock: FakeClock, tmp_path: Path
) -> None:
    asker = LiveAsker(target, clock, strict=False)
    asker.start()
    try:
        asks._ask_stats()
        assert told(asks) == (None, "no worker answers")
        assert last(asker) is None
        with Worker(Cluster(own_valkey.url, tmp_path), pool="solo") as worker:
            asks._ask_stats()
            assert told(asks) == (NOW, "")
            clock.advance(5)
            # A report that asks is answered by workers, too.
            assert asker.ask(SECONDS, 1)().workers == frozenset({worker.hostname})
            answered = clock.now()
            assert last(asker) == answered
        clock.advance(30)
        asks._ask_stats()
        asks._ask_held()
        assert told(asks) == (NOW, "no worker answers")
        assert asker.ask(SECONDS, 1)().workers == frozenset()
        assert last(asker) == answered
    finally:
        asker.stop(timeout=5.0)


def test_of_a_message_that_is_seen_for_the_first_time_no_age_is_known(
    asks: Prober, target: Target, house: House, own_valkey: ValkeyServer, clock: FakeClock
) -> None:
    def oldest() -> tuple[Any, Any]:
        asks._ask_depths()
        (queue,) = house.store.read(lambda r: r.observed.queues())
        return queue.facts["oldest"], queue.facts["oldest_at"]

    for _ in range(3):
        target.app.send_task("anything")
    assert oldest() == ("unknown", None)
    clock.advance(5)
    assert oldest() == ("at least", NOW)
    with Redis.from_url(own_valkey.url) as client:
        client.rpop("celery")
    clock.advance(5)
    assert oldest() == ("unknown", None)
