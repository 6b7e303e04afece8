"""The situation report with a cluster that a test describes: no data is never called good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.model.observed import GONE_SECONDS, ListTasks, ObservedQueue, friendly_name
from headway.model.reported import situation_json
from headway.model.sayings import Said
from headway.model.situation import Health, Situation
from headway.service import (
    cancel_job,
    get_task,
    list_tasks,
    list_workers,
    read_sitrep,
)
from headway.testing.clock import FakeClock
from tests.observations import NOW, SECOND, batch, said, success, worker
from tests.unit.service.scene import Scene, codes, scene_at
from tests.unit.store.house import open_house


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as found:
        yield found


# Health


def test_where_all_answers_and_nothing_is_missing_it_is_ok(scene: Scene) -> None:
    scene.hears(*success("a"), said("b", Said.FAILED, error="ValueError('x')"))
    report = scene.report()
    assert (report.health, report.attention) == (Health.OK, ())
    assert report.metrics.success_rate == 0.5
    assert all(figure.complete for figure in report.figures.values())
    assert {one.name: one.ok for one in report.sources} == dict.fromkeys(
        ("jobs", "events", "workers", "broker", "results"), True
    )


def test_while_the_broker_is_away_nobody_can_tell(scene: Scene) -> None:
    scene.hears(*success("a"))
    scene.cluster.broker, scene.cluster.says = False, "connection refused"
    report = scene.report()
    assert report.health is Health.UNKNOWN
    assert "broker_away" in codes(report)
    assert report.metrics.success_rate is None
    assert report.figures["success_rate"].last_known == 1.0
    assert not any(figure.complete for figure in report.figures.values())
    assert report.metrics.completed_tasks == 1


def test_without_a_worker_that_answers_it_is_degraded(scene: Scene) -> None:
    scene.hears(*success("a"))
    scene.cluster.workers = frozenset()
    report = scene.report()
    assert report.health is Health.DEGRADED
    assert "no_worker" in codes(report)
    assert report.metrics.success_rate is None
    assert report.figures["success_rate"].last_known == 1.0
    assert [one.standing for one in report.workers] == ["silent"]


def test_of_a_cluster_that_nobody_ever_heard_of_nothing_is_known(scene: Scene) -> None:
    scene.cluster.workers = frozenset()
    scene.cluster.events = {"seen_at": None, "complete": False}
    report = scene.report()
    assert (report.health, report.metrics.success_rate) == (Health.UNKNOWN, None)
    assert report.figures["success_rate"].last_known is None


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ({"ok": False, "complete": False, "says": "cut"}, "events_lost"),
        ({"complete": False, "facts": {"workers_without_events": ["one@host"]}, "says": "no -E"}, "events_off"),
        ({"complete": False}, None),
    ],
)
def test_where_events_may_be_missing_it_is_degraded(scene: Scene, events: dict[str, Any], code: str | None) -> None:
    scene.hears(*success("a"))
    scene.cluster.events = events
    report = scene.report()
    assert report.health is Health.DEGRADED
    assert codes(report) == ({code} if code else set())


def test_a_gap_that_was_not_looked_through_makes_it_incomplete(scene: Scene) -> None:
    scene.hears(*success("a"), *success("runs")[:3])
    gap = scene.door.open_gap("broker_away", NOW)
    assert scene.report().health is Health.DEGRADED
    scene.clock.advance(1)
    closed = scene.door.close_gap(gap, scene.clock.now())
    scene.hears()
    report = scene.report()
    assert (report.health, report.figures["active_tasks"].complete) == (Health.DEGRADED, False)
    assert "ends_missed" in codes(report)
    assert report.metrics.active_tasks == 0
    assert closed.ended_at is not None
    scene.door.reconciled(closed.ended_at, 0)
    scene.hears(said("runs", Said.SUCCEEDED, NOW + 5 * SECOND, result="1"))
    report = scene.report()
    assert (report.health, report.attention) == (Health.OK, ())


def test_a_worker_that_is_gone_with_its_tasks_is_said(scene: Scene) -> None:
    scene.hears(*success("a", worker="dead@host")[:3], worker_of="dead@host")
    scene.clock.advance(GONE_SECONDS + 5)
    scene.hears()
    report = scene.report()
    assert report.health is Health.DEGRADED
    assert {"orphans", "worker_silent"} <= codes(report)
    assert report.metrics.active_tasks == 0
    (orphan,) = (one for one in report.recent if one.orphaned)
    shown = situation_json(report)["recent_tasks"][0]
    assert (orphan.id, shown["description"]) == ("a", "Begun on dead@host, which is gone")


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"depth": 5, "consumers": 0}, "queue_without_consumer"),
        ({"depth": 5, "consumers": 1, "oldest_at": NOW - 700 * SECOND, "oldest": "exact"}, "queue_old"),
        ({"depth": 150, "consumers": 1, "growth_per_minute": 200.0}, "queue_growing"),
        ({"depth": 150, "consumers": 1, "growth_per_minute": 100.0}, None),
        ({"depth": 0, "consumers": 0}, None),
        ({"depth": None, "consumers": None}, None),
        ({"depth": 5, "consumers": None}, "queue_without_consumer"),
    ],
)
def test_a_queue_that_wants_somebody_is_said(scene: Scene, facts: dict[str, Any], code: str | None) -> None:
    scene.hears(*success("a"))
    scene.door.queues([ObservedQueue("lonely", NOW, facts)])
    assert codes(scene.report()) == ({code} if code else set())


def test_every_remedy_is_there_and_errors_come_first(scene: Scene) -> None:
    scene.cluster.workers = frozenset()
    scene.cluster.results = {"ok": False, "complete": False, "says": "refused"}
    scene.cluster.events = {"facts": {"workers_without_events": ["x"]}, "says": "none"}
    scene.door.close_gap(scene.door.open_gap("buffer_full", scene.clock.now(), 3), scene.clock.now())
    attention = scene.report().attention
    assert [one.severity for one in attention] == sorted(one.severity for one in attention)
    assert all(one.says and one.remedy for one in attention)
    assert {"no_worker", "results_away", "events_dropped", "events_off"} == {one.code for one in attention}


@pytest.mark.parametrize("broker", [True, False])
@pytest.mark.parametrize("workers", [None, frozenset(), frozenset({"one@host"}), frozenset({"stranger@host"})])
@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("age", [0, 15, 60])
def test_a_rate_is_given_only_where_the_broker_and_a_worker_answer(
    scene: Scene, broker: bool, workers: frozenset[str] | None, heard: bool, age: float
) -> None:
    scene.hears(*success("a"))
    scene.clock.advance(age)
    scene.cluster.broker, scene.cluster.workers = broker, workers
    if not heard:
        scene.cluster.events = {"seen_at": None, "complete": False, "ok": False}
    report = scene.report()
    online = [one for one in report.workers if one.standing == "online"]
    if not broker or not online:
        assert report.metrics.success_rate is None
        assert report.health is not Health.OK
        assert report.figures["success_rate"].last_known == 1.0
    if not heard:
        assert report.health is not Health.OK
    assert (report.metrics.success_rate is None) is not (broker and bool(online))


# Figures


def test_a_server_without_a_cluster_reports_its_jobs(scene: Scene) -> None:
    house = scene.house
    scene.door.end()
    jobs = [house.submit("app.ours") for _ in range(3)]
    cancel_job(house.ctx, jobs[0].id)
    house.services.job_totals.count()
    report = read_sitrep(house.ctx)
    assert (report.metrics.pending_tasks, report.metrics.cancelled_tasks, report.metrics.total_tasks) == (2, 1, 3)
    assert report.metrics.success_rate is None
    # That a cluster was once observed over its store is history, and no more.
    assert [one.name for one in report.sources] == ["jobs"]
    # A command that reads a database which others may share does not know who serves it.
    asks = replace(house.ctx, services=replace(house.services, serves=False))
    events = next(one for one in read_sitrep(asks).sources if one.name == "events")
    assert (events.ok, events.complete) == (None, False)
    assert "headway observe" in events.says


def read_from_outside(scene: Scene) -> Situation:
    """The report as `headway sitrep` gets it where no server runs: this process has the store for itself."""
    services = replace(scene.house.services, serves=False, alone=True)
    services.job_totals.count()
    return read_sitrep(replace(scene.house.ctx, services=services))


def assert_nobody_knows(report: Situation) -> None:
    assert report.health is Health.UNKNOWN
    assert report.attention[0].code == "nobody_watches"
    assert "--data-dir" in report.attention[0].remedy
    assert report.metrics.success_rate is None
    assert not any(figure.complete for figure in report.figures.values())
    assert not any(one.complete or one.ok for one in report.sources)


def test_where_nothing_was_ever_stored_and_nobody_serves_nothing_is_known(tmp_path: Path) -> None:
    house = open_house(tmp_path, clock=FakeClock(NOW))
    try:
        services = replace(house.services, serves=False, alone=True)
        services.job_totals.count()
        report = read_sitrep(replace(house.ctx, services=services))
    finally:
        house.store.close()
        house.signal.close()
    assert_nobody_knows(report)
    assert (report.attention[0].since, report.metrics.total_tasks) == (None, 0)
    assert {figure.seen_at for figure in report.figures.values()} == {None}


def test_jobs_of_a_server_that_runs_no_more_are_history(scene: Scene) -> None:
    house = scene.house
    house.store.write(lambda tx: tx.register_worker("own", {"pid": 1, "host": "h", "slots": 1, "version": "0"}))
    house.submit("app.ours")
    # Over a database that others may share its worker is online.
    scene.door.end()
    assert [one.standing for one in read_sitrep(house.ctx).workers] == ["online"]
    scene.clock.advance(1)
    report = read_from_outside(scene)
    assert_nobody_knows(report)
    assert [one.standing for one in report.workers] == ["gone"]
    assert (report.metrics.pending_tasks, report.metrics.total_tasks) == (1, 1)


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("age", [1, 36, 3600])
def test_no_worker_is_accused_because_nobody_listened(scene: Scene, stopped: bool, age: float) -> None:
    dead = worker("dead@host", NOW, active=2)
    scene.door.record(batch(*success("lost", worker="dead@host")[:3], workers=[dead]))
    scene.clock.advance(GONE_SECONDS + 5)
    scene.hears(*success("a"), *success("runs")[:3])
    if stopped:
        scene.door.end()
    scene.clock.advance(age)
    report = read_from_outside(scene)
    assert_nobody_knows(report)
    assert codes(report) == {"nobody_watches"}
    # Who was gone while somebody watched still is, by all that is known.
    assert [(one.name, one.standing, one.orphans) for one in report.workers] == [
        ("dead@host", "gone", 1),
        ("one@host", "unknown", 0),
    ]
    assert {one.id for one in report.recent if one.orphaned} == {"lost"}
    outside = replace(scene.house.ctx, services=replace(scene.house.services, serves=False, alone=True))
    assert [one.standing for one in list_workers(outside)] == ["gone", "unknown"]
    assert [one.id for one in list_tasks(outside, ListTasks(orphaned=True)).items] == ["lost"]


def test_a_server_that_runs_jobs_says_nothing_of_workers_that_nobody_listens_to(scene: Scene) -> None:
    scene.hears(*success("runs")[:3])
    scene.door.end()
    scene.clock.advance(3600)
    catalog: Any = object()
    services = replace(scene.house.services, catalog=catalog)
    services.job_totals.count()
    report = read_sitrep(replace(scene.house.ctx, services=services))
    assert (report.health, report.attention, report.metrics.orphaned_tasks) == (Health.OK, (), 0)
    assert [one.standing for one in report.workers] == ["unknown"]


def test_the_total_never_falls_while_nothing_is_deleted(scene: Scene) -> None:
    scene.hears(*success("done"), *success("taken")[:2], *success("sent")[:1])
    scene.door.record(
        batch(
            *success("runs", worker="w2@host")[:3], *success("more", worker="w2@host")[:3], workers=[worker("w2@host")]
        )
    )
    scene.door.queues([ObservedQueue("celery", NOW, {"depth": 7, "consumers": 1})])
    before = scene.report().metrics
    # Six of the seven that wait were not heard of; one of them was seen to be sent.
    assert (before.total_tasks, before.orphaned_tasks, before.unresolved_tasks) == (11, 0, 0)
    scene.clock.advance(GONE_SECONDS + 5)
    scene.hears()
    scene.door.queues([ObservedQueue("celery", scene.clock.now(), {"depth": 7, "consumers": 1})])
    killed = scene.report().metrics
    assert (killed.total_tasks, killed.active_tasks, killed.orphaned_tasks) == (11, 0, 2)
    scene.door.close_gap(scene.door.open_gap("broker_away", scene.clock.now()), scene.clock.now() + 1)
    missed = scene.report().metrics
    # The two orphans may have ended, too: each is counted once.
    assert (missed.total_tasks, missed.orphaned_tasks, missed.unresolved_tasks) == (11, 2, 2)
    scene.door.queues([ObservedQueue("celery", scene.clock.now(), {"depth": 0, "consumers": 1})])
    # A task that was sent is known, though no message is left of it.
    assert scene.report().metrics.total_tasks == 5


@pytest.mark.parametrize(("depth", "pending"), [(3, 3), (4, 4), (1, 3), (0, 2)])
def test_a_task_that_is_to_be_tried_again_waits_once(scene: Scene, depth: int, pending: int) -> None:
    """Its message is among those of the queue, unless the broker keeps it elsewhere until it is due."""
    for name in ("a", "b"):
        scene.hears(*success(name)[:3], said(name, Said.RETRIED, NOW + 3 * SECOND, error="later"))
    scene.hears(said("sent", Said.SENT, NOW, name="n", queue="celery"))
    scene.door.queues([ObservedQueue("celery", NOW, {"depth": depth})])
    metrics = scene.report().metrics
    assert (metrics.total_tasks, metrics.pending_tasks) == (max(3, depth), pending)


def test_a_queue_that_was_emptied_unseen_hides_no_message_of_another(scene: Scene) -> None:
    scene.hears(
        said("stale", Said.SENT, NOW, name="n", queue="celery"),
        said("also", Said.SENT, NOW, name="n", queue="celery"),
        said("waits", Said.SENT, NOW, name="n", queue="lonely"),
    )
    depths = {"celery": 0, "lonely": 2}
    scene.door.queues([ObservedQueue(name, NOW, {"depth": depth}) for name, depth in depths.items()])
    metrics = scene.report().metrics
    assert (metrics.total_tasks, metrics.pending_tasks) == (4, 2)


def test_what_was_sent_may_have_ended_while_a_worker_sends_no_events(scene: Scene) -> None:
    scene.hears(said("sent", Said.SENT, NOW, name="n", queue="celery"), *success("runs")[:3])
    gap = scene.door.open_gap("events_off", NOW)
    assert {one.id: one.complete for one in list_tasks(scene.ctx, ListTasks()).items} == {"sent": False, "runs": True}
    assert not get_task(scene.ctx, "sent").complete
    assert {one.id: one.complete for one in scene.report().recent} == {"sent": False, "runs": True}
    scene.door.close_gap(gap, NOW - 1)
    assert get_task(scene.ctx, "sent").complete


def test_where_workers_are_not_asked_what_they_hold_is_not_known(scene: Scene) -> None:
    scene.hears(*success("a"))
    scene.cluster.workers = None
    scene.cluster.asked = {"complete": False, "ok": None, "says": "--strict: workers are not asked"}
    figures = scene.report().figures
    open_ = {name for name, figure in figures.items() if not figure.complete}
    assert open_ == {"active_tasks", "pending_tasks", "total_tasks", "orphaned_tasks", "unresolved_tasks"}


def test_upcoming_leaves_out_what_nobody_holds_or_may_have_ended(scene: Scene) -> None:
    later: dict[str, Any] = {"name": "app.later", "retries": 0, "eta": NOW + 9999 * SECOND}
    scene.door.record(batch(said("held", Said.RECEIVED, NOW, "dead@host", **later), workers=[worker("dead@host")]))
    scene.clock.advance(GONE_SECONDS + 5)
    now = scene.clock.now()
    scene.hears(said("waits", Said.RECEIVED, now, **later), said("missed", Said.RECEIVED, now, **later))
    assert {one.task_id for one in scene.report().upcoming} == {"waits", "missed"}
    scene.clock.advance(1)
    scene.door.close_gap(scene.door.open_gap("broker_away", scene.clock.now()), scene.clock.now())
    scene.hears(said("waits", Said.SEEN_WAITING, scene.clock.now(), name="app.later", eta=NOW + 9999 * SECOND))
    assert {one.task_id for one in scene.report().upcoming} == {"waits"}


def test_a_task_that_a_worker_holds_for_its_time_says_so(scene: Scene) -> None:
    scene.hears(said("eta", Said.RECEIVED, NOW, name="app.later", queue="celery", retries=0, eta=NOW + 60 * SECOND))
    (shown,) = situation_json(scene.report())["recent_tasks"]
    assert shown["description"] == "Waits for its time, 2027-01-15 08:01:00Z on one@host"
    assert (shown["at"], shown["started_at"]) == ("2027-01-15T08:00:00.000000Z", None)
    scene.clock.advance(61)
    (shown,) = situation_json(scene.report())["recent_tasks"]
    assert shown["description"].startswith("Waiting")


def test_where_results_cannot_be_read_it_is_said_and_is_no_error(scene: Scene) -> None:
    scene.hears(*success("a"))
    scene.cluster.results = {
        "seen_at": None, "complete": False, "ok": None, "says": "there is none", "facts": {"readable": False},
    }  # fmt: skip
    report = scene.report()
    (found,) = report.attention
    assert (found.code, found.severity, found.says, report.health) == (
        "no_results", "warning", "there is none", Health.OK,
    )  # fmt: skip
    assert "--result-backend" in found.remedy


def test_a_remedy_is_said_once(scene: Scene) -> None:
    scene.hears(*success("a"))
    names = [f"w{number}@host" for number in range(7)]
    scene.cluster.events = {
        "complete": False,
        "facts": {"workers_without_events": names},
        "says": "with --enable-events",
    }
    (found,) = scene.report().attention
    assert found.says == "no task events from w0@host, w1@host, w2@host, w3@host, w4@host and 2 more"
    assert found.remedy.count("--enable-events") == 1


def test_what_waits_at_the_broker_is_what_the_broker_says(scene: Scene) -> None:
    scene.hears(said("a", Said.SENT, NOW, "c@c", name="n", queue="celery", retries=0))
    assert scene.report().metrics.pending_tasks == 1
    scene.door.queues([ObservedQueue("celery", NOW, {"depth": 40, "consumers": 1}), ObservedQueue("x", NOW, {})])
    scene.hears(said("b", Said.RECEIVED, NOW, name="n", retries=0))
    assert scene.report().metrics.pending_tasks == 41


def test_upcoming_holds_both_jobs_and_tasks_the_next_first(scene: Scene) -> None:
    scene.hears(said("eta", Said.RECEIVED, NOW, name="app.later", retries=0, eta=NOW + 60 * SECOND))
    job = scene.house.submit("app.scheduled", run_at=NOW + 30 * SECOND)
    report = scene.report()
    assert [(one.task_id, one.origin) for one in report.upcoming] == [(job.id, "job"), ("eta", "observed")]
    assert [one["name"] for one in situation_json(report)["upcoming"]] == ["Scheduled", "Later"]


def test_an_error_is_masked_and_cut_to_200_characters(scene: Scene) -> None:
    scene.hears(said("a", Said.FAILED, error="ValueError('password=hunter2 " + "x" * 500 + "')"))
    (shown,) = situation_json(scene.report())["recent_tasks"]
    assert (len(shown["error_message"]), shown["error_message"][-1]) == (200, "…")
    assert "hunter2" not in str(shown)
    assert shown["description"].startswith("Task failed: ValueError(")
    assert shown["status"] == "failed"


@pytest.mark.parametrize(
    ("name", "friendly"),
    [
        ("app.resilience.tasks.periodic_health_check", "Periodic Health Check"),
        ("send-mail", "Send Mail"),
        ("add", "Add"),
        ("a.b.HTTP_get", "HTTP Get"),
        ("app._", "app._"),
        ("", "Unknown Task"),
        (None, "Unknown Task"),
    ],
)
def test_names_are_made_friendly(name: str | None, friendly: str) -> None:
    assert friendly_name(name) == friendly


def test_a_report_never_holds_a_number_where_a_source_is_unknown(scene: Scene) -> None:
    report = situation_json(scene.report())
    assert report["task_metrics"]["success_rate"] is None
    assert set(report["figures"]) == set(report["task_metrics"])
    assert report["health_status"] in ("unknown", "degraded")


def test_what_was_dropped_is_said_for_an_hour(scene: Scene) -> None:
    scene.hears(*success("a"))
    scene.door.close_gap(scene.door.open_gap("buffer_full", NOW, 3), NOW)
    scene.door.reconciled(NOW, 0)
    report = scene.report()
    assert (report.health, codes(report)) == (Health.DEGRADED, {"events_dropped"})
    scene.clock.advance(3601)
    scene.hears()
    assert scene.report().health is Health.OK
