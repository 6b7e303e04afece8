"""A store with a cluster as a test describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headway.model.evidence import Evidence
from headway.model.situation import Situation
from headway.ports.cluster import LiveAnswer, LookedUp, Source
from headway.service import Context, StoreObservationDoor, read_sitrep
from headway.testing.clock import FakeClock
from tests.observations import NOW, batch, door_over, worker
from tests.unit.store.house import House, open_house


@dataclass
class ClusterOf:
    """A ``ClusterView`` as a test wants it: everything answers, unless it says otherwise."""

    clock: FakeClock
    broker: bool = True
    workers: frozenset[str] | None = frozenset({"one@host"})
    says: str = ""
    events: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)

    def live(self, timeout: float) -> Callable[[], LiveAnswer]:
        workers = self.workers if self.broker else None
        return lambda: LiveAnswer(self.broker, workers, self.clock.now(), self.says)

    def sources(self) -> list[Source]:
        now = self.clock.now()
        good: dict[str, Any] = {"seen_at": now, "complete": True, "ok": True}
        return [
            Source("events", **{**good, **self.events}),
            Source("workers", **{**good, **self.asked}),
            Source("broker", **good),
            Source("results", **{**good, **self.results}),
        ]

    def look_up(self, task_id: str, timeout: float) -> LookedUp:
        return LookedUp.NOBODY_KNOWS

    def beat_schedule(self) -> dict[str, Any]:
        return {}


@dataclass
class Scene:
    """A store with a watched cluster."""

    house: House
    clock: FakeClock
    cluster: ClusterOf
    door: StoreObservationDoor

    @property
    def ctx(self) -> Context:
        return replace(self.house.ctx, services=replace(self.house.services, cluster=self.cluster))

    def report(self) -> Situation:
        """The report once everything was counted."""
        ctx = self.ctx
        ctx.services.job_totals.count()
        return read_sitrep(ctx)

    def hears(self, *evidence: Evidence, worker_of: str | None = "one@host") -> None:
        now = self.clock.now()
        beats = [worker(worker_of, now, concurrency=2, queues=["celery"])] if worker_of else []
        self.door.record(batch(*evidence, seen_at=now, workers=beats))


@contextmanager
def scene_at(folder: Path) -> Iterator[Scene]:
    """A scene whose store is in this folder."""
    clock = FakeClock(NOW)
    house = open_house(folder, clock=clock)
    yield Scene(house, clock, ClusterOf(clock), door_over(house.services))
    house.store.close()
    house.signal.close()


def codes(report: Situation) -> set[str]:
    return {one.code for one in report.attention}
