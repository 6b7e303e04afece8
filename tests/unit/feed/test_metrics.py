"""``/metrics`` read as Prometheus reads it: celery-exporter's names, labels and types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from headway.feed.metrics import BUCKETS, CONTENT_TYPE, render
from headway.model.observed import ObservedQueue, Tally, WorkerView
from headway.model.situation import Metrics
from headway.model.states import JobState
from headway.service.recording import RUNTIME_BUCKETS, exception_name
from tests.observations import NOW, SECOND

TASK = ("app.add", "host", "celery")
LABELS = {"name": "app.add", "hostname": "host", "queue_name": "celery"}
COUNTERS = ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried")


def a_worker(name: str, seconds_ago: float = 0, standing: str = "online", **facts: Any) -> WorkerView:
    return WorkerView(name, standing, NOW - int(seconds_ago * SECOND), "observed", 0, facts)


FULL = Metrics(
    at=NOW,
    tallies=(
        *(Tally(kind, *TASK, "ValueError" if kind == "failed" else "", float(n)) for n, kind in enumerate(COUNTERS, 1)),
        Tally("failed", *TASK, "KeyError", 2.0),
        Tally("runtime_bucket", *TASK, "0.1", 3.0),
        Tally("runtime_bucket", *TASK, "10.0", 1.0),
        Tally("runtime_bucket", *TASK, "+Inf", 1.0),
        Tally("runtime_sum", *TASK, "", 42.5),
    ),
    workers=(a_worker("one@host", active=2, queues=["celery"], processes=4),),
    queues=(ObservedQueue("celery", NOW, {"depth": 7, "consumers": 1, "oldest_at": NOW - 90 * SECOND}),),
    jobs={JobState.QUEUED: 3},
    tasks={"SUCCESS": 11},
    age={"events": 1.5},
    facts={"events": 10.0, "lost": 0.0},
    orphans=2,
    unresolved=1,
    gaps_open=0,
)


def families(metrics: Metrics) -> dict[str, Metric]:
    found = list(text_string_to_metric_families(render(metrics).decode()))
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def values(family: Metric) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in family.samples}


def sample(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_every_counter_has_celery_exporters_name_labels_and_type() -> None:
    found = families(FULL)
    for number, kind in enumerate(COUNTERS, 1):
        family = found[f"celery_task_{kind}"]
        assert family.type == "counter"
        if kind == "failed":
            continue
        assert values(family) == {(f"celery_task_{kind}_total", sample(LABELS)): number}
    assert values(found["celery_task_failed"]) == {
        ("celery_task_failed_total", sample({**LABELS, "exception": "ValueError"})): 5,
        ("celery_task_failed_total", sample({**LABELS, "exception": "KeyError"})): 2,
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("celery_worker_up", {"hostname": "host"}, 1),
        ("celery_worker_tasks_active", {"hostname": "host"}, 2),
        ("celery_queue_length", {"queue_name": "celery"}, 7),
        ("celery_active_consumer_count", {"queue_name": "celery"}, 1),
        ("celery_active_worker_count", {"queue_name": "celery"}, 1),
        ("celery_active_process_count", {"queue_name": "celery"}, 4),
        ("headway_queue_oldest_age_seconds", {"queue_name": "celery"}, 90),
        ("headway_jobs", {"state": "queued"}, 3),
        ("headway_observed_tasks", {"state": "SUCCESS"}, 11),
        ("headway_source_age_seconds", {"source": "events"}, 1.5),
        ("headway_orphaned_tasks", {}, 2),
        ("headway_unresolved_tasks", {}, 1),
        ("headway_gaps_open", {}, 0),
    ],
)
def test_a_gauge_has_its_name_labels_and_value(name: str, labels: dict[str, str], value: float) -> None:
    family = families(FULL)[name]
    assert family.type == "gauge"
    assert values(family) == {(name, sample(labels)): value}


def test_the_runtime_is_a_histogram_with_the_default_buckets() -> None:
    family = families(FULL)["celery_task_runtime"]
    assert family.type == "histogram"
    buckets = {one.labels["le"]: one.value for one in family.samples if one.name == "celery_task_runtime_bucket"}
    assert list(buckets) == list(BUCKETS)
    assert [buckets[bound] for bound in ("0.075", "0.1", "7.5", "10.0", "+Inf")] == [0, 3, 3, 4, 5]
    assert sorted(buckets.values()) == list(buckets.values())
    rest = {one.name: one.value for one in family.samples if not one.name.endswith("_bucket")}
    assert rest == {"celery_task_runtime_count": 5, "celery_task_runtime_sum": 42.5}
    from prometheus_client import Histogram

    assert tuple(float(bound) for bound in BUCKETS) == Histogram.DEFAULT_BUCKETS
    assert Histogram.DEFAULT_BUCKETS[:-1] == RUNTIME_BUCKETS


def test_a_worker_is_down_when_it_is_silent_and_forgotten_after_ten_minutes() -> None:
    workers = (
        a_worker("up@a", active=1),
        a_worker("silent@b", 20, "silent", active=3),
        a_worker("gone@c", 599, "gone", active=3),
        a_worker("long_gone@d", 601, "gone", active=3),
        a_worker("left@e", 5, "offline"),
        # Nobody watches: that is no worker that is down.
        a_worker("unheard@f", 5, "unknown"),
    )
    found = families(replace(FULL, workers=workers))
    up = {one.labels["hostname"]: one.value for one in found["celery_worker_up"].samples}
    active = {one.labels["hostname"]: one.value for one in found["celery_worker_tasks_active"].samples}
    assert up == {"a": 1, "b": 0, "c": 0, "e": 0}
    assert active == {"a": 1, "b": 0, "c": 0, "e": 0}


def test_workers_of_one_host_share_a_label_and_workers_of_this_server_have_none() -> None:
    workers = (
        a_worker("dead@h", 40, "gone", active=5),
        a_worker("one@h", active=1),
        a_worker("two@h", active=2),
        WorkerView("ours", "online", NOW, "job"),
    )
    found = families(replace(FULL, workers=workers))
    assert values(found["celery_worker_up"]) == {("celery_worker_up", sample({"hostname": "h"})): 1}
    assert [one.value for one in found["celery_worker_tasks_active"].samples] == [3]


def test_what_nobody_knows_is_missing_and_not_nought() -> None:
    unknown = replace(FULL, queues=(ObservedQueue("q", NOW, {"depth": None}),), workers=(a_worker("one@h"),), age={})
    found = families(unknown)
    assert found["celery_queue_length"].samples == []
    assert found["celery_active_consumer_count"].samples == []
    assert found["headway_queue_oldest_age_seconds"].samples == []
    assert found["headway_source_age_seconds"].samples == []


def test_a_name_of_any_letters_is_escaped_and_read_back() -> None:
    hostile = 'a"b\\c\nd{e="f"} 😀'
    text = replace(FULL, tallies=(Tally("sent", hostile, hostile, hostile, "", 1.0),))
    (one,) = families(text)["celery_task_sent"].samples
    assert set(one.labels.values()) == {hostile}


def test_an_empty_server_still_names_every_metric() -> None:
    nothing = Metrics(NOW, (), (), (), {}, {}, {}, {}, 0, 0, 0)
    assert set(families(nothing)) == set(families(FULL))
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("error", "name"),
    [
        ("ValueError('no')", "ValueError"),
        ("app.errors.Not_There()", "app.errors.Not_There"),
        ("KeyError", "KeyError"),
        ("<unprintable>", "UnknownException"),
        ("two words(1)", "UnknownException"),
        ("", "UnknownException"),
        (None, "UnknownException"),
        ("E" * 300 + "()", "E" * 100),
    ],
)
def test_the_label_of_an_exception_is_its_class(error: str | None, name: str) -> None:
    assert exception_name(error) == name
