"""The tasks whose events are published: ids, names and lives, the same for the same seed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

KINDS = ("task-sent", "task-received", "task-started", "task-succeeded")
NAMES = tuple(f"shop.{area}.{verb}" for area in ("orders", "mail", "stock", "reports", "search")
              for verb in ("create", "change", "send", "index", "check", "export", "import", "clean", "sum", "notify"))  # fmt: skip
WORKERS = tuple(f"celery@host-{number}" for number in range(1, 5))
PER_TICK = 10
EVENTS_PER_TICK = PER_TICK * len(KINDS)
# Ticks from one event of a task to the next: most are short, some wait or run for a while.
_WAITS = (1, 1, 2, 5)
_RUNS = (1, 2, 10, 50)


@dataclass(frozen=True, slots=True)
class Task:
    """One task; ``due`` are the ticks of its four events, ``runs`` of them passed while it was executed."""

    id: str
    number: int
    name: str
    worker: int
    due: tuple[int, int, int, int]

    @property
    def runs(self) -> int:
        """Ticks from its start to its end."""
        return self.due[3] - self.due[2]


def ids(seed: int) -> Iterator[str]:
    """The ids of a stream's tasks, random as uuid4 makes them."""
    chance = random.Random(seed)
    while True:
        yield str(UUID(int=chance.getrandbits(128), version=4))


def sent_ids(seed: int, first: int, count: int) -> Iterator[str]:
    """The ids of ``count`` tasks of a stream from number ``first`` on."""
    return islice(ids(seed), first, first + count)


def tasks(seed: int) -> Iterator[Task]:
    """Tasks without an end: ten begin at each tick, at workers in turns."""
    chance = random.Random(-1 - seed)
    for number, task_id in enumerate(ids(seed)):
        sent = number // PER_TICK
        received = sent + chance.choice(_WAITS)
        started = received + chance.choice(_WAITS)
        due = (sent, received, started, started + chance.choice(_RUNS))
        yield Task(task_id, number, NAMES[chance.randrange(len(NAMES))], number % len(WORKERS), due)


def ticks(some: Iterator[Task]) -> Iterator[list[tuple[str, Task]]]:
    """The events of tasks tick by tick, in the order in which they happen; ends when the last task has.

    The tick of the first task is the first.
    """
    coming: dict[int, list[tuple[str, Task]]] = defaultdict(list)
    following = next(some, None)
    now = following.due[0] if following is not None else 0
    while following is not None or coming:
        while following is not None and following.due[0] <= now:
            for kind, due in zip(KINDS, following.due, strict=True):
                coming[due].append((kind, following))
            following = next(some, None)
        yield coming.pop(now, [])
        now += 1
