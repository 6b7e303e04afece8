"""A Celery cluster as it is now: what can be asked of its broker and its workers, always within a time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol


class QueueDepth(NamedTuple):
    """One queue as the broker says.

    Attributes:
        depth: messages that no worker has taken; None where the queue does not exist (yet).
        consumers: who is subscribed; None where the broker does not say.
        oldest_id: id of the task at the queue's head; None where the broker cannot be asked without taking it.
    """

    name: str
    depth: int | None
    consumers: int | None = None
    oldest_id: str | None = None


class BrokerView(Protocol):
    """A broker, looked at. Nothing is consumed, declared, bound or deleted by it.

    Every call raises ``BrokerAway`` when the broker does not answer in time.
    """

    @property
    def name(self) -> str:
        """``redis`` or ``rabbitmq``."""
        ...

    def ping(self) -> None:
        """Return when the broker has answered."""
        ...

    def queues(self, names: Sequence[str]) -> list[QueueDepth]:
        """Depths of these queues, in order."""
        ...

    @property
    def commands(self) -> int:
        """How many commands ``bound``, ``discovered`` and ``unacknowledged`` took together when they were last asked."""
        ...

    def bound(self) -> set[str]:
        """Names of queues that the broker itself knows; empty where it does not say."""
        ...

    def discovered(self) -> set[str]:
        """Names of queues in which tasks wait, whoever knows of them: some of them, others at the next call."""
        ...

    def unacknowledged(self) -> int | None:
        """Messages that workers have taken and not acknowledged, over all queues; None where it does not say."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """One source of what is reported.

    Attributes:
        name: ``events``, ``workers``, ``broker``, ``results`` or ``jobs``.
        seen_at: when it was last heard of, UTC microseconds; None is never.
        complete: whether nothing may be missing from it.
        ok: whether it answers now; None where nobody knows.
        says: for a person, and what to do about it.
    """

    name: str
    seen_at: int | None
    complete: bool
    ok: bool | None
    says: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """What answered when it was asked just now.

    Attributes:
        broker: whether the broker answered.
        workers: node names that answered; None where they could not be asked.
        asked_at: when, UTC microseconds.
        says: why something is missing.
    """

    broker: bool
    workers: frozenset[str] | None
    asked_at: int
    says: str = ""


class LookedUp(Enum):
    """What came of looking for a task in the result backend."""

    FOUND = "found"  # what it says is stored
    NOBODY_KNOWS = "nobody_knows"  # it answered, and has no entry
    NOT_ASKED = "not_asked"  # it did not answer in time, or too many wait for it already
    NOT_READABLE = "not_readable"  # there is none, or one that only the sender of a task can read


class ClusterView(Protocol):
    """The observer of this process, as the situation report sees it."""

    def live(self, timeout: float) -> Callable[[], LiveAnswer]:
        """Begin to ask broker and workers, or take an answer of the last second.

        Returns:
            What waits for the answer, never longer than ``timeout`` seconds from now.
        """
        ...

    def sources(self) -> list[Source]:
        """What is watched, and how well."""
        ...

    def look_up(self, task_id: str, timeout: float) -> LookedUp:
        """Ask the result backend for this task; what it says is stored then. Never longer than ``timeout``."""
        ...

    def beat_schedule(self) -> dict[str, Any]:
        """Entries of the application's own schedule, by name: ``task``, ``schedule``, ``queue``."""
        ...
