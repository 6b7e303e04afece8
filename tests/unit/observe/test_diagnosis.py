"""Facts of a cluster to findings: each check where all is well, and where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

from headway.model.findings import Finding, Level
from headway.observe import blindness, diagnosis, redelivery
from headway.observe.answers import queue_keys, rules, settings_of
from headway.observe.diagnosis import diagnose
from headway.observe.facts import BeatEntry, ClusterFacts, HeldTask, RedisMemory, TaskRule, WorkerFacts
from headway.observe.plans import beat_entries, own_rules, own_settings, routed_queues
from headway.ports.cluster import QueueDepth

NOW = 1_800_000_000_000_000
SETTINGS = {
    "broker_transport_options": {},
    "result_backend": "redis://127.0.0.1/1",
    "result_extended": True,
    "task_send_sent_event": True,
    "task_track_started": True,
    "worker_send_task_events": True,
}
ONE = WorkerFacts(
    "one@host",
    concurrency=2,
    prefetch=8,
    queues={"celery": "celery"},
    tasks={"proj.add": TaskRule(), "proj.long": TaskRule(60.0, late=True)},
    settings=SETTINGS,
    active=(),
    reserved=(),
    scheduled=(),
    skew=0.0,
    version="5.6.3",
)
WELL = ClusterFacts(
    "redis://127.0.0.1:6379/0",
    "redis",
    asked_at=NOW,
    workers={ONE.name: ONE},
    tasks=ONE.tasks or {},
    depths={"celery": QueueDepth("celery", 5)},
    beat=(BeatEntry("minutely", "proj.add", "celery"),),
    memory=RedisMemory("noeviction", 0, 1 << 20),
    listened=2.0,
)
Check = Callable[[ClusterFacts], Iterator[Finding]]


def with_workers(*workers: WorkerFacts, facts: ClusterFacts = WELL, **changes: Any) -> ClusterFacts:
    return replace(facts, workers={one.name: one for one in workers}, **changes)


def one_with(**settings: Any) -> ClusterFacts:
    return with_workers(replace(ONE, settings={**SETTINGS, **settings}))


def only(check: Check, facts: ClusterFacts) -> Finding:
    found = list(check(facts))
    assert len(found) == 1, found
    return found[0]


def test_where_all_is_well_every_check_says_so_and_none_has_a_remedy() -> None:
    found = diagnose(WELL)
    assert {one.level for one in found} == {Level.OK}
    assert {one.check.removeprefix("cluster: ") for one in found} >= {"broker", "workers", "beat", "clocks", "prefetch"}
    assert [one for one in found if one.remedy] == []


def test_of_a_broker_that_is_away_nothing_else_is_said() -> None:
    found = diagnose(ClusterFacts("redis://h/0", "redis", broker_error="refused"))
    assert [(one.check, one.level) for one in found] == [("cluster: broker", Level.ERROR)]
    assert "refused [broker_away]" in found[0].says
    assert found[0].remedy


def test_no_worker_is_an_error_and_one_that_only_beats_is_named() -> None:
    assert only(diagnosis.workers, WELL).says == "1 worker answers: one@host (2 at a time; celery)"
    silent, deaf = diagnosis.workers(with_workers(unanswering=frozenset({"two@host"})))
    assert (silent.level, deaf.level) == (Level.ERROR, Level.WARNING)
    assert "two@host" in deaf.says


@pytest.mark.parametrize(
    ("depth", "named", "level"),
    [
        (QueueDepth("reports", 3), {}, Level.ERROR),
        (QueueDepth("reports", 3, consumers=1), {}, Level.WARNING),
        (QueueDepth("reports", 0), {"reports": "task_routes"}, Level.WARNING),
        (QueueDepth("reports", None), {"reports": "task_routes"}, Level.WARNING),
        (QueueDepth("reports", 0), {}, Level.OK),
        (QueueDepth("reports", 0, consumers=1), {"reports": "task_routes"}, Level.OK),
    ],
)
def test_a_queue_without_a_consumer(depth: QueueDepth, named: dict[str, str], level: Level) -> None:
    found = only(diagnosis.queues, replace(WELL, depths={**WELL.depths, "reports": depth}, named=named))
    assert found.level is level
    assert ("reports" in found.says) is (level is not Level.OK)
    assert ("-Q reports" in found.remedy) is (level is not Level.OK)


def test_a_queue_is_no_error_while_a_worker_has_not_said_what_it_takes_from() -> None:
    two = replace(ONE, name="two@host", queues=None)
    depths = {"reports": QueueDepth("reports", 3)}
    levels = {one.level for one in diagnosis.queues(with_workers(ONE, two, depths=depths))}
    assert levels == {Level.WARNING}


def test_of_very_many_queues_the_worst_are_shown() -> None:
    depths = {f"q{n}": QueueDepth(f"q{n}", 1) for n in range(30)}
    found = list(diagnosis.queues(replace(WELL, depths=depths)))
    assert len(found) == 21
    assert "10 more" in found[-1].says


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (BeatEntry("e", "proj.typo", "celery"), "which no worker that answers has"),
        (BeatEntry("e", "proj.add", "nowhere"), "which no worker with that task consumes"),
    ],
)
def test_an_entry_of_beat_that_reaches_nobody(entry: BeatEntry, says: str) -> None:
    found = only(diagnosis.beat, replace(WELL, beat=(entry,)))
    assert found.level is Level.ERROR
    assert says in found.says


def test_an_entry_of_beat_for_another_worker_and_a_scheduler_elsewhere() -> None:
    two = replace(ONE, name="two@host", queues={"other": "other"}, tasks={"proj.other": TaskRule()})
    crossed = with_workers(ONE, two, beat=(BeatEntry("e", "proj.other", "celery"),))
    assert only(diagnosis.beat, crossed).level is Level.ERROR
    right = with_workers(ONE, two, beat=(BeatEntry("e", "proj.other", "other"), BeatEntry("f", "proj.add")))
    assert only(diagnosis.beat, right).level is Level.OK
    elsewhere = replace(
        WELL, beat=(), foreign_schedulers=frozenset({"django_celery_beat.schedulers:DatabaseScheduler"})
    )
    assert "were not checked" in only(diagnosis.beat, elsewhere).says


@pytest.mark.parametrize(
    ("memory", "level"),
    [
        (RedisMemory("noeviction", 0, 1), Level.OK),
        (RedisMemory("noeviction", 100, 50), Level.OK),
        (RedisMemory("noeviction", 100, 95), Level.WARNING),
        (RedisMemory("allkeys-lru", 0, 1), Level.WARNING),
        (RedisMemory("allkeys-lru", 100, 1), Level.ERROR),
        (RedisMemory("volatile-lru", 100, 1), Level.WARNING),
        (RedisMemory(), Level.WARNING),
    ],
)
def test_what_redis_throws_away(memory: RedisMemory, level: Level) -> None:
    found = only(redelivery.eviction, replace(WELL, memory=memory))
    assert found.level is level
    assert bool(found.remedy) is (level is not Level.OK)


def test_eviction_and_visibility_are_of_redis_only() -> None:
    rabbit = replace(WELL, transport="rabbitmq", memory=None, tasks={"proj.long": TaskRule(9_999, late=True)})
    assert [*redelivery.eviction(rabbit), *redelivery.visibility(rabbit)] == []


@pytest.mark.parametrize(
    ("rule", "level"),
    [
        (TaskRule(3600.0, late=True), Level.OK),
        (TaskRule(3601.0, late=True), Level.ERROR),
        (TaskRule(3601.0, late=False), Level.WARNING),
        (TaskRule(None, late=True), Level.OK),
    ],
)
def test_a_limit_above_the_visibility_timeout(rule: TaskRule, level: Level) -> None:
    found = only(redelivery.visibility, replace(WELL, tasks={"proj.long": rule}))
    assert found.level is level
    assert ("visibility_timeout" in found.remedy) is (level is not Level.OK)


def test_the_visibility_timeout_that_is_set_counts_and_the_least_of_several() -> None:
    tasks = {"proj.long": TaskRule(5_000, late=True)}
    longer = replace(ONE, settings={**SETTINGS, "broker_transport_options": {"visibility_timeout": 6_000}})
    assert only(redelivery.visibility, with_workers(longer, tasks=tasks)).level is Level.OK
    two = replace(ONE, name="two@host")
    found = list(redelivery.visibility(with_workers(longer, two, tasks=tasks)))
    assert [one.level for one in found] == [Level.ERROR, Level.WARNING]
    assert "at two@host, 3600 s" in found[0].says


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"scheduled": (HeldTask("1", "proj.add", at=NOW + 3_500_000_000),)}, Level.OK),
        ({"scheduled": (HeldTask("1", "proj.add", at=NOW + 3_700_000_000),)}, Level.ERROR),
        # The same moment, by a clock that is 200 s ahead.
        ({"scheduled": (HeldTask("1", "proj.add", at=NOW + 3_700_000_000),), "skew": 200.0}, Level.OK),
        ({"active": (HeldTask("1", "proj.long", at=NOW - 3_700_000_000),)}, Level.ERROR),
        ({"active": (HeldTask("1", "proj.long", at=NOW - 3_700_000_000, acknowledged=True),)}, Level.OK),
    ],
)
def test_what_a_worker_holds_for_longer_than_the_visibility_timeout(changes: dict[str, Any], level: Level) -> None:
    assert only(redelivery.visibility, with_workers(replace(ONE, **changes))).level is level


def test_a_task_that_waits_in_a_busy_worker_while_another_is_idle() -> None:
    running = tuple(HeldTask(f"r{n}", "proj.long", "celery") for n in range(2))
    busy = replace(ONE, active=running, reserved=(HeldTask("w", "proj.add", "celery"),))
    idle = replace(ONE, name="two@host", active=running[:1])
    found = only(diagnosis.prefetch, with_workers(busy, idle))
    assert found.level is Level.WARNING
    assert "1 tasks wait in one@host, which is busy, while two@host could run them" in found.says
    for other in (
        replace(idle, active=running),
        replace(idle, queues={"other": "other"}),
        replace(idle, tasks={"proj.other": TaskRule()}),
    ):
        assert only(diagnosis.prefetch, with_workers(busy, other)).level is Level.OK
    on_its_way = replace(busy, active=running[:1])
    assert only(diagnosis.prefetch, with_workers(on_its_way, idle)).level is Level.OK


@pytest.mark.parametrize(
    ("late", "prefetch", "scheduled", "level"),
    [
        (True, 8, 0, Level.WARNING),
        (True, 0, 0, Level.WARNING),
        (True, 2, 0, Level.OK),
        (True, 3, 1, Level.OK),
        (False, 8, 0, Level.OK),
    ],
)
def test_late_acknowledgement_with_more_taken_than_run(late: bool, prefetch: int, scheduled: int, level: Level) -> None:
    held = tuple(HeldTask(str(n), "proj.add") for n in range(scheduled))
    one = replace(ONE, settings={**SETTINGS, "task_acks_late": late}, prefetch=prefetch, scheduled=held)
    assert only(diagnosis.prefetch, with_workers(one)).level is level


@pytest.mark.parametrize(
    ("skew", "level"),
    [(0.0, Level.OK), (-0.9, Level.OK), (-1.5, Level.WARNING), (31.0, Level.ERROR), (None, Level.WARNING)],
)
def test_clocks_apart(skew: float | None, level: Level) -> None:
    found = only(diagnosis.clocks, with_workers(replace(ONE, skew=skew)))
    assert found.level is level
    assert ("behind" in found.says) is (skew == -1.5)
    assert ("unknown" in found.says) is (skew is None)


def test_versions() -> None:
    assert only(diagnosis.versions, WELL).level is Level.OK
    two = replace(ONE, name="two@host", version="5.5.0")
    assert only(diagnosis.versions, with_workers(ONE, two)).level is Level.WARNING
    exits = with_workers(replace(ONE, version="5.7.0"))
    assert only(diagnosis.versions, exits).level is Level.WARNING
    assert only(diagnosis.versions, replace(exits, transport="rabbitmq")).level is Level.OK


def test_task_events_off_unless_one_was_heard() -> None:
    off = one_with(worker_send_task_events=False)
    found = only(blindness.task_events, off)
    assert found.level is Level.WARNING
    assert "worker_send_task_events = True" in found.remedy
    assert "-E" in found.remedy
    heard = with_workers(replace(off.workers[ONE.name], sends_events=True))
    assert only(blindness.task_events, heard).level is Level.OK
    assert only(blindness.task_events, replace(WELL, deaf="NOPERM")).level is Level.ERROR


@pytest.mark.parametrize(
    ("check", "setting"),
    [
        (blindness.sent_events, "task_send_sent_event"),
        (blindness.track_started, "task_track_started"),
        (blindness.extended_results, "result_extended"),
    ],
)
def test_a_setting_that_is_off_comes_with_its_line_and_is_no_warning(check: Check, setting: str) -> None:
    found = only(check, one_with(**{setting: False}))
    assert (found.level, setting in found.says) == (Level.OK, True)
    assert f"{setting} = True" in found.remedy
    assert list(check(with_workers(replace(ONE, settings=None)))) == []


def test_the_application_counts_where_tasks_are_sent() -> None:
    own = {**SETTINGS, "task_send_sent_event": False, "task_track_started": False}
    assert "the application" in only(blindness.sent_events, replace(WELL, own=own)).says
    assert only(blindness.track_started, replace(WELL, own=own)).remedy == ""
    assert only(blindness.track_started, with_workers(own=own)).remedy != ""


@pytest.mark.parametrize(
    ("url", "word"), [(None, "None"), ("disabled://", "None"), ("rpc://", "rpc"), ("db+x://", "kept")]
)
def test_the_result_backend(url: str | None, word: str) -> None:
    found = only(blindness.result_backend, one_with(result_backend=url))
    assert word in found.says
    assert bool(found.remedy) is (word != "kept")


def test_answers_are_taken_apart_and_wrong_ones_are_none() -> None:
    text = ["proj.a [time_limit=30 soft_time_limit=20 acks_late=True]", "proj.b [acks_late=False]", "proj.c"]
    assert rules(text, [5, 0]) == {"proj.a": TaskRule(30.0, True), "proj.b": TaskRule(5.0), "proj.c": TaskRule(5.0)}
    assert rules(text[1:2], ()) == {"proj.b": TaskRule(None)}
    assert queue_keys([{"name": "q", "routing_key": "k"}, {"no": "name"}, 7]) == {"q": "k"}
    for wrong in (None, "text", {"error": "unknown"}):
        assert rules(wrong, None) is None
        assert queue_keys(wrong) is None
    assert settings_of([]) is None


def test_plans_of_an_application() -> None:
    app = Celery("plans", set_as_current=False, broker="memory://")

    @app.task(name="proj.a", time_limit=9)
    def _a() -> None: ...

    app.conf.update(
        task_routes={"proj.b": {"queue": "bs"}, "proj.*": "stars"},
        task_soft_time_limit=100,
        beat_schedule={
            "routed": {"task": "proj.b", "schedule": 1},
            "pattern": {"task": "proj.c", "schedule": 1},
            "option": {"task": "proj.b", "schedule": 1, "options": {"queue": "own"}},
            "plain": {"task": "other.d", "schedule": 1},
            "exchange": {"task": "other.d", "schedule": 1, "options": {"exchange": "x"}},
            "broken": {"schedule": 1},
        },
    )
    settings = own_settings(app)
    expected = {"routed": "bs", "pattern": "stars", "option": "own", "plain": "celery", "exchange": None}
    assert {one.name: one.queue for one in beat_entries(settings, app)} == expected
    # As a worker answers, the default is not known: a task may have a queue of its own.
    assert {one.name: one.queue for one in beat_entries(settings, None)} == {**expected, "plain": None}
    assert own_rules(app)["proj.a"] == TaskRule(9.0)
    assert own_rules(app)["celery.chord"].limit == 100.0


def test_routes_as_they_may_be_written() -> None:
    routes = ["proj.routers.Router", ("proj.a", {"queue": "one"}), {"proj.b": "two"}, [("proj.c", {"queue": "three"})]]
    assert dict(routed_queues(routes)) == {"proj.a": "one", "proj.b": "two", "proj.c": "three"}
    assert list(routed_queues(("proj.routers.A", "proj.routers.B"))) == []
    assert list(routed_queues(None)) == []
