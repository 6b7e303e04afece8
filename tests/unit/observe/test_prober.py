"""What is said of answers: as old as the last answer, not as the last question."""

from __future__ import annotations

from typing import Any, cast

import pytest

from headway.bootstrap.cluster import cluster_target
from headway.model.evidence import ObservedTask
from headway.observe.live import LiveAsker
from headway.observe.parse import Parser, Privacy
from headway.observe.prober import Prober
from headway.ports.cluster import QueueDepth
from headway.ports.observations import ObservationDoor
from headway.testing.clock import FakeClock
from tests.observations import NOW, SECOND


class Workers:
    """An inspector whose workers answer as a test says."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def ask(self, command: str, **how: object) -> dict[str, Any]:
        return self.answers


class Broker:
    """A broker with one queue."""

    def __init__(self) -> None:
        self.queue = QueueDepth("celery", 3, None, "head")

    commands = 2

    def bound(self) -> set[str]:
        return set()

    def discovered(self) -> set[str]:
        return set()

    def queues(self, names: object) -> list[QueueDepth]:
        return [self.queue]

    def ping(self) -> None:
        pass

    def unacknowledged(self) -> int | None:
        return None


class Door:
    """A door that keeps what it is told of queues."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def record(self, batch: object) -> None:
        pass

    def queues(self, queues: list[Any]) -> None:
        self.told = queues

    def known(self, ids: object) -> dict[str, ObservedTask]:
        return {}

    def oldest_waiting(self, queue: str) -> int | None:
        return None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


def prober(clock: FakeClock, door: Door) -> Prober:
    return Prober(
        cluster_target(None, "redis://127.0.0.1:1/0", None, observer_id="test"),
        cast("ObservationDoor", door),
        Parser(Privacy()),
        clock,
        strict=False,
        online=set,
        sent_to=set,
        mute=set,
        enable_events=False,
    )


def told(asks: Prober) -> tuple[int | None, str]:
    return asks.workers_at, asks.workers_say


def test_the_age_of_workers_is_that_of_their_last_answer(clock: FakeClock) -> None:
    asks, workers = prober(clock, Door()), Workers()
    asks._inspector = cast("Any", workers)
    asks._ask_stats()
    assert told(asks) == (None, "no worker answers")
    workers.answers = {"one@host": {"pid": 1}}
    asks._ask_stats()
    assert told(asks) == (NOW, "")
    workers.answers = {}
    clock.advance(30)
    asks._ask_stats()
    asks._ask_held()
    assert told(asks) == (NOW, "no worker answers")


def test_of_a_message_that_is_seen_for_the_first_time_no_age_is_known(clock: FakeClock) -> None:
    door, broker = Door(), Broker()
    asks = prober(clock, door)
    asks._broker = cast("Any", broker)
    asks._ask_depths()
    (queue,) = door.told
    assert (queue.facts["oldest"], queue.facts["oldest_at"]) == ("unknown", None)
    clock.advance(5)
    asks._ask_depths()
    (queue,) = door.told
    assert (queue.facts["oldest"], queue.facts["oldest_at"]) == ("at least", NOW)
    broker.queue = QueueDepth("celery", 2, None, "next")
    clock.advance(5)
    asks._ask_depths()
    (queue,) = door.told
    assert (queue.facts["oldest"], NOW + 10 * SECOND) == ("unknown", clock.now())


def test_an_answer_to_a_report_is_an_answer_of_workers_too(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    target = cluster_target(None, "redis://127.0.0.1:1/0", None, observer_id="test")
    asker, workers = LiveAsker(target, clock, strict=False), Workers()
    monkeypatch.setattr(asker, "_ask_workers", lambda expected: workers.answers)
    monkeypatch.setattr(asker, "_broker", Broker())
    assert asker._look(1).workers == frozenset()
    assert asker.workers_at is None
    workers.answers = {"one@host": {"ok": "pong"}}
    clock.advance(5)
    assert asker._look(1).workers == frozenset({"one@host"})
    workers.answers = {}
    clock.advance(30)
    assert asker._look(1).workers == frozenset()
    assert asker.workers_at == NOW + 5 * SECOND
