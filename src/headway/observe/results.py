"""The result backend, read: entries of known tasks by their ids, and on Redis all there are, a few at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend
from celery.backends.rpc import RPCBackend

from headway.model.errors import BrokerAway
from headway.observe.target import Target

# Small steps: no command may hold the server, which is often the broker too, for a millisecond.
_SCAN_COUNT: Final = 100
_READ_AT_ONCE: Final = 50
_WHOLE_BYTES: Final = 64 << 10
_HEAD_BYTES: Final = 64
_TAIL_BYTES: Final = 600
_STATUS = re.compile(rb'"status":\s*"([A-Z_]{1,50})"')
_DONE = re.compile(rb'"date_done":\s*"([^"]{10,40})"')


class Results:
    """One cluster's result backend.

    Args:
        target: the cluster.

    Attributes:
        listable: whether all entries can be walked through.
        readable: whether entries can be looked up at all.
        says: why not, for a person.
        answers: whether it did when it was last asked; None before.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._backend: Any = None
        self.says = ""
        self.answers: bool | None = None
        self.listable = self.readable = False
        try:
            self._backend = target.app.backend
        except Exception as error:  # noqa: BLE001 - whatever a backend of somebody's own raises
            self.says = f"the result backend cannot be loaded: {error}"
            return
        if isinstance(self._backend, DisabledBackend):
            self.says = "there is no result backend: what happens while nobody watches cannot be found out afterwards"
        elif isinstance(self._backend, RPCBackend):
            self.says = "rpc:// sends results to whoever asked for the task: nobody else can read them"
        else:
            self.readable = True
            self.listable = isinstance(self._backend, RedisBackend)
            if not self.listable:
                kind = type(self._backend).__name__
                self.says = f"{kind} cannot be walked through: only tasks that are known are looked up"

    def size(self) -> int | None:
        """How many keys the Redis database has, results and others; None where nobody can say."""
        if not self.listable:
            return None
        return int(self._ask(lambda: self._backend.client.dbsize()))  # noqa: PLW0108 - the client may fail too

    def walk(self) -> Iterator[list[str]]:
        """Ids of all tasks that have an entry, some at a time, each at least once; empty lists are steps too.

        Raises:
            BrokerAway: the backend does not answer.
        """
        prefix = _bytes(self._backend.task_keyprefix)
        pattern = _escape(prefix) + b"*"
        cursor = 0
        while True:
            cursor, keys = self._ask(
                lambda at=cursor: self._backend.client.scan(cursor=at, match=pattern, count=_SCAN_COUNT)
            )
            yield [key for one in keys if (key := _id_of(one, prefix)) is not None]
            if cursor == 0:
                return

    def read(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The entries of these tasks that there are.

        Raises:
            BrokerAway: the backend does not answer.
        """
        if not self.readable:
            return []
        if isinstance(self._backend, RedisBackend):
            found: list[dict[str, Any]] = []
            for start in range(0, len(ids), _READ_AT_ONCE):
                found += self._ask(lambda some=ids[start : start + _READ_AT_ONCE]: self._read_redis(some))
            return found
        return [meta for task_id in ids if (meta := self._ask(lambda one=task_id: self._look_up(one))) is not None]

    def _look_up(self, task_id: str) -> dict[str, Any] | None:
        meta = self._backend.get_task_meta(task_id, cache=False)
        # What no backend knows is PENDING there.
        return {**meta, "task_id": task_id} if isinstance(meta, dict) and meta.get("status") != "PENDING" else None

    def _read_redis(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        backend = self._backend
        keys = [backend.get_key_for_task(task_id) for task_id in ids]
        with backend.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.strlen(key)
            sizes = pipe.execute(raise_on_error=False)
            for size in sizes:
                # A key of another kind is no result; any other refusal says nothing of what there is.
                if isinstance(size, Exception) and "WRONGTYPE" not in str(size):
                    raise size
            there = [place for place, size in enumerate(sizes) if isinstance(size, int) and size]
            for place in there:
                if sizes[place] <= _WHOLE_BYTES:
                    pipe.get(keys[place])
                else:
                    # A result of megabytes: its ends say all but the result.
                    pipe.getrange(keys[place], 0, _HEAD_BYTES)
                    pipe.getrange(keys[place], -_TAIL_BYTES, -1)
            values = iter(pipe.execute(raise_on_error=False))
        found = []
        for place in there:
            whole = sizes[place] <= _WHOLE_BYTES
            meta = self._decoded(next(values)) if whole else _ends(next(values), next(values))
            if meta is not None:
                found.append({**meta, "task_id": ids[place]})
        return found

    def _decoded(self, value: Any) -> dict[str, Any] | None:
        with suppress(Exception):
            # Only what the application itself accepts is read: a pickle of a stranger's is refused.
            meta = self._backend.decode(value)
            return meta if isinstance(meta, dict) else None
        return None

    def _ask(self, work: Any) -> Any:
        try:
            found = work()
        except Exception as error:
            self.answers = False
            raise BrokerAway(f"the result backend does not answer: {error}") from error
        self.answers = True
        return found


def _ends(head: object, tail: object) -> dict[str, Any] | None:
    if not isinstance(head, bytes) or not isinstance(tail, bytes):
        return None
    status = _STATUS.search(head) or _STATUS.search(tail)
    if status is None:
        return None
    done = _DONE.search(tail)
    return {
        "status": status.group(1).decode(),
        "date_done": done.group(1).decode() if done else None,
        "result": "(too large to be read)",
    }


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _escape(prefix: bytes) -> bytes:
    return re.sub(rb"([\\*?\[\]])", rb"\\\1", prefix)


def _id_of(key: Any, prefix: bytes) -> str | None:
    raw = _bytes(key)
    if not raw.startswith(prefix):
        return None
    try:
        return raw.removeprefix(prefix).decode()
    except UnicodeDecodeError:
        return None
