"""What an event costs whoever watches: CPU time beyond that of idling, at a rate that all can follow."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

from benchmarks.machine import Load, tree_seconds
from benchmarks.measure import Figure, Goal
from benchmarks.observe.brokers import NAMES, available, running
from benchmarks.observe.plan import Plan
from benchmarks.observe.publisher import Publisher
from benchmarks.observe.stream import KINDS
from benchmarks.observe.watchers import FLOWER, HEADWAY, Contender, Watcher, contenders, warm
from benchmarks.plan import folder, say
from benchmarks.processes import ChildFailed

_RATE = 2_000
_SETTLE_SECONDS = 2.0
_TRIES = 3
_HALF = Goal(at_most=0.5)
_WAYS = {True: "up to ten events a message", False: "one event a message"}
_Key = tuple[str, bool, str]


def cpu_per_event(plan: Plan) -> list[Figure]:
    """CPU per event at 2,000 events a second, less that of idling: Headway, Flower, celery-exporter in turns."""
    seconds = plan.of(12, 3)
    brokers, all_of_them = available(plan.brokers), contenders()
    costs: dict[_Key, list[float]] = defaultdict(list)
    idles: dict[tuple[str, str], list[float]] = defaultdict(list)
    others: list[float] = []
    for turn in range(plan.runs):
        with Load() as load:
            for broker in brokers:
                with running(broker) as url:
                    for contender in all_of_them:
                        idle, found = _whole(contender, url, seconds)
                        idles[broker, contender.name].append(idle * 100)
                        for multi, cost in found.items():
                            costs[broker, multi, contender.name].append(cost * 1e6)
                        said = ", ".join(f"{cost * 1e6:.0f} µs ({_WAYS[multi]})" for multi, cost in found.items())
                        say(f"{turn + 1}: {NAMES[broker]}, {contender.name}: {said}, idle {idle * 100:.1f} %")
        others.append(load.others)
    busy = tuple(others)
    figures = [figure for broker in brokers for multi in _WAYS for figure in _rows(costs, broker, multi, busy)]
    for (broker, name), values in idles.items():
        note = "four workers' heartbeats and nothing else"
        figures.append(Figure(f"{NAMES[broker]}, {name}: idle CPU", "% core", tuple(values), None, busy, note))
    if len(all_of_them) == len([HEADWAY, FLOWER]):
        say("celery-exporter is on no package registry and was not measured: CELERY_EXPORTER names an executable of it")
    return figures


def _rows(costs: dict[_Key, list[float]], broker: str, multi: bool, busy: tuple[float, ...]) -> list[Figure]:
    where = f"{NAMES[broker]}, {_WAYS[multi]}"
    mine = costs[broker, multi, HEADWAY.name]
    figures = []
    for (of, way, name), values in costs.items():
        if (of, way) != (broker, multi):
            continue
        figures.append(Figure(f"{where}, {name}: CPU", "µs/event", tuple(values), None, busy))
        if name != HEADWAY.name:
            ratios = tuple(ours / theirs for ours, theirs in zip(mine, values, strict=True))
            goal = _HALF if name == FLOWER.name else None
            figures.append(Figure(f"{where}, Headway : {name}", "times", ratios, goal, busy))
    return figures


def _whole(contender: Contender, broker: str, seconds: int) -> tuple[float, dict[bool, float]]:
    """As ``_once``; a peer that missed events is tried again, twice at most. That Headway misses any fails the run."""
    for _ in range(0 if contender.name == HEADWAY.name else _TRIES - 1):
        try:
            return _once(contender, broker, seconds)
        except ChildFailed as error:
            say(f"{contender.name}: {error}; once more")
    return _once(contender, broker, seconds)


def _once(contender: Contender, broker: str, seconds: int) -> tuple[float, dict[bool, float]]:
    """One contender on one broker: idle CPU (share of a core), CPU seconds per event by way of publishing."""
    costs: dict[bool, float] = {}
    idle = 0.0
    with folder() as path, contender.start(path, broker) as watcher:
        for multi in _WAYS:
            with Publisher(broker, path, multi=multi, seed=1 + multi) as publisher:
                warm(watcher, [publisher])
                if not costs:
                    time.sleep(_SETTLE_SECONDS)
                    idle = _idle(watcher, seconds)
                costs[multi] = _cost(watcher, publisher, seconds, idle, path)
    return idle, costs


def _idle(watcher: Watcher, seconds: float) -> float:
    begun, cpu = time.monotonic(), tree_seconds(watcher.pid)
    time.sleep(seconds + _SETTLE_SECONDS)
    return (tree_seconds(watcher.pid) - cpu) / (time.monotonic() - begun)


def _cost(watcher: Watcher, publisher: Publisher, seconds: int, idle: float, path: Path) -> float:
    seen, begun, cpu = watcher.seen(), time.monotonic(), tree_seconds(watcher.pid)
    events = publisher.publish(seconds * _RATE // len(KINDS), _RATE)
    # Not asked meanwhile, because the answer costs the watcher too.
    time.sleep(_SETTLE_SECONDS)
    cpu = tree_seconds(watcher.pid) - cpu - idle * (time.monotonic() - begun)
    found = watcher.seen() - seen
    if found != events:
        raise ChildFailed(f"{found:,} of {events:,} events were seen, so the run does not count ({path})")
    return cpu / events
