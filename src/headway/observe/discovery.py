"""Queues of a Redis that nobody names: found among all keys by their bindings, a few at a time, if tasks wait in them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from headway.model.redact import storable

SCAN_COUNT: Final = 500
# Of one look; the next goes on where it stopped.
_SCANS: Final = 3
_EXCHANGES: Final = 10
_QUEUES: Final = 20
_MOST: Final = 10_000


class Discovery:
    """Goes round: keys, exchanges, queues. One look takes at most some fifty commands, in three round trips or so."""

    def __init__(self, conf: Any) -> None:
        self._conf = conf
        self._cursor = 0
        self._exchanges: deque[str] = deque()
        self._queues: deque[str] = deque()
        self.commands = _SCANS

    def look(self, channel: Any) -> set[str]:
        """Names of queues in which tasks of Celery wait, of those that were looked at now."""
        done = 0
        if not self._exchanges and not self._queues:
            done += self._scan(channel)
        exchanges = [self._exchanges.popleft() for _ in range(min(_EXCHANGES, len(self._exchanges)))]
        if exchanges:
            room = _MOST - len(self._queues)
            self._queues.extend(sorted(queues_bound(channel, exchanges))[:room])
        queues = [self._queues.popleft() for _ in range(min(_QUEUES, len(self._queues)))]
        self.commands = done + len(exchanges) + 2 * len(queues)
        return _with_tasks(channel, queues) if queues else set()

    def _scan(self, channel: Any) -> int:
        for number in range(_SCANS):
            self._cursor, found = scan_exchanges(channel, self._conf, self._cursor)
            self._exchanges.extend(sorted(found)[: _MOST - len(self._exchanges)])
            if self._cursor == 0:
                return number + 1
        return _SCANS


def scan_exchanges(channel: Any, conf: Any, cursor: int) -> tuple[int, set[str]]:
    """One SCAN for exchanges that tasks go through: the next cursor, and those that were found."""
    # kombu's prefix is put before keys by its client, but not before patterns.
    prefix = str(getattr(channel, "global_keyprefix", "") or "")
    head = channel.keyprefix_queue % ("",)
    cursor, keys = channel.client.scan(cursor=cursor, match=f"{prefix}{head}*", count=SCAN_COUNT)
    exchanges = {bytes(key).decode(errors="replace").removeprefix(prefix + head) for key in keys}
    return int(cursor), {one for one in exchanges if not one.endswith(".pidbox") and one != conf.event_exchange}


def queues_bound(channel: Any, exchanges: Iterable[str]) -> set[str]:
    """Queues that have a binding to one of these exchanges; a key that is no table of bindings has none."""
    with channel.client.pipeline(transaction=False) as pipe:
        for one in sorted(exchanges):
            pipe.smembers(channel.keyprefix_queue % (one,))
        answers = pipe.execute(raise_on_error=False)
    members = (member for answer in answers if not isinstance(answer, Exception) for member in answer)
    queues = {bytes(member).decode(errors="replace").split(channel.sep)[-1] for member in members}
    return {storable(queue)[:255] for queue in queues if queue}


def _with_tasks(channel: Any, queues: Sequence[str]) -> set[str]:
    with channel.client.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(queue)
        lengths = pipe.execute(raise_on_error=False)
    waiting = [queue for queue, length in zip(queues, lengths, strict=True) if isinstance(length, int) and length]
    found = set()
    for queue in waiting:
        with suppress(Exception):
            # Unlike LLEN this is no command that kombu puts its prefix before.
            if _is_task(channel.client.lindex(f"{channel.global_keyprefix}{queue}", -1)):
                found.add(queue)
    return found


def _is_task(message: bytes | None) -> bool:
    """Whether a message is one of Celery's: others use kombu's queues, too."""
    return message is not None and "task" in (json.loads(message).get("headers") or {})
