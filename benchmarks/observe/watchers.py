"""What watches the cluster: Headway and its peers, behind one shape."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from benchmarks.observe.publisher import Publisher
from benchmarks.peers.web import WebPeer
from benchmarks.processes import ChildFailed, HeadwayObserve

EXPORTER_VARIABLE = "CELERY_EXPORTER"
_WARM_SECONDS = 30.0
_KINDS = "sent|received|started|succeeded"
_TASK_EVENTS = re.compile(rf"^celery_task_(?:{_KINDS})_total(?:\{{.*\}})? (\S+)$", re.MULTILINE)
_FLOWER_EVENTS = re.compile(rf'^flower_events_total\{{.*type="task-(?:{_KINDS})".*\}} (\S+)$', re.MULTILINE)


class Watcher(Protocol):
    """A running observer."""

    @property
    def pid(self) -> int:
        """Of the process whose descendants all the others are."""
        ...

    def seen(self) -> int:
        """How many events of tasks it has taken in; for Headway: how many are stored."""
        ...


class HeadwayWatcher(HeadwayObserve):
    """``headway observe``: ``/metrics`` counts what was committed, in the transaction that stores the event."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.http = httpx.Client(base_url=self.url, timeout=300, trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        super().__exit__(kind, error, trace)

    def seen(self) -> int:
        """Task events stored."""
        return _sum(_TASK_EVENTS, self.http)

    def sitrep(self) -> dict[str, Any]:
        """The situation report."""
        found: dict[str, Any] = self.http.get("/api/v1/sitrep").raise_for_status().json()
        return found


class FlowerWatcher(WebPeer):
    """Flower, as its manual starts it; it keeps everything in memory.

    Args:
        folder: where it runs.
        broker: URL of the broker.
        max_tasks: how many tasks it keeps; None is its default (100,000).
    """

    def __init__(self, folder: Path, broker: str, max_tasks: int | None = None) -> None:
        command = [sys.executable, "-m", "celery", f"--broker={broker}", "flower", "--address=127.0.0.1"]
        command += ["--port={port}", *([f"--max_tasks={max_tasks}"] if max_tasks else [])]
        super().__init__(folder, command, FLOWER_UNAUTHENTICATED_API="true")

    def seen(self) -> int:
        """Task events counted."""
        return _sum(_FLOWER_EVENTS, self.http)

    def shown(self) -> int:
        """Tasks that it can list."""
        return len(self.http.get("/api/tasks").raise_for_status().json())


class ExporterWatcher(WebPeer):
    """danihodovic/celery-exporter, which is on no package registry: the executable that the variable names."""

    def __init__(self, folder: Path, broker: str, executable: str) -> None:
        super().__init__(folder, [executable, f"--broker-url={broker}", "--host=127.0.0.1", "--port={port}"])

    def seen(self) -> int:
        """Task events counted."""
        return _sum(_TASK_EVENTS, self.http)


@dataclass(frozen=True)
class Contender:
    """Something that watches; ``start`` is told an empty folder and the broker's URL."""

    name: str
    start: Callable[[Path, str], AbstractContextManager[Watcher]]


HEADWAY = Contender("Headway", lambda folder, broker: HeadwayWatcher(folder / "data", broker))
FLOWER = Contender("Flower", FlowerWatcher)


def contenders() -> list[Contender]:
    """Headway first, then the peers that are here."""
    found = [HEADWAY, FLOWER]
    executable = exporter()
    if executable is not None:
        found.append(Contender("celery-exporter", lambda folder, broker: ExporterWatcher(folder, broker, executable)))
    return found


def exporter() -> str | None:
    """The executable of celery-exporter; None where none is named."""
    named = os.environ.get(EXPORTER_VARIABLE)
    if not named:
        return None
    found = shutil.which(named)
    if found is None:
        raise ChildFailed(f"{EXPORTER_VARIABLE}={named}: no such executable")
    return found


def warm(watcher: Watcher, publishers: Sequence[Publisher]) -> None:
    """Publish some tasks until the watcher has heard of one, then some more of each, and wait until it is still."""
    ends = time.monotonic() + _WARM_SECONDS
    while watcher.seen() == 0:
        if time.monotonic() > ends:
            raise ChildFailed("what was to be measured heard no event")
        publishers[0].publish(10)
        time.sleep(0.3)
    for publisher in publishers:
        publisher.publish(100)
    still(watcher, 1.5)


def still(watcher: Watcher, seconds: float, every: float = 0.25, ends_at: int | None = None) -> tuple[int, float]:
    """Wait until nothing more arrives for so long, or what was expected is there.

    Args:
        watcher: what is asked.
        seconds: for how long nothing more must come.
        every: seconds between two looks.
        ends_at: the expected number of events, where it is known.

    Returns:
        (events seen, when the last of them was first seen there on the monotonic clock).
    """
    seen, changed = -1, time.monotonic()
    while time.monotonic() - changed < seconds:
        now, found = time.monotonic(), watcher.seen()
        if found != seen:
            seen, changed = found, now
        if ends_at is not None and seen >= ends_at:
            break
        time.sleep(every)
    return seen, changed


def _sum(pattern: re.Pattern[str], http: httpx.Client) -> int:
    return round(sum(float(value) for value in pattern.findall(http.get("/metrics").raise_for_status().text)))
