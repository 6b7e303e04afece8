"""Between hearing and storing: a bounded queue that counts what it had to drop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headway.observe.sources import Raw
from headway.observe.tallies import Answer

MAX_BYTES: Final = 64 << 20
MAX_MESSAGES: Final = 200_000
# What one message costs beside its own bytes.
_OVERHEAD: Final = 300


@dataclass(frozen=True, slots=True)
class Connected:
    """Events are heard from this moment on; ``kept`` says that none was missed since the last time."""

    at: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost; until ``at`` it is known to have worked."""

    at: int
    why: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """Messages that there was no room for, heard between two moments."""

    began_at: int
    ended_at: int
    messages: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Workers answered, until ``at``: what each says of itself, by its node name."""

    asked_at: int
    at: int
    answers: Mapping[str, Answer]


Item = Raw | Connected | Lost | Dropped | Asked


class Buffer:
    """What was heard, in order, until it is stored; thread-safe.

    Args:
        max_bytes, max_messages: beyond either, messages are dropped and counted.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_messages: int = MAX_MESSAGES) -> None:
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._dropping: list[int] | None = None
        self._filled = threading.Condition()

    def put(self, messages: Sequence[Raw], at: int) -> None:
        """Add messages heard at a moment, as many as there is room for."""
        with self._filled:
            for message in messages:
                size = len(message.body) + _OVERHEAD
                if self._is_full(size):
                    if self._dropping is None:
                        self._dropping = [at, at, 0]
                    self._dropping[1] = at
                    self._dropping[2] += 1
                    continue
                self._end_dropping()
                self._items.append((message, at))
                self._bytes += size
            self._filled.notify()

    def _is_full(self, more: int) -> bool:
        if self._dropping is not None:
            # Once it was full, not before half of it is free: one loss is one gap, not one for each look.
            return self._bytes > self._max_bytes // 2 or len(self._items) > self._max_messages // 2
        return self._bytes + more > self._max_bytes or len(self._items) >= self._max_messages

    def note(self, what: Connected | Lost | Asked) -> None:
        """Add what happened to the connection, for which there is always room; or what workers answered, if there is."""
        with self._filled:
            if isinstance(what, Asked) and (self._dropping is not None or self._is_full(0)):
                return
            self._end_dropping()
            self._items.append((what, what.at))
            self._filled.notify()

    def _end_dropping(self) -> None:
        if self._dropping is not None:
            began, ended, count = self._dropping
            self._dropping = None
            self._items.append((Dropped(began, ended, count), ended))

    def take(self, limit: int, wait: float) -> list[tuple[Item, int]]:
        """At most ``limit`` items with the moments they were heard at; waits so long for the first."""
        with self._filled:
            if not self._items:
                self._filled.wait(wait)
            if not self._items:
                self._end_dropping()
            found: list[tuple[Item, int]] = []
            while self._items and len(found) < limit:
                item = self._items.popleft()
                if isinstance(item[0], Raw):
                    self._bytes -= len(item[0].body) + _OVERHEAD
                found.append(item)
            return found

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._filled:
            self._filled.notify_all()

    @property
    def waiting(self) -> int:
        """How many items wait to be stored."""
        return len(self._items)
