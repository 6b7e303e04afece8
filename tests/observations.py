"""What tests say about tasks of a cluster."""

from __future__ import annotations

from typing import Any

from headway.model.evidence import Evidence
from headway.model.observed import ObservedWorker
from headway.model.sayings import Said
from headway.ports.observations import Batch
from headway.service import Services, StoreObservationDoor, system_context

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


def said(task_id: str, what: Said, at: int = NOW, worker: str = "one@host", **facts: Any) -> Evidence:
    """One thing said of a task."""
    return Evidence(task_id, what, at, worker, facts)


def success(task_id: str, at: int = NOW, *, worker: str = "one@host", **facts: Any) -> list[Evidence]:
    """All that is said of a task that succeeds within three seconds; facts are what its reception says."""
    named = {"name": "app.add", "queue": "celery", "retries": 0, "root_id": task_id, **facts}
    return [
        said(task_id, Said.SENT, at, "gen1@client", **named),
        said(task_id, Said.RECEIVED, at + SECOND, worker, **{**named, "queue": None}),
        said(task_id, Said.STARTED, at + 2 * SECOND, worker),
        said(task_id, Said.SUCCEEDED, at + 3 * SECOND, worker, result="3", runtime=1.0),
    ]


def batch(*evidence: Evidence, seen_at: int = NOW, **more: Any) -> Batch:
    """What was heard up to a moment."""
    return Batch(evidence, seen_at, more.pop("watermark_at", seen_at), **more)


def worker(hostname: str, seen_at: int = NOW, **facts: Any) -> ObservedWorker:
    """A worker as one heartbeat shows it."""
    return ObservedWorker(hostname, seen_at, seen_at, seen_at, None, facts)


def door_over(services: Services, observer_id: str = "watcher") -> StoreObservationDoor:
    """The door of an observer that has begun."""
    door = StoreObservationDoor(system_context(services, "observer"))
    door.begin(observer_id, {})
    return door
