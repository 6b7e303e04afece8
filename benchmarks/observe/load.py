"""What watching costs the broker: commands a second while nothing happens."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import redis

from benchmarks.machine import Load
from benchmarks.measure import Figure, Goal
from benchmarks.observe.brokers import running_valkey
from benchmarks.observe.plan import Plan
from benchmarks.observe.watchers import FLOWER, HEADWAY, FlowerWatcher, HeadwayWatcher
from benchmarks.plan import folder, say
from tests.cluster.settings import Cluster
from tests.cluster.workers import Worker

# After a start both ask more than later.
_SETTLE_SECONDS = 12.0
_TWENTY = Goal(at_most=20.0)
_NOBODY = "nobody"
_TOLD = 5


def broker_load(plan: Plan) -> list[Figure]:
    """Commands a second on Valkey with one idle worker, beyond those without anybody who watches."""
    # Headway asks for all that it asks for within half a minute; only the list of known tasks comes every five minutes.
    seconds = plan.of(60, 6)
    found: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    others = []
    for turn in range(plan.runs):
        with Load() as load, folder() as path, running_valkey() as server:
            cluster = Cluster(server.url, path, results=server.url)
            with Worker(cluster, pool="solo"), _client(server.port) as connection:
                for name, start in _watchers(server.url).items():
                    with folder() as own, start(own):
                        time.sleep(plan.of(int(_SETTLE_SECONDS), 4))
                        commands = _commands(connection, seconds)
                    found[name].append(sum(commands.values()) / seconds)
                    kinds[name].update(commands)
        others.append(load.others)
        say(f"{turn + 1}: " + ", ".join(f"{name} {values[-1]:.1f}/s" for name, values in found.items()))
    alone, busy = found.pop(_NOBODY), tuple(others)
    figures = [Figure("Valkey, one idle worker, nobody watches: commands", "commands/s", tuple(alone), None, busy)]
    for name, values in found.items():
        more = tuple(each - own for each, own in zip(values, alone, strict=True))
        goal = _TWENTY if name == HEADWAY.name else None
        note = "most: " + _most(kinds[name] - kinds[_NOBODY], seconds * plan.runs)
        figures.append(Figure(f"Valkey, one idle worker, {name}: commands more", "commands/s", more, goal, busy, note))
    return figures


def _watchers(url: str) -> Mapping[str, Callable[[Path], AbstractContextManager[Any]]]:
    return {
        _NOBODY: lambda _: nullcontext(),
        HEADWAY.name: lambda path: HeadwayWatcher(path / "data", url, url),
        FLOWER.name: lambda path: FlowerWatcher(path, url),
    }


def _commands(connection: redis.Redis, seconds: float) -> Counter[str]:
    """Commands that Valkey executed within so many seconds, those inside of scripts and transactions included."""
    before = _stats(connection)
    time.sleep(seconds)
    return _stats(connection) - before


def _stats(connection: redis.Redis) -> Counter[str]:
    stats: Any = connection.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()})


def _most(commands: Counter[str], seconds: float) -> str:
    return ", ".join(f"{name} {count / seconds:.1f}" for name, count in commands.most_common(_TOLD))


@contextmanager
def _client(port: int) -> Iterator[redis.Redis]:
    connection = redis.Redis(port=port)
    try:
        yield connection
    finally:
        connection.close()
