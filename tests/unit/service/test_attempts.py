"""Decisions about ended attempts, retries and submissions, on a clock and draws of the test's choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.model.actor import PERMISSIONS, Actor, Role
from headway.model.commands import Begun, Finish, SubmitJob
from headway.model.errors import (
    BadArguments,
    Forbidden,
    InvalidRequest,
    NotSerializable,
    PayloadTooLarge,
    UnknownTask,
)
from headway.model.job import Backoff, ErrorInfo
from headway.model.states import AttemptOutcome, JobState, Verb
from headway.ports.catalog import TaskInfo
from headway.service import (
    Context,
    Limits,
    StoreJobDoor,
    count_jobs,
    delete_session,
    enqueue_due,
    get_job,
    list_attempts,
    save_session,
    submit_batch,
    submit_job,
)
from headway.service.attempts import decide, error_json
from headway.service.verbs import verb
from headway.testing import FakeClock, SeqIds, check_invariants
from tests.unit.store.house import House, open_house

FACTS = {"host": "h", "pid": 1, "slots": 1, "version": "0"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(tmp_path: Path, clock: FakeClock) -> Iterator[House]:
    made = open_house(tmp_path, clock=clock, ids=SeqIds((0.5,)), limits=Limits(max_payload_bytes=1_000, max_attempts=5))
    made.store.write(lambda tx: tx.register_worker("w", FACTS))
    yield made
    made.store.close()


@pytest.fixture
def door(house: House) -> StoreJobDoor:
    return StoreJobDoor(house.ctx, "w")


def failing(begun: Begun, **fields: Any) -> Finish:
    return Finish(
        begun.job_id, begun.fence, AttemptOutcome.FAILED, error=ErrorInfo("boom", "no"), begun=begun, **fields
    )


def test_backoff_grows_is_capped_and_jittered(house: House, door: StoreJobDoor, clock: FakeClock) -> None:
    backoff = Backoff("exponential", base_seconds=10, cap_seconds=35, jitter=0.4)
    job = house.submit(max_retries=4, backoff=backoff)
    for pause in (8.0, 16.0, 28.0, 28.0):  # 10, 20, 35, 35 less 0.4 x 0.5
        (begun,) = door.begin(1)
        door.finish(failing(begun))
        waiting = get_job(house.ctx, job.id)
        assert waiting.state is JobState.RETRY_SCHEDULED
        assert waiting.run_at == clock.now() + round(pause * 1_000_000)
        clock.advance(pause - 0.001)
        assert enqueue_due(house.ctx).queued == 0
        clock.advance(0.001)
        assert enqueue_due(house.ctx).queued == 1
    (begun,) = door.begin(1)
    assert door.finish(failing(begun)).state is JobState.FAILED
    check_invariants(house.store)


@pytest.mark.parametrize(("kind", "expected"), [("none", 0.0), ("fixed", 10.0)])
def test_other_backoffs(house: House, door: StoreJobDoor, clock: FakeClock, kind: str, expected: float) -> None:
    job = house.submit(max_retries=1, backoff=Backoff(kind, base_seconds=10))
    (begun,) = door.begin(1)
    door.finish(failing(begun))
    assert get_job(house.ctx, job.id).run_at == clock.now() + round(expected * 1_000_000)


def test_a_retry_number_beyond_floats_is_capped() -> None:
    assert Backoff("exponential", 1.0, 600.0).pause(10_000, 0.0) == 600.0


@pytest.mark.parametrize(
    ("outcome", "fields", "expected"),
    [
        (AttemptOutcome.SUCCEEDED, {}, Verb.SUCCEED),
        (AttemptOutcome.IGNORED, {}, Verb.SUCCEED),
        (AttemptOutcome.FAILED, {}, Verb.FAIL),
        (AttemptOutcome.TIMEOUT, {}, Verb.TIME_OUT),
        (AttemptOutcome.CANCELLED, {}, Verb.STOP),
        (AttemptOutcome.INTERRUPTED, {}, Verb.INTERRUPT),
        (AttemptOutcome.REJECTED, {}, Verb.FAIL),
        (AttemptOutcome.REJECTED, {"requeue": True}, Verb.REQUEUE),
        (AttemptOutcome.RETRIED, {}, Verb.FAIL),
    ],
)
def test_what_an_outcome_means(house: House, outcome: AttemptOutcome, fields: dict[str, Any], expected: Verb) -> None:
    assert decide(house.ctx, Finish("x", 1, outcome, **fields), 0, None).verb is expected


def test_long_errors_are_cut_where_they_say_least() -> None:
    text = error_json(ErrorInfo("c", "m" * 20_000, traceback="first" + "t" * 60_000 + "last"))
    assert text is not None
    assert len(text) < 61_000
    assert text.rstrip('"}').endswith("last")
    assert "first" not in text
    assert error_json(None) is None


def test_ignored_ends_succeeded(house: House, door: StoreJobDoor) -> None:
    job = house.submit()
    (begun,) = door.begin(1)
    assert door.finish(Finish(job.id, 1, AttemptOutcome.IGNORED, begun=begun)).state is JobState.SUCCEEDED
    assert list_attempts(house.ctx, job.id)[0].outcome is AttemptOutcome.IGNORED
    check_invariants(house.store)


# Submitting


class Catalog:
    def lookup(self, name: str) -> TaskInfo | None:
        known = {
            "app.plain": TaskInfo("app.plain"),
            "app.own": TaskInfo("app.own", "slow", None, 7.0, 2, Backoff("fixed", 3.0), "process"),
        }
        return known.get(name)

    def names(self) -> list[str]:
        return ["app.own", "app.plain"]

    def check_arguments(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        if len(args) > 2:
            raise BadArguments("too many")


@pytest.fixture
def ctx(house: House) -> Context:
    return replace(house.ctx, services=replace(house.services, catalog=Catalog()))


def test_a_task_s_own_settings_stand_behind_the_caller_s(ctx: Context) -> None:
    own = submit_job(ctx, SubmitJob("app.own"))
    assert (own.queue, own.timeout_seconds, own.max_retries, own.isolation) == ("slow", 7.0, 2, "process")
    assert own.backoff == Backoff("fixed", 3.0)
    asked = submit_job(ctx, SubmitJob("app.own", queue="q", timeout_seconds=0, max_retries=0, isolation="thread"))
    assert (asked.queue, asked.timeout_seconds, asked.max_retries, asked.isolation) == ("q", None, 0, "thread")
    plain = submit_job(ctx, SubmitJob("app.plain"))
    assert (plain.queue, plain.timeout_seconds, plain.max_retries, plain.isolation) == ("celery", None, 0, "thread")


def test_an_unknown_task_names_those_that_are_near(ctx: Context) -> None:
    with pytest.raises(UnknownTask, match=r"Did you mean app\.plain") as caught:
        submit_job(ctx, SubmitJob("app.plane"))
    assert caught.value.details["near"] == ["app.plain", "app.own"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"args": [1, 2, 3]}, BadArguments),
        ({"args": ["x" * 1_001]}, PayloadTooLarge),
        ({"args": [object()]}, NotSerializable),
        ({"args": [float("nan")]}, NotSerializable),
        ({"priority": 10}, InvalidRequest),
        ({"timeout_seconds": -1.0}, InvalidRequest),
        ({"timeout_seconds": float("inf")}, InvalidRequest),
        ({"max_retries": -1}, InvalidRequest),
        ({"isolation": "vm"}, InvalidRequest),
        ({"queue": ""}, InvalidRequest),
        ({"job_id": "x" * 256}, InvalidRequest),
        ({"job_id": "a\nb"}, InvalidRequest),
        ({"idempotency_key": "k" * 256}, InvalidRequest),
        ({"backoff": Backoff("linear")}, InvalidRequest),
        ({"backoff": Backoff("fixed", -1.0)}, InvalidRequest),
        ({"backoff": Backoff("fixed", jitter=2.0)}, InvalidRequest),
        ({"labels": {"": "x"}}, InvalidRequest),
        ({"labels": {f"k{i}": "v" for i in range(33)}}, InvalidRequest),
    ],
    # Not the values: an object's address is another one in each process of the run.
    ids=[f"case{number}" for number in range(18)],
)
def test_what_is_wrong_is_refused_before_anything_is_stored(
    ctx: Context, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        submit_job(ctx, SubmitJob("app.plain", **fields))
    with pytest.raises(error):
        submit_batch(ctx, [SubmitJob("app.plain"), SubmitJob("app.plain", **fields)])
    assert sum(count_jobs(ctx).values()) == 0


def test_a_batch_says_which_job_is_wrong(ctx: Context) -> None:
    with pytest.raises(InvalidRequest) as caught:
        submit_batch(ctx, [SubmitJob("app.plain"), SubmitJob("app.plain", priority=77)])
    assert caught.value.details["index"] == 1
    for commands in ([], [SubmitJob("app.plain")] * 10_001):
        with pytest.raises(InvalidRequest, match="in a batch"):
            submit_batch(ctx, commands)


def test_the_same_request_in_another_order_is_the_same(ctx: Context) -> None:
    one = submit_job(ctx, SubmitJob("app.plain", kwargs={"a": 1, "b": 2}, idempotency_key="k"))
    two = submit_job(ctx, SubmitJob("app.plain", kwargs={"b": 2, "a": 1}, idempotency_key="k"))
    assert one.id == two.id


def test_a_trace_is_carried_and_made_where_there_is_none(ctx: Context) -> None:
    given = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert submit_job(replace(ctx, traceparent=given), SubmitJob("app.plain")).traceparent == given
    made = submit_job(replace(ctx, traceparent="nonsense"), SubmitJob("app.plain"))
    assert made.traceparent is not None
    assert made.traceparent.split("-")[1] == made.id.replace("-", "")
    odd = submit_job(ctx, SubmitJob("app.plain", job_id="my own id"))
    assert odd.traceparent is not None
    assert len(odd.traceparent) == 55


# The door of the verbs


def as_role(house: House, role: Role) -> Context:
    return replace(house.ctx, actor=Actor("somebody", role))


def test_roles(house: House) -> None:
    viewer, operator = as_role(house, Role.VIEWER), as_role(house, Role.OPERATOR)
    with pytest.raises(Forbidden, match="submit_job needs operator"):
        submit_job(viewer, SubmitJob("app.task"))
    job = submit_job(operator, SubmitJob("app.task"))
    assert job.actor == "somebody"
    assert get_job(viewer, job.id) == job
    save_session(operator, "s", "k", {}, 0)
    with pytest.raises(Forbidden, match="delete_session needs admin"):
        delete_session(operator, "s")
    delete_session(as_role(house, Role.ADMIN), "s")


def test_every_verb_of_the_door_is_in_the_table_of_permissions() -> None:
    with pytest.raises(KeyError):

        @verb
        def not_in_the_table(ctx: Context) -> None:
            """Never behind the door."""

    from headway import service

    behind = {name for name in service.__all__ if hasattr(getattr(service, name), "__wrapped__")}
    assert behind == set(PERMISSIONS)
