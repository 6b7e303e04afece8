"""What `headway doctor` knows of a cluster once it has asked: values only, so that every conclusion can be tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headway.ports.cluster import QueueDepth

SETTINGS: Final = (
    "beat_schedule",
    "beat_scheduler",
    "broker_transport_options",
    "result_backend",
    "result_extended",
    "task_acks_late",
    "task_routes",
    "task_send_sent_event",
    "task_track_started",
    "worker_send_task_events",
)
"""The settings of Celery's that conclusions are drawn from; nothing else of a configuration is kept."""


@dataclass(frozen=True, slots=True)
class TaskRule:
    """What is set for one kind of task.

    Attributes:
        limit: seconds that it may run (``time_limit``, else ``soft_time_limit``, else those of its worker); None for
            no limit.
        late: whether its message is acknowledged when it has ended (``acks_late``), not when it begins.
    """

    limit: float | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A task that a worker said it holds.

    Attributes:
        at: of a running one when it began, of one that waits for its time when that is; UTC microseconds by the
            worker's clock, None where it was not said.
        acknowledged: whether its message is acknowledged: the broker will not deliver it again then.
    """

    id: str
    name: str
    queue: str | None = None
    at: int | None = None
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker that answered. What it was asked and did not say is None.

    Attributes:
        name: its node name.
        concurrency: tasks that it runs at a time.
        prefetch: messages that it takes before it acknowledges one; 0 is any number.
        queues: the queues that it takes from, with the routing key of each.
        tasks: the tasks that it has.
        settings: of its configuration those in ``SETTINGS``.
        active: tasks that run.
        reserved: tasks that waited in it both times that it was asked.
        scheduled: tasks that it holds until their time.
        skew: its clock less ours, seconds; 0 where the difference is too small to be told.
        version: of its Celery.
        sends_events: whether a task's event was heard from it.
    """

    name: str
    concurrency: int | None = None
    prefetch: int | None = None
    queues: Mapping[str, str] | None = None
    tasks: Mapping[str, TaskRule] | None = None
    settings: Mapping[str, Any] | None = None
    active: tuple[HeldTask, ...] | None = None
    reserved: tuple[HeldTask, ...] | None = None
    scheduled: tuple[HeldTask, ...] | None = None
    skew: float | None = None
    version: str | None = None
    sends_events: bool = False


@dataclass(frozen=True, slots=True)
class BeatEntry:
    """One entry of a schedule of beat; ``queue`` is None where it cannot be told."""

    name: str
    task: str
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class RedisMemory:
    """What a Redis does when its memory is full; None is unknown.

    Attributes:
        policy: ``maxmemory-policy``.
        limit: ``maxmemory`` in bytes; 0 is none.
        used: bytes in use.
    """

    policy: str | None = None
    limit: int | None = None
    used: int | None = None


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What was found out of a cluster.

    Attributes:
        broker: its URL without the password.
        transport: ``redis`` or ``rabbitmq``.
        broker_error: why the broker does not answer; empty when it does. Nothing below is known then.
        asked_at: when, UTC microseconds.
        own: the settings of the application of ``-A``; None without it.
        workers: by node name.
        unanswering: node names whose heartbeats were heard, and which did not answer.
        tasks: every task that the application or a worker has.
        depths: the queues that were looked at.
        all_queues: whether those are all that the broker has; else one that nobody names may be missing.
        named: queues that a configuration sends to, with where it says so.
        beat: what beat is to send.
        foreign_schedulers: schedulers of beat that keep their entries elsewhere, where they were not looked at.
        memory: None for a broker that is no Redis.
        deaf: why no event could be heard; empty when they could.
        listened: seconds that events were listened to.
    """

    broker: str
    transport: str
    broker_error: str = ""
    asked_at: int = 0
    own: Mapping[str, Any] | None = None
    workers: Mapping[str, WorkerFacts] = field(default_factory=dict)
    unanswering: frozenset[str] = frozenset()
    tasks: Mapping[str, TaskRule] = field(default_factory=dict)
    depths: Mapping[str, QueueDepth] = field(default_factory=dict)
    all_queues: bool = True
    named: Mapping[str, str] = field(default_factory=dict)
    beat: tuple[BeatEntry, ...] = ()
    foreign_schedulers: frozenset[str] = frozenset()
    memory: RedisMemory | None = None
    deaf: str = ""
    listened: float = 0.0
