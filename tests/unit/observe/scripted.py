"""An observer's listening and storing over a real store, with events that a test publishes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headway.model.errors import BrokerAway, StoreUnavailable
from headway.model.observed import Gap
from headway.observe.buffer import Buffer
from headway.observe.listener import Listener
from headway.observe.parse import Parser, Privacy
from headway.observe.recorder import Recorder
from headway.observe.sources import AT_ONCE, Raw
from headway.ports.observations import Batch, ObservationDoor, Recorded
from headway.service import StoreObservationDoor, system_context
from headway.testing.clock import FakeClock
from tests.observations import NOW
from tests.unit.store.house import House, open_house
from tests.waiting import wait_until


class ScriptedSource:
    """An ``EventSource`` that hears what a test says, in the order in which it says so."""

    def __init__(self) -> None:
        self._steps: list[list[Raw] | str | bool] = []
        self._said = threading.Condition()
        self.acknowledged: list[int] = []
        self.closed: bool | None = None
        self.away = False
        self.connects = 0

    def say(self, *events: dict[str, Any] | bytes, tag: int = 0) -> None:
        """Publish events, all in one poll."""
        raws = [
            Raw(one if isinstance(one, bytes) else json.dumps(one).encode(), "application/json", "utf-8", tag)
            for one in events
        ]
        self._add(raws)

    def lose(self, *, kept: bool = False) -> None:
        """The connection breaks; at the next one the broker says whether it kept what came meanwhile."""
        self._add("lost")
        self._add(kept)

    def _add(self, step: list[Raw] | str | bool) -> None:
        with self._said:
            self._steps.append(step)
            self._said.notify_all()

    def connect(self) -> bool:
        self.connects += 1
        if self.away:
            raise BrokerAway("nobody there")
        with self._said:
            if self._steps and isinstance(self._steps[0], bool):
                return bool(self._steps.pop(0))
        return False

    drained = True

    def poll(self, seconds: float) -> list[Raw]:
        with self._said:
            if not self._steps:
                self._said.wait(0.01)
            if not self._steps:
                return []
            step = self._steps.pop(0)
        if isinstance(step, list):
            self.drained = len(step) < AT_ONCE
            return step
        raise BrokerAway("cut")

    def check(self) -> None:
        if self.away:
            raise BrokerAway("no answer")

    def stored(self, tag: int) -> None:
        self.acknowledged.append(tag)

    def close(self, *, for_good: bool) -> None:
        self.closed = for_good


class TroubledDoor(StoreObservationDoor):
    """The real door; while ``away`` the database is, and what ``refuses`` says is refused like a wrong value."""

    away = False
    refuses: Callable[[Batch], bool] = staticmethod(lambda batch: False)
    tried = 0

    def record(self, batch: Batch) -> Recorded:
        self.tried += 1
        if self.away:
            raise StoreUnavailable("the database is away")
        if self.refuses(batch):
            raise ValueError("it cannot be stored")
        return super().record(batch)

    def begin(self, observer_id: str, facts: Mapping[str, Any]) -> Gap | None:
        if self.away:
            raise StoreUnavailable("the database is away")
        return super().begin(observer_id, facts)

    def close_gap(self, gap: Gap, ended_at: int) -> Gap:
        if self.away:
            raise StoreUnavailable("the database is away")
        return super().close_gap(gap, ended_at)


class Watching:
    """Listener, buffer and recorder as an observer has them."""

    def __init__(self, folder: Path, *, buffer: Buffer | None = None, house: House | None = None) -> None:
        self.clock: Any = FakeClock(NOW) if house is None else house.services.clock
        self.house = house or open_house(folder, clock=self.clock)
        self.door = TroubledDoor(system_context(self.house.services, "observer"))
        self.source = ScriptedSource()
        self.gaps: list[Gap | None] = []
        self.queues: dict[str, str] = {}
        self.buffer = buffer or Buffer()
        self.listener = Listener(self.source, self.buffer, self.clock)
        door: ObservationDoor = self.door
        self.recorder = Recorder(
            door,
            self.buffer,
            Parser(Privacy()),
            frozenset({"application/json"}),
            self.listener,
            self.clock,
            on_gap=self.gaps.append,
            queue_of=self.queues.get,
            facts=dict,
            workers=lambda: self.house.store.read(lambda reader: reader.observed.workers()),
            observer_id="watcher",
        )

    def __enter__(self) -> Self:
        self.recorder.start()
        self.listener.start()
        wait_until(lambda: self.gaps or self.door.away or self.source.away, what="the first connection to be noted")
        return self

    def stop(self) -> bool:
        """As an observer stops."""
        self.listener.stop(timeout=10)
        stored = self.recorder.stop(timeout=10)
        if stored:
            self.listener.close()
        return stored

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.house.store.close()
        self.house.signal.close()

    def states(self) -> dict[str, str]:
        """Celery state of every task that is stored."""
        found = self.house.store.read(lambda r: r.observed.live((-1, ""), 1000))
        ids = [f"t{number}" for number in range(300)]
        found += self.house.store.read(lambda r: r.observed.tasks(ids)).values()
        return {one.id: str(one.state) for one in found}

    def becomes(self, **states: str) -> None:
        """Wait until exactly these tasks are stored, in these states."""
        wait_until(lambda: self.states() == states, what=f"{states} to be stored", seconds=30)


def event(task_id: str, kind: str = "task-started", at: int = NOW, **fields: Any) -> dict[str, Any]:
    """An event of a task."""
    return {"type": kind, "uuid": task_id, "timestamp": at / 1e6, "hostname": "one@host", **fields}
