"""What arrives, taken apart: Celery 5.6.3's own messages, and whatever else somebody may publish."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.model.evidence import Evidence
from headway.model.observed import ObservedWorker
from headway.model.sayings import EVENTS, Said
from headway.observe.parse import Malformed, Parser, Privacy, events_of
from tests.observations import NOW, SECOND
from tests.unit.observe.messages import ID, TASK_EVENTS, WORKER_EVENTS, request_of, result_of

AT = 1_763_800_000.25
AT_MICROSECONDS = 1_763_800_000_250_000
KEPT = Parser(Privacy())


def event(kind: str, **changes: Any) -> dict[str, Any]:
    """An event as Celery sends it, with changes; a change to ``...`` leaves the key out."""
    made = {**TASK_EVENTS, **WORKER_EVENTS}[kind] | {"type": kind, "timestamp": AT} | changes
    return {key: value for key, value in made.items() if value is not ...}


def evidence(kind: str, **changes: Any) -> Evidence:
    found = KEPT.event(event(kind, **changes), NOW)
    assert isinstance(found, Evidence)
    return found


def worker(kind: str = "worker-heartbeat", **changes: Any) -> ObservedWorker:
    found = KEPT.event(event(kind, **changes), NOW)
    assert isinstance(found, ObservedWorker)
    return found


# Events as they are


@pytest.mark.parametrize("kind", TASK_EVENTS)
def test_every_event_of_a_task_says_who_when_and_what(kind: str) -> None:
    found = evidence(kind)
    assert (found.task_id, found.said, found.at) == (ID, EVENTS[kind], AT_MICROSECONDS)
    assert found.worker == ("gen77@client" if kind == "task-sent" else "one@host")


def test_a_task_is_not_its_own_parent() -> None:
    """So Celery sends the retry of one that nobody called."""
    assert "parent_id" not in evidence("task-sent", parent_id=ID).facts
    assert evidence("task-sent", parent_id="up").facts["parent_id"] == "up"


def test_a_sent_task_says_what_it_is() -> None:
    facts = evidence("task-sent").facts
    assert facts == {
        "name": "app.tasks.add",
        "args": "(1, 2)",
        "kwargs": "{}",
        "root_id": ID,
        "queue": "celery",
        "retries": 0,
        "eta": 1_763_800_100_000_000,
        "expires": 1_763_803_600_000_000,
    }


def test_a_received_task_says_what_it_is() -> None:
    facts = evidence("task-received", retries=2, parent_id="parent").facts
    assert (facts["name"], facts["retries"], facts["parent_id"], facts["root_id"]) == ("app.tasks.add", 2, "parent", ID)
    assert "eta" not in facts


def test_an_end_says_how_it_was() -> None:
    assert evidence("task-succeeded").facts == {"runtime": 0.125, "result": "3"}
    failed = evidence("task-failed").facts
    assert (failed["error"], failed["traceback"]) == ("ValueError('no')", "Traceback …\nValueError: no\n")
    assert evidence("task-retried").facts["error"] == "ValueError('again')"
    assert evidence("task-failed", exception=...).facts["error"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"expired": True}, "expired before it was begun"),
        ({"terminated": True, "signum": "15"}, "terminated while it ran (signal 15)"),
        ({}, None),
    ],
)
def test_a_revoked_task_says_why(changes: dict[str, Any], why: str | None) -> None:
    assert evidence("task-revoked", **changes).facts["error"] == why


def test_a_rejected_task_that_goes_back_to_its_queue_is_requeued() -> None:
    assert evidence("task-rejected", requeue=True).said is Said.REQUEUED
    assert evidence("task-rejected", requeue=False).said is Said.REJECTED


def test_a_heartbeat_says_how_a_worker_is() -> None:
    found = worker()
    assert (found.hostname, found.seen_at, found.heartbeat_at, found.offline_at) == (
        "one@host",
        NOW,
        AT_MICROSECONDS,
        None,
    )
    assert found.facts == {
        "active": 1,
        "processed": 27,
        "pid": 4242,
        "freq": 2.0,
        "ident": "py-celery",
        "version": "5.6.3",
        "system": "Linux",
        "loadavg": [0.5, 0.25, 0.1],
        "clock_skew_seconds": round((AT_MICROSECONDS - NOW) / SECOND, 3),
    }
    assert worker("worker-offline").offline_at == NOW
    assert worker("worker-online").offline_at is None


def test_other_events_say_nothing_and_several_may_come_at_once() -> None:
    assert KEPT.event({"type": "custom-thing", "timestamp": AT}, NOW) is None
    assert list(events_of([1, 2])) == [1, 2]
    assert list(events_of({"type": "x"})) == [{"type": "x"}]


# Events as they should not be


@pytest.mark.parametrize("body", [None, 1, "task-sent", [], {}, {"type": None}, {"type": ["task-sent"]}])
def test_what_is_no_event_is_malformed(body: object) -> None:
    with pytest.raises(Malformed):
        KEPT.event(body, NOW)


NO_TIMES: tuple[Any, ...] = (
    ...,
    None,
    "1",
    True,
    [],
    float("nan"),
    float("inf"),
    -1,
    -1e400,
    1e20,
    10**400,
    -(10**400),
)


@pytest.mark.parametrize("value", NO_TIMES)
@pytest.mark.parametrize("kind", ["task-succeeded", "worker-heartbeat"])
def test_without_a_time_an_event_is_malformed(kind: str, value: object) -> None:
    with pytest.raises(Malformed):
        KEPT.event(event(kind, timestamp=value), NOW)


@pytest.mark.parametrize("value", [..., None, 7, "", [], {}, "x" * 256, "a\x00b", "\ud800", True])
def test_without_an_id_an_event_is_malformed(value: object) -> None:
    with pytest.raises(Malformed):
        KEPT.event(event("task-started", uuid=value), NOW)


@pytest.mark.parametrize("value", [..., None, 7, "", "x" * 256])
def test_without_a_name_a_worker_is_malformed(value: object) -> None:
    with pytest.raises(Malformed):
        KEPT.event(event("worker-heartbeat", hostname=value), NOW)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: tuple[Any, ...] = (
    None, True, -1, 10**400, -(10**400), 1e308, float("nan"), float("-inf"), "", "\x00", "\ud83d", "x" * 100_000,
    [], {}, [None] * 1000, {"a": {"b": "\x00"}}, nested(50), nested(100_000), "2026-99-99", "9" * 50, b"\xff",
)  # fmt: skip
FIELDS = (
    "name", "args", "kwargs", "root_id", "parent_id", "queue", "retries", "eta", "expires", "hostname", "result",
    "runtime", "exception", "traceback", "terminated", "expired", "signum", "requeue", "active", "processed", "pid",
    "freq", "sw_ident", "sw_ver", "sw_sys", "loadavg",
)  # fmt: skip


def assert_storable(facts: dict[str, Any]) -> None:
    """No database and no JSON refuses it, and it is bounded."""
    text = json.dumps(facts, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()
    assert len(text) < 60_000
    for name in ("retries", "eta", "expires"):
        assert type(facts.get(name)) in (int, type(None))
    for name in ("name", "queue", "root_id", "parent_id"):
        assert len(facts.get(name) or "") <= 255


@pytest.mark.parametrize("kind", [*TASK_EVENTS, *WORKER_EVENTS])
def test_a_hostile_value_in_any_field_is_left_out_made_clean_or_refused(kind: str) -> None:
    for name in FIELDS:
        for value in HOSTILE:
            try:
                found = KEPT.event(event(kind, **{name: value}), NOW)
            except Malformed:
                continue
            assert isinstance(found, Evidence | ObservedWorker)
            assert_storable(dict(found.facts))
            who = found.worker if isinstance(found, Evidence) else found.hostname
            assert_storable({"who": who})
            assert len(who) <= 255


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from([*TASK_EVENTS, *WORKER_EVENTS]), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_an_event_holds_is_clean_or_malformed(kind: str, changes: dict[str, Any]) -> None:
    try:
        found = KEPT.event(event(kind, **changes), NOW)
    except Malformed:
        return
    assert found is not None
    assert_storable(dict(found.facts))


# Secrets and lengths


@pytest.mark.parametrize(
    ("kind", "field", "key", "value"),
    [
        ("task-received", "kwargs", "kwargs", "{'password': 'hunter2', 'n': 1}"),
        ("task-sent", "args", "args", "('redis://user:hunter2@h/0',)"),
        ("task-succeeded", "result", "result", "{'token': 'hunter2'}"),
        ("task-failed", "exception", "error", "ConnectionError('api_key=hunter2')"),
        ("task-failed", "traceback", "traceback", "  connect(secret='hunter2')\n"),
        ("task-retried", "exception", "error", "OSError('Authorization: Bearer hunter2hunter2')"),
    ],
)
def test_a_secret_is_masked_before_it_is_kept(kind: str, field: str, key: str, value: str) -> None:
    shown = evidence(kind, **{field: value}).facts[key]
    assert "hunter2" not in shown
    assert "***" in shown


def test_a_long_argument_is_cut_and_a_secret_at_the_cut_is_masked() -> None:
    shown = evidence("task-received", args="(" + "x" * 2_000 + ")").facts["args"]
    assert (len(shown), shown[-1]) == (1024, "…")
    at_the_cut = "x" * 1_005 + " password='hunter2hunter2hunter2'"
    assert "hunter" not in evidence("task-received", args=at_the_cut).facts["args"]


def test_arguments_that_are_not_text_are_shown_as_python_shows_them() -> None:
    facts = evidence("task-received", args=[1, "a"], kwargs={"b": None}).facts
    assert (facts["args"], facts["kwargs"]) == ("[1, 'a']", "{'b': None}")


def test_without_arguments_nothing_of_them_is_kept_but_all_else_is() -> None:
    parser = Parser(Privacy(arguments=False))
    received = parser.event(event("task-received", args="(1,)", kwargs="{'a': 1}"), NOW)
    succeeded = parser.event(event("task-succeeded"), NOW)
    found = parser.result(result_of("SUCCESS", result=3, args="[1]"))
    assert isinstance(received, Evidence)
    assert isinstance(succeeded, Evidence)
    for one in (received, succeeded, found):
        assert not {"args", "kwargs", "result"} & set(one.facts)
    assert received.facts["name"] == "app.tasks.add"
    assert succeeded.facts == {"runtime": 0.125}


# Workers that are asked


def test_a_running_request_says_since_when() -> None:
    found = KEPT.request(Said.SEEN_RUNNING, request_of(), "one@host")
    assert (found.task_id, found.worker, found.at) == (ID, "one@host", AT_MICROSECONDS)
    assert (found.facts["name"], found.facts["queue"], found.facts["args"]) == ("app.tasks.add", "celery", "[1, 2]")
    assert found.facts["retries"] == 1


def test_a_waiting_request_says_no_time_and_a_scheduled_one_its_eta() -> None:
    waiting = KEPT.request(Said.SEEN_WAITING, request_of(time_start=None), "one@host")
    assert (waiting.at, "eta" in waiting.facts) == (0, False)
    scheduled = {"eta": "2025-11-22T08:28:20+00:00", "priority": 6, "request": request_of(time_start=None)}
    found = KEPT.request(Said.SEEN_WAITING, scheduled, "one@host")
    assert (found.task_id, found.facts["eta"], found.facts["name"]) == (ID, 1_763_800_100_000_000, "app.tasks.add")


@pytest.mark.parametrize("request_", [None, [], {}, {"id": 5}, {"id": ""}, {"request": {"name": "x"}}])
def test_a_request_without_an_id_is_malformed(request_: object) -> None:
    with pytest.raises(Malformed):
        KEPT.request(Said.SEEN_RUNNING, request_, "one@host")


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_in_a_request_is_clean_or_malformed(value: object) -> None:
    for name in ("name", "type", "args", "kwargs", "time_start", "delivery_info", "hostname", "eta", "retries"):
        try:
            found = KEPT.request(Said.SEEN_RUNNING, request_of(**{name: value}), "one@host")
        except Malformed:
            continue
        assert_storable(dict(found.facts))


# The result backend


@pytest.mark.parametrize(
    ("date_done", "at"),
    [
        ("2025-11-22T08:26:40.250000", AT_MICROSECONDS),
        ("2025-11-22T08:26:40.250000+00:00", AT_MICROSECONDS),
        ("2025-11-22T09:26:40.250000+01:00", AT_MICROSECONDS),
        (None, 0),
        ("yesterday", 0),
        (5, 0),
    ],
)
def test_a_result_says_when_it_was_done(date_done: object, at: int) -> None:
    assert KEPT.result(result_of("SUCCESS", result=3, date_done=date_done)).at == at


def test_a_success_and_a_failure_of_the_backend() -> None:
    found = KEPT.result(result_of("SUCCESS", result={"sum": 3}))
    assert (found.said, found.facts["result"], found.worker) == (Said.RESULT_SUCCESS, "{'sum': 3}", "")
    raised = {"exc_type": "ValueError", "exc_message": ["no", 3], "exc_module": "builtins"}
    failed = KEPT.result(result_of("FAILURE", result=raised, traceback="lines"))
    assert (failed.said, failed.facts["error"], failed.facts["traceback"]) == (
        Said.RESULT_FAILURE,
        "ValueError('no', 3)",
        "lines",
    )
    assert KEPT.result(result_of("FAILURE", result=KeyError("k"))).facts["error"] == "KeyError('k')"
    assert KEPT.result(result_of("REVOKED", result=None)).facts["error"]


def test_an_extended_result_says_which_task_it_is_of() -> None:
    found = KEPT.result(
        result_of(
            "SUCCESS",
            result=3,
            name="app.tasks.add",
            args=[1, 2],
            kwargs={},
            worker="one@host",
            retries=1,
            queue="celery",
        )
    )
    assert (found.worker, found.facts["name"], found.facts["args"], found.facts["retries"], found.facts["queue"]) == (
        "one@host",
        "app.tasks.add",
        "[1, 2]",
        1,
        "celery",
    )


def test_a_state_of_the_applications_own_means_that_it_runs() -> None:
    assert KEPT.result(result_of("PROGRESS", result={"done": 5})).said is Said.RESULT_STARTED


@pytest.mark.parametrize(
    "meta", [None, [], {}, {"status": 5}, {"status": "SUCCESS"}, {"status": "SUCCESS", "task_id": 5}]
)
def test_what_is_no_result_is_malformed(meta: object) -> None:
    with pytest.raises(Malformed):
        KEPT.result(meta)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_in_a_result_is_clean_or_malformed(value: object) -> None:
    for status in ("SUCCESS", "FAILURE"):
        for name in ("result", "traceback", "date_done", "worker", "parent_id", "name", "args", "queue", "retries"):
            found = KEPT.result(result_of(status, **{name: value}))
            assert_storable(dict(found.facts))
            assert_storable({"worker": found.worker})
