"""Child process: four workers and a client that send the events of tasks which nobody executes.

The events go through Celery's own dispatchers, with the fields that a worker and a client of Celery 5.6 give them. Each
line of JSON on standard input asks for some tasks; when their last event is out, a line of JSON answers. Heartbeats go on
in between. The end of standard input ends it.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import redis
from celery import Celery
from celery.utils.sysinfo import load_average
from celery.worker.state import SOFTWARE_INFO
from kombu.utils.json import dumps

from benchmarks.observe.stream import EVENTS_PER_TICK, WORKERS, Task, tasks, ticks

_HEARTBEAT_SECONDS = 2.0
_LARGEST = 10
_QUEUE = {"queue": "celery", "exchange": "", "routing_key": "celery"}


class Wire:
    """A connection to Redis that takes messages over from kombu's channels and writes many of them at once.

    Args:
        broker: URL of the Redis.
    """

    def __init__(self, broker: str) -> None:
        self._connection: Any = redis.Redis.from_url(broker).connection_pool.get_connection()
        self._waiting: list[tuple[str, str, str]] = []

    def take_over(self, channel: Any) -> None:
        """What this channel would publish to its fanout exchanges waits here until ``write``."""

        def put(exchange: str, message: Any, routing_key: str, **_: Any) -> None:
            topic = channel._get_publish_topic(exchange, routing_key)  # noqa: SLF001
            self._waiting.append(("PUBLISH", topic, dumps(message)))

        channel._put_fanout = put  # noqa: SLF001

    def write(self) -> None:
        """Publish what waits, and read the answers."""
        connection, waiting = self._connection, self._waiting
        connection.send_packed_command(connection.pack_commands(waiting))
        for _ in waiting:
            connection.read_response()
        waiting.clear()


class Senders:
    """The dispatchers of a client and of the workers, each with a connection of its own.

    Args:
        broker: its URL.
        multi: whether workers gather task events into one message, at most ten, as those with an event loop do; else
            each event is a message of its own, as from workers without one.
        beating: whether they send heartbeats.
        direct: whether messages for Redis are made by kombu and then written several at once: kombu's own way builds a
            client per message, which costs the machine more than any observer.
    """

    def __init__(self, broker: str, *, multi: bool, beating: bool, direct: bool) -> None:
        self._wire = Wire(broker) if direct and broker.startswith("redis:") else None
        self._app = Celery("benchmark", broker=broker, set_as_current=False)
        self._workers = [self._dispatcher(name, multi) for name in WORKERS]
        self._client = self._dispatcher(f"gen{os.getpid()}@client", False)
        self._beating = beating
        self._processed = [0] * len(WORKERS)
        self._active = [0] * len(WORKERS)
        self._beat_at = 0.0

    def _dispatcher(self, hostname: str, multi: bool) -> Any:
        dispatcher: Any = self._app.events.Dispatcher
        group = ["task"] if multi else None
        made = dispatcher(
            self._app.connection_for_write(), hostname=hostname, buffer_group=group, buffer_limit=_LARGEST
        )
        if self._wire is not None:
            self._wire.take_over(made.producer.channel)
        return made

    def send(self, kind: str, task: Task, runtime: float) -> None:
        """One event of a task, or into the message that is being gathered."""
        if kind == "task-sent":
            self._client.publish(kind, {**_described(task), **_QUEUE}, self._client.producer)
            return
        fields: dict[str, Any] = {"uuid": task.id}
        if kind == "task-received":
            fields = _described(task)
        elif kind == "task-started":
            self._active[task.worker] += 1
        else:
            fields |= {"result": f"{{'order': {task.number}, 'state': 'done'}}", "runtime": runtime}
            self._active[task.worker] -= 1
            self._processed[task.worker] += 1
        self._workers[task.worker].send(kind, **fields)

    def flush(self) -> None:
        """The end of a round of the workers' event loops: what was gathered goes out."""
        for dispatcher in self._workers:
            # Not `flush` alone: that would send empty messages, which no worker does.
            if dispatcher._group_buffer["task"]:  # noqa: SLF001
                dispatcher.flush()
        self.beat()
        if self._wire is not None:
            self._wire.write()

    def beat(self) -> None:
        """Heartbeats, where they are due."""
        if not self._beating or time.monotonic() < self._beat_at:
            return
        kind = "worker-heartbeat" if self._beat_at else "worker-online"
        self._beat_at = time.monotonic() + _HEARTBEAT_SECONDS
        for number, dispatcher in enumerate(self._workers):
            dispatcher.send(
                kind,
                freq=_HEARTBEAT_SECONDS,
                active=self._active[number],
                processed=self._processed[number],
                loadavg=load_average(),
                **SOFTWARE_INFO,
            )


def _described(task: Task) -> dict[str, Any]:
    return {
        "uuid": task.id,
        "name": task.name,
        "args": f"({task.number}, 'customer-{task.number % 997}')",
        "kwargs": "{'since': '2026-11-01', 'whole': False}",
        "root_id": task.id,
        "parent_id": None,
        "retries": 0,
        "eta": None,
        "expires": None,
    }


def publish(senders: Senders, some: Iterator[Task], rate: float | None) -> dict[str, Any]:
    """Publish all events of some tasks, so many a second or as fast as it goes; ``events`` and ``seconds``."""
    begun, events = time.monotonic(), 0
    pause = EVENTS_PER_TICK / rate if rate else 0.0
    for number, tick in enumerate(ticks(some)):
        if pause:
            time.sleep(max(0.0, begun + number * pause - time.monotonic()))
        for kind, task in tick:
            senders.send(kind, task, task.runs * (pause or 0.02))
        events += len(tick)
        senders.flush()
    return {"events": events, "seconds": time.monotonic() - begun}


def main(wanted: dict[str, Any]) -> None:
    """Serve requests for tasks: ``tasks`` (how many) and ``rate`` (events per second; None is as fast as it goes)."""
    stream = tasks(wanted.pop("seed"))
    senders = Senders(**wanted)
    senders.flush()
    print(json.dumps({"ready": True}), flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            if not selector.select(_HEARTBEAT_SECONDS / 4):
                senders.flush()
                continue
            line = sys.stdin.readline()
            if not line:
                return
            asked = json.loads(line)
            print(json.dumps(publish(senders, islice(stream, asked["tasks"]), asked["rate"])), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
