"""Events that nobody's task sent: storms of them, and rubbish, published as any client can. Run as a process of its own."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from celery.events.event import get_exchange
from kombu import Connection, Producer
from redis import Redis

CHANNEL = "/0.celeryev"
MULTI = "task.multi"
_AT_ONCE = 10
_JSON = ("application/json", "utf-8")


def of_task(task_id: str, *, name: str = "storm.task", at: float | None = None, **also: Any) -> list[dict[str, Any]]:
    """The events of one task that succeeds, in order."""
    at = time.time() if at is None else at
    base = {"uuid": task_id, "hostname": "storm@cluster", "pid": 1, "clock": 1, "utcoffset": 0}
    return [
        {**base, "type": "task-sent", "timestamp": at, "name": name, "args": "(1,)", "kwargs": "{}", "queue": "celery",
         "root_id": task_id, "parent_id": None, "retries": 0, "eta": None, "expires": None, **also},
        {**base, "type": "task-received", "timestamp": at + 0.01, "name": name, "args": "(1,)", "kwargs": "{}",
         "root_id": task_id, "parent_id": None, "retries": 0, "eta": None, "expires": None, **also},
        {**base, "type": "task-started", "timestamp": at + 0.02},
        {**base, "type": "task-succeeded", "timestamp": at + 0.03, "result": "1", "runtime": 0.01},
    ]  # fmt: skip


def storm_id(publisher: int, number: int) -> str:
    """The id of one task of a storm."""
    return str(UUID(int=(publisher << 64) + number))


class Publisher:
    """Publishes to the events' exchange of a broker, with nothing of Celery's between."""

    def __init__(self, broker: str) -> None:
        self._connection = Connection(broker)
        self._exchange = get_exchange(self._connection)
        self._producer = Producer(self._connection.channel(), exchange=self._exchange, auto_declare=True)
        self._redis = Redis.from_url(broker) if broker.startswith("redis") else None

    def close(self) -> None:
        """Close its connections."""
        self._connection.release()
        if self._redis is not None:
            self._redis.close()

    def send(self, events: list[Any], routing_key: str = MULTI) -> None:
        """One message with these events, as a worker sends it."""
        self._producer.publish(events, routing_key=routing_key, serializer="json")

    def body(self, body: bytes, content_type: str, encoding: str, routing_key: str = MULTI) -> None:
        """One message with a body of any kind."""
        self._producer.publish(body, routing_key=routing_key, content_type=content_type, content_encoding=encoding)

    def raw(self, data: bytes) -> None:
        """Bytes where an envelope should be; on Redis only."""
        assert self._redis is not None
        self._redis.publish(f"{CHANNEL}/{MULTI}", data)


def storm(broker: str, publisher: int, tasks: int) -> int:
    """Four events for each of so many tasks, in messages of ten, as fast as it can; how many events."""
    publishing, waiting, count = Publisher(broker), list[dict[str, Any]](), 0
    for number in range(tasks):
        waiting += of_task(storm_id(publisher, number))
        while len(waiting) >= _AT_ONCE:
            publishing.send(waiting[:_AT_ONCE])
            del waiting[:_AT_ONCE]
        count += 4
    if waiting:
        publishing.send(waiting)
    publishing.close()
    return count


def heavy(broker: str, messages: int, size: int) -> int:
    """So many messages of so many bytes, each with the reception of one task."""
    publishing = Publisher(broker)
    for number in range(messages):
        publishing.send([{**of_task(storm_id(7, number))[1], "args": "x" * size}], "task.received")
    publishing.close()
    return messages


_BAD_IDS: tuple[Any, ...] = (5, None, "", [], {}, "x" * 300, "a\x00b", "\ud800", True)
_BAD_TIMES: tuple[Any, ...] = (
    None, float("nan"), float("inf"), -1.0, 1e300, 10**400, -(10**400), "yesterday", True, [], 5e9,
)  # fmt: skip
MALFORMED: tuple[Any, ...] = (
    None,
    5,
    "text",
    {},
    {"type": 5},
    {"type": None, "uuid": "a"},
    {"type": "task-received", "timestamp": 1.0},
    *({"type": "task-received", "timestamp": 1.0, "uuid": bad}
      for bad in _BAD_IDS),
    *({"type": "task-succeeded", "uuid": f"bad-time-{place}", "hostname": "w@h", "timestamp": bad}
      for place, bad in enumerate(_BAD_TIMES)),
    {"type": "worker-heartbeat", "timestamp": 1.0},
    {"type": "worker-heartbeat", "timestamp": 1.0, "hostname": []},
    {"type": "worker-heartbeat", "timestamp": 1.0, "hostname": "w" * 300},
    {"type": "worker-heartbeat", "timestamp": float("nan"), "hostname": "nan@host"},
    {"type": "worker-online", "timestamp": 10**400, "hostname": "huge@host"},
)  # fmt: skip
"""Each counts as malformed, wherever it comes."""


def odd(now: float) -> Iterator[Any]:
    """Events of which a part is wrong: what can be believed may be kept, and nothing may break."""
    yield {"type": "task-foo", "uuid": "odd-foo", "timestamp": now, "hostname": "w@h"}
    yield {"type": "custom-x", "anything": [1, 2, 3]}
    yield {"type": "worker-dance", "hostname": "dance@host", "timestamp": now}
    deep: Any = []
    for _ in range(800):
        deep = [deep]
    strange = (
        ("args", "x" * 1_000_000), ("args", deep), ("kwargs", {"password": "hunter2-of-tests"}), ("name", 5),
        ("name", "n" * 100_000), ("name", "\x00\ud800<script>alert(1)</script>"), ("retries", 10**30), ("retries", -1),
        ("retries", 2**31), ("root_id", "\ud800"), ("root_id", "r" * 300), ("eta", "99999-01-01"), ("queue", "\x00"),
        ("eta", "0001-01-01T00:00:00+23:59"), ("expires", 5), ("eta", "9999-12-31T23:59:59"), ("hostname", "h" * 5000),
        ("hostname", ["h"]), ("hostname", "\ud800\x00'; DROP TABLE jobs; --"), ("pid", "x"), ("timestamp", 4.1e9),
    )  # fmt: skip
    for place, (key, value) in enumerate(strange):
        for number, event in enumerate(of_task(f"odd-{place}", at=now)):
            if key in event or number == 1:
                yield {**event, key: value}
    for place, runtime in enumerate((float("nan"), float("inf"), 10**400, "1", None, -5, True)):
        yield {"type": "task-succeeded", "uuid": f"odd-runtime-{place}", "timestamp": now, "hostname": "w@h",
               "runtime": runtime, "result": {"deep": deep}}  # fmt: skip
    for place, error in enumerate(([1], {"a": 1}, "e" * 3_000_000, "\x00\ud800", None)):
        yield {"type": "task-failed", "uuid": f"odd-error-{place}", "timestamp": now, "hostname": "w@h",
               "exception": error, "traceback": error}  # fmt: skip
    beats: tuple[dict[str, Any], ...] = (
        {"loadavg": [float("nan"), float("inf"), 10**400]}, {"loadavg": [True, 1e308]}, {"freq": 10**400},
        {"freq": float("nan")}, {"freq": 1e-300}, {"active": -5}, {"processed": 10**400}, {"processed": 2**53},
        {"sw_ver": "v" * 10_000}, {"sw_ident": "\ud800\x00"}, {"pid": 1.5}, {"clock": float("nan")},
    )  # fmt: skip
    for place, facts in enumerate(beats):
        yield {"type": "worker-heartbeat", "hostname": f"odd{place}@host", "timestamp": now, **facts}
    for hostname in (
        "<script>alert(1)</script>",
        "\x00",
        "\ud800@\ud800",
        "a\r\n\t\x1b[2J",
        "ü" * 255,
        "../..",
        "@",
        " ",
    ):
        yield {"type": "worker-heartbeat", "hostname": hostname, "timestamp": now}
        yield {"type": "worker-offline", "hostname": hostname, "timestamp": now}


class Touch:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Called by the one who reads it."""
        return (os.mkdir, (str(self.path),))


def bodies(trap: Path) -> list[tuple[bytes, str, str]]:
    """(body, content type, encoding) of messages that hold no event: each counts as malformed."""
    pickled = pickle.dumps(Touch(trap))
    return [
        (b"", *_JSON),
        (b"not json", *_JSON),
        (b"\xff\xfe\x00", *_JSON),
        (b"[" * 100_000, *_JSON),
        (b"9" * 5_000, *_JSON),
        (pickled, "application/x-python-serialize", "binary"),
        (pickled, *_JSON),
        (b"{}", "application/x-nonsense", "nonsense"),
        (b"a: 1", "application/x-yaml", "utf-8"),
    ]


def envelopes() -> list[bytes]:
    """What is no envelope of kombu's, for Redis: each counts as malformed."""
    good = base64.b64encode(b"{}").decode()
    return [
        b"",
        b"not json",
        b"[1]",
        b"{}",
        b"5",
        b"null",
        b"\x80\x04K\x01.",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"body": 5, "content-type": "application/json"}',
        b'{"body": null, "content-type": "application/json"}',
        b'{"body": {"a": 1}, "content-type": "application/json"}',
        b'{"body": "%%%", "properties": {"body_encoding": "base64"}}',
        b'{"body": 5, "properties": {"body_encoding": "base64"}}',
        b'{"body": "x", "properties": 5}',
        json.dumps({"body": good, "content-type": 5, "properties": {"body_encoding": "base64"}}).encode(),
        json.dumps({"body": "\ud800", "content-type": "application/json", "content-encoding": {}}).encode(),
        json.dumps({"body": "x", "content-type": "text/plain", "content-encoding": "rot13"}).encode(),
    ]


def rubbish(broker: str, trap: Path) -> dict[str, int]:
    """All of it, once; how many have to be counted as malformed at least, and how many ids are well-formed."""
    publishing = Publisher(broker)
    count = 0
    for body in bodies(trap):
        publishing.body(*body)
        count += 1
    if broker.startswith("redis"):
        for data in envelopes():
            publishing.raw(data)
            count += 1
    for event in MALFORMED:
        publishing.send([event])
        count += 1
    # The whole once more in one message, so that one at fault hides no other.
    publishing.send(list(MALFORMED))
    count += len(MALFORMED)
    for event in odd(time.time()):
        publishing.send([event])
    publishing.close()
    return {"malformed": count}


def apart(what: str, *arguments: Any) -> subprocess.Popen[str]:
    """One of these functions in a process of its own, so that nothing of it is in the way of the test."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.cluster.events", what, json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def answer_of(process: subprocess.Popen[str], seconds: float = 300.0) -> Any:
    """What the function gave back."""
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, f"it ended with {process.returncode}"
    return json.loads(out.splitlines()[-1])


def replay(broker: str, events: list[dict[str, Any]]) -> int:
    """These events, each in a message of its own."""
    publishing = Publisher(broker)
    for event in events:
        publishing.send([event], event["type"].replace("-", "."))
    publishing.close()
    return len(events)


def main() -> None:
    """Do what the arguments say and print what it gave."""
    arguments = json.loads(sys.argv[2])
    given: Any
    if sys.argv[1] == "rubbish":
        given = rubbish(arguments[0], Path(arguments[1]))
    else:
        given = {"storm": storm, "heavy": heavy, "replay": replay}[sys.argv[1]](*arguments)  # type: ignore[operator]
    print(json.dumps(given), flush=True)


if __name__ == "__main__":
    main()
