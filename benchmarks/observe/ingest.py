"""How many events a second are stored, and whether every one is."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import Load, tree_seconds
from benchmarks.measure import Figure, Goal
from benchmarks.observe.brokers import NAMES, available, running
from benchmarks.observe.plan import Plan
from benchmarks.observe.publisher import Publisher, two_publishers
from benchmarks.observe.stream import KINDS
from benchmarks.observe.watchers import HEADWAY, Contender, FlowerWatcher, contenders, still, warm
from benchmarks.plan import folder, say

_STILL_SECONDS = 10.0
_EVERY = Goal(at_least=1.0)
_WHOLE = (
    "SELECT id FROM observed_tasks WHERE state = 'SUCCESS' AND gap IS NULL AND sent_at IS NOT NULL "
    "AND received_at IS NOT NULL AND started_at IS NOT NULL AND finished_at IS NOT NULL AND name IS NOT NULL"
)


@dataclass(frozen=True)
class Flood:
    """One flood.

    Attributes:
        published: events a second, by both publishers together.
        taken: events a second, until the last one that arrived at all.
        share: of the events, those that were taken in.
        kept: of the tasks, those that are there as a whole.
        cpu: µs per event that was taken in.
    """

    published: float
    taken: float
    share: float
    kept: float | None
    cpu: float


def ingest(plan: Plan) -> list[Figure]:
    """Two publishers push as fast as they can: events stored a second, and how many were lost."""
    tasks = plan.of(50_000, 2_000)
    brokers, all_of_them = available(plan.brokers), contenders()
    floods: dict[tuple[str, str], list[Flood]] = defaultdict(list)
    others: list[float] = []
    for turn in range(plan.runs):
        with Load() as load:
            for broker in brokers:
                with running(broker) as url:
                    for contender in all_of_them:
                        flood = _once(contender, url, tasks)
                        floods[broker, contender.name].append(flood)
                        say(
                            f"{turn + 1}: {NAMES[broker]}, {contender.name}: {flood.taken:,.0f} events/s of "
                            f"{flood.published:,.0f} published, {flood.share:.2%} of them"
                        )
        others.append(load.others)
    return [
        figure
        for (broker, name), found in floods.items()
        for figure in _rows(f"{NAMES[broker]}, {name}", name, found, tasks, tuple(others))
    ]


def _rows(where: str, name: str, found: Sequence[Flood], tasks: int, busy: tuple[float, ...]) -> list[Figure]:
    ours = name == HEADWAY.name
    taken, lost = ("stored", "in its database") if ours else ("counted", "in its memory")
    note = f"{tasks * len(KINDS):,} events, two publishers"
    rows = [
        Figure(f"{where}: events published", "events/s", tuple(one.published for one in found), None, busy, note),
        Figure(
            f"{where}: events {taken}",
            "events/s",
            tuple(one.taken for one in found),
            Goal(at_least=5_000) if ours else None,
            busy,
        ),
        Figure(
            f"{where}: events {taken}, of those published",
            "share",
            tuple(one.share for one in found),
            _EVERY if ours else None,
            busy,
        ),
        Figure(f"{where}: CPU per event {taken}", "µs/event", tuple(one.cpu for one in found), None, busy),
    ]
    kept = tuple(one.kept for one in found if one.kept is not None)
    if kept:
        note = "looked up by their ids" if ours else "by GET /api/tasks"
        rows.append(Figure(f"{where}: whole tasks {lost}", "share", kept, _EVERY if ours else None, busy, note))
    return rows


def _once(contender: Contender, broker: str, tasks: int) -> Flood:
    with folder() as path, two_publishers(broker, path) as publishers:
        with contender.start(path, broker) as watcher:
            warm(watcher, publishers)
            before, first, cpu = watcher.seen(), [one.tasks for one in publishers], tree_seconds(watcher.pid)
            begun = time.monotonic()
            for publisher in publishers:
                publisher.ask(tasks // len(publishers))
            answers = [publisher.wait() for publisher in publishers]
            published = time.monotonic() - begun
            events = sum(answer["events"] for answer in answers)
            seen, ended = still(watcher, _STILL_SECONDS, ends_at=before + events)
            cpu = (tree_seconds(watcher.pid) - cpu) / max(1, seen - before) * 1e6
            shown = min(1.0, watcher.shown() / tasks) if isinstance(watcher, FlowerWatcher) else None
        took = max(ended - begun, published)
        if contender.name == HEADWAY.name:
            shown = whole_tasks(path / "data", publishers, first) / tasks
    return Flood(events / published, (seen - before) / took, (seen - before) / events, shown, cpu)


def whole_tasks(data_dir: Path, publishers: Sequence[Publisher], first: Sequence[int]) -> int:
    """How many of the tasks that were published are stored with all four events; asks SQLite, not Headway.

    Args:
        data_dir: of an observer that has ended.
        publishers: whose tasks.
        first: for each, the number of the first task that counts.
    """
    with closing(sqlite3.connect(f"file:{data_dir / 'jobs' / 'registry.db'}?mode=ro", uri=True)) as connection:
        there = {row[0] for row in connection.execute(_WHOLE)}
    return sum(
        one in there for publisher, number in zip(publishers, first, strict=True) for one in publisher.ids(number)
    )
