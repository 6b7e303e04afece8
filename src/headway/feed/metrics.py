"""``/metrics``: celery-exporter's names, labels and meaning, so that its dashboards and rules go on working; ours beside.

Counters are those of the database, so a restart of ours is no reset of theirs, and two observers count once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headway.model.observed import Tally, WorkerView
from headway.model.situation import Metrics

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_FORGET_SECONDS: Final = 600.0
"""A worker that was not heard of for so long is no longer shown: clusters that scale would fill the server otherwise."""

_TASK: Final = ("name", "hostname", "queue_name")
_COUNTERS: Final = {
    "sent": "Sent when a task message is published.",
    "received": "Sent when the worker receives a task.",
    "started": "Sent just before the worker executes the task.",
    "succeeded": "Sent if the task executed successfully.",
    "failed": "Sent if the execution of the task failed.",
    "rejected": "The task was rejected by the worker, possibly to be re-queued or moved to a dead letter queue.",
    "revoked": "Sent if the task has been revoked.",
    "retried": "Sent if the task failed, but will be retried in the future.",
}


def render(metrics: Metrics) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(metrics))
    return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield from _counters(metrics.tallies)
        yield _runtimes(metrics.tallies)
        yield from _workers(metrics)
        yield from _queues(metrics)
        yield from _ours(metrics)


def _counters(tallies: Iterable[Tally]) -> Iterator[Metric]:
    families = {
        kind: CounterMetricFamily(
            f"celery_task_{kind}", text, labels=[*_TASK, *(["exception"] if kind == "failed" else [])]
        )
        for kind, text in _COUNTERS.items()
    }
    for one in tallies:
        family = families.get(one.kind)
        if family is not None:
            label = [one.label] if one.kind == "failed" else []
            family.add_metric([one.name, one.worker, one.queue, *label], one.value)
    yield from families.values()


def _runtimes(tallies: Iterable[Tally]) -> Metric:
    family = HistogramMetricFamily("celery_task_runtime", "Histogram of task runtime measurements.", labels=_TASK)
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    sums: dict[tuple[str, str, str], float] = {}
    for one in tallies:
        labels = (one.name, one.worker, one.queue)
        if one.kind == "runtime_bucket":
            found.setdefault(labels, {})[one.label] = one.value
        elif one.kind == "runtime_sum":
            sums[labels] = one.value
    for labels, counts in found.items():
        total, buckets = 0.0, []
        for bound in BUCKETS:
            total += counts.get(bound, 0.0)
            buckets.append((bound, total))
        family.add_metric(labels, buckets, sums.get(labels, 0.0))
    return family


BUCKETS: Final = (
    "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "7.5", "10.0", "+Inf",
)  # fmt: skip
"""The histogram's bounds in seconds, as they are recorded."""


def _host(worker: WorkerView) -> str:
    return worker.name.rpartition("@")[2]


def _workers(metrics: Metrics) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "celery_worker_up", "Indicates if a worker has recently sent a heartbeat.", labels=["hostname"]
    )
    active = GaugeMetricFamily(
        "celery_worker_tasks_active", "The number of tasks the worker is currently processing", labels=["hostname"]
    )
    ups: dict[str, int] = {}
    actives: dict[str, int] = {}
    for worker in metrics.workers:
        if worker.origin != "observed" or metrics.at - worker.seen_at > _FORGET_SECONDS * 1_000_000:
            continue
        if worker.standing == "unknown":
            # Nobody watches: that is no worker that is down.
            continue
        online = worker.standing == "online"
        # Several workers of one host share their label: one that lives is enough to be up.
        ups[_host(worker)] = max(ups.get(_host(worker), 0), int(online))
        running = worker.facts.get("active")
        actives[_host(worker)] = actives.get(_host(worker), 0) + (running if online and isinstance(running, int) else 0)
    for host, value in ups.items():
        up.add_metric([host], value)
        active.add_metric([host], actives[host])
    yield up
    yield active


def _queues(metrics: Metrics) -> Iterator[Metric]:
    label = ["queue_name"]
    length = GaugeMetricFamily("celery_queue_length", "The number of message in broker queue.", labels=label)
    consumers = GaugeMetricFamily(
        "celery_active_consumer_count", "The number of active consumer in broker queue.", labels=label
    )
    workers = GaugeMetricFamily(
        "celery_active_worker_count", "The number of active workers in broker queue.", labels=label
    )
    processes = GaugeMetricFamily(
        "celery_active_process_count", "The number of active processes in broker queue.", labels=label
    )
    oldest = GaugeMetricFamily(
        "headway_queue_oldest_age_seconds",
        "Age of the oldest message, at least; missing where nobody knows.",
        labels=label,
    )
    online = [one for one in metrics.workers if one.origin == "observed" and one.standing == "online"]
    for queue in metrics.queues:
        facts = queue.facts
        if isinstance(facts.get("depth"), int):
            length.add_metric([queue.name], facts["depth"])
        if isinstance(facts.get("consumers"), int):
            consumers.add_metric([queue.name], facts["consumers"])
        serving = [one for one in online if queue.name in (one.facts.get("queues") or ())]
        workers.add_metric([queue.name], len(serving))
        processes.add_metric([queue.name], sum(one.facts.get("processes") or 0 for one in serving))
        if isinstance(facts.get("oldest_at"), int):
            oldest.add_metric([queue.name], max(0, metrics.at - facts["oldest_at"]) / 1_000_000)
    yield from (length, consumers, workers, processes, oldest)


def _ours(metrics: Metrics) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("headway_jobs", "Jobs of ours that are kept, by state.", labels=["state"])
    for state, count in sorted(metrics.jobs.items()):
        jobs.add_metric([state.value], count)
    tasks = GaugeMetricFamily(
        "headway_observed_tasks", "Observed tasks that are kept, by Celery state.", labels=["state"]
    )
    for name, count in sorted(metrics.tasks.items()):
        tasks.add_metric([name], count)
    age = GaugeMetricFamily(
        "headway_source_age_seconds", "Since a source of what is reported was last heard of.", labels=["source"]
    )
    for source, seconds in sorted(metrics.age.items()):
        age.add_metric([source], seconds)
    events = CounterMetricFamily(
        "headway_observed_events", "Events heard since this observer started.", labels=["kind"]
    )
    for kind in ("events", "duplicates", "malformed", "other", "lost"):
        if kind in metrics.facts:
            events.add_metric([kind], metrics.facts[kind])
    yield from (jobs, tasks, age, events)
    for gauge, text, value in (
        ("headway_orphaned_tasks", "Tasks begun by workers that are gone.", metrics.orphans),
        ("headway_unresolved_tasks", "Tasks whose end may have been missed.", metrics.unresolved),
        ("headway_gaps_open", "Gaps that are open now: events are being missed.", metrics.gaps_open),
    ):
        yield GaugeMetricFamily(gauge, text, value=value)
