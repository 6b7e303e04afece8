"""A million observed tasks: their events are published as fast as the watcher stores them, and no faster."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import tree_rss
from benchmarks.observe.brokers import running_valkey
from benchmarks.observe.plan import Plan
from benchmarks.observe.publisher import two_publishers
from benchmarks.observe.stream import KINDS
from benchmarks.observe.watchers import Contender, HeadwayWatcher, Watcher, still, warm
from benchmarks.plan import folder, say
from benchmarks.processes import ChildFailed

# So many tasks are published before it is looked how far the watcher is.
_STEP = 2_000
_AHEAD = 20_000
_STILL_SECONDS = 15.0
_SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Filled:
    """What a watcher needed for its tasks.

    Attributes:
        rate: events a second that it took in.
        idle: MiB of memory (RSS, all processes) before the first task.
        few, many: the same after 10,000 tasks and after all of them.
        largest: at any look.
    """

    rate: float
    idle: float
    few: float
    many: float
    largest: float


def fill_contender(contender: Contender, tasks: int, few: int) -> Filled:
    """Let a contender see so many tasks on a Valkey of its own, and end it.

    Raises:
        ChildFailed: some events were never taken in.
    """
    with folder() as path, running_valkey() as server, contender.start(path, server.url) as watcher:
        return feed(watcher, server.url, path, tasks, few)


def feed(watcher: Watcher, broker: str, path: Path, tasks: int, few: int) -> Filled:
    """Let a running watcher see so many tasks, ``few`` of them first.

    Raises:
        ChildFailed: some events were never taken in.
    """
    with two_publishers(broker, path) as publishers:
        warm(watcher, publishers)
        time.sleep(_SETTLE_SECONDS)
        memory = [tree_rss(watcher.pid)]
        published, busy, first = 0, 0.0, watcher.seen()

        def until(wanted: int) -> float:
            nonlocal published, busy
            begun = time.monotonic()
            while published < wanted * len(KINDS):
                for publisher in publishers:
                    publisher.ask(min(_STEP, wanted - published // len(KINDS)) // len(publishers))
                published += sum(publisher.wait()["events"] for publisher in publishers)
                _follow(watcher, first + published - _AHEAD)
                memory.append(tree_rss(watcher.pid))
            _follow(watcher, first + published)
            busy += time.monotonic() - begun
            time.sleep(_SETTLE_SECONDS)
            memory.append(tree_rss(watcher.pid))
            return memory[-1]

        at_few = until(few)
        for tenth in range(1, 11):
            at_many = until(few + (tasks - few) * tenth // 10 // 2 * 2)
            say(f"{published // len(KINDS):,} tasks, {published / busy:,.0f} events/s, {at_many:.0f} MiB")
    return Filled(published / busy, memory[0], at_few, at_many, max(memory))


def _follow(watcher: Watcher, wanted: int) -> None:
    seen, _ = still(watcher, _STILL_SECONDS, ends_at=wanted)
    if seen < wanted:
        raise ChildFailed(f"{wanted - seen:,} events did not arrive")


def filled_observer(plan: Plan) -> Filled:
    """The data directory with many observed tasks, made anew."""
    shutil.rmtree(plan.filled, ignore_errors=True)
    with folder() as path, running_valkey() as server, HeadwayWatcher(plan.filled, server.url) as watcher:
        found = feed(watcher, server.url, path, plan.many, plan.of(10_000, 1_000))
    plan.is_filled.touch()
    return found
