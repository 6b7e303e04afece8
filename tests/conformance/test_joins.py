"""Joins over SQLite and Postgres: each part counts once, whoever ends it, and what waits is told in that transaction."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headway.model.canvas import awaits_send, results_of
from headway.model.commands import Begun, Finish, NewJoin, Resend, SubmitJob
from headway.model.errors import InvalidRequest, JobIdTaken, TransitionConflict
from headway.model.job import ErrorInfo, Job
from headway.model.states import AttemptOutcome, JobState
from headway.service import cancel_job, enqueue_due, read_workflow, rerun_job, rescue_lapsed, run_retention
from headway.service.door import StoreJobDoor
from headway.service.submission import job_row
from headway.testing.clock import FakeClock
from headway.testing.invariants import InvariantBroken, check_invariants
from tests.conformance.conftest import Database, House, build_house, succeed

BODY = "body"
BOOM = ErrorInfo(code="task_failed", message="boom", exc_type="ValueError", traceback="long")


def part(number: int, join: str = "g", **fields: Any) -> SubmitJob:
    """The command of one part of a header."""
    canvas = {"group": join, "group_index": number, "chord": {"task": "t"}}
    return SubmitJob(
        "app.part", [number], job_id=f"{join}-{number}", group_id=join, join_id=join, canvas=canvas, **fields
    )


def body(join: str = "g", **fields: Any) -> SubmitJob:
    """The command of what waits for a header."""
    fields = {"job_id": BODY, "args": [results_of(join), "own"]} | fields
    return SubmitJob("app.body", waits_for=join, **fields)


def send(house: House, size: int = 3, *more: SubmitJob, shape: list[Any] | None = None) -> list[str]:
    """Send a chord of plain parts."""
    commands = [*(part(number) for number in range(size)), body(), *more]
    return house.door("w").submit_many(commands, [NewJoin("g", size, shape)])


def begin_all(door: StoreJobDoor) -> dict[str, Begun]:
    """Begin what may begin, by id."""
    return {one.job_id: one for one in door.begin(100)}


def fail(begun: Begun, error: ErrorInfo = BOOM) -> Finish:
    """The finish of an attempt that failed."""
    return Finish(begun.job_id, begun.fence, AttemptOutcome.FAILED, error=error, begun=begun)


def job(house: House, job_id: str = BODY) -> Job:
    """A job as it is now."""
    found = house.store.read(lambda reader: reader.get(job_id))
    assert found is not None
    return found


def broken_by(door: StoreJobDoor) -> dict[str, Any]:
    """Why the body may not run, as its attempt is told."""
    begun = begin_all(door)[BODY]
    assert begun.canvas_json is not None
    found: dict[str, Any] = json.loads(begun.canvas_json)["broken"]
    return found


def test_the_body_waits_for_every_part_and_gets_the_results_in_order(house: House) -> None:
    door = house.door("w")
    send(house)
    begun = begin_all(door)
    assert set(begun) == {"g-0", "g-1", "g-2"}
    for number in (2, 0):
        succeed(door, begun[f"g-{number}"], str(number * 10))
        waiting = job(house)
        assert (waiting.state, waiting.waits_for, waiting.run_at) == (JobState.SCHEDULED, "g", None)
        assert enqueue_due(house.ctx).queued == 0
    succeed(door, begun["g-1"], '{"ten": "\\u00e4"}')
    ready = job(house)
    assert (ready.state, ready.waits_for, ready.parent_id) == (JobState.QUEUED, None, "g-1")
    assert ready.args == [[0, {"ten": "ä"}, 20], "own"]
    assert json.loads(begin_all(door)[BODY].args_json) == ready.args
    check_invariants(house.store)


def test_a_part_that_ran_twice_counts_once(house: House) -> None:
    first, second = house.door("w1"), house.door("w2")
    send(house, 2)
    lost = begin_all(first)
    rescue_lapsed(house.ctx, silent_for=None)
    again = begin_all(second)
    # The first of the two attempts to report is superseded, the second is said twice.
    assert first.finish(Finish("g-0", lost["g-0"].fence, AttemptOutcome.SUCCEEDED, result_json='"old"')).refused
    for _ in range(2):
        assert succeed(second, again["g-0"], '"new"').state is JobState.SUCCEEDED
    assert job(house).state is JobState.SCHEDULED
    succeed(second, again["g-1"])
    assert job(house).args == [["new", 1], "own"]
    check_invariants(house.store)


def test_a_send_that_is_repeated_is_the_same_chord(house: House) -> None:
    door = house.door("w")
    assert send(house) == send(house)
    begun = begin_all(door)
    assert len(begun) == 3
    for one in begun.values():
        succeed(door, one)
    assert send(house)
    assert job(house).state is JobState.QUEUED
    assert len(begin_all(door)) == 1
    check_invariants(house.store)


def test_a_part_of_one_chord_is_not_taken_for_a_part_of_another(house: House) -> None:
    door = house.door("w")
    send(house, 1)
    succeed(door, begin_all(door)["g-0"])
    again = replace(part(0, "other"), job_id="g-0")
    with pytest.raises(JobIdTaken):
        door.submit_many([again, body("other", job_id="other-body")], [NewJoin("other", 1)])
    assert house.store.read(lambda reader: reader.get("other-body")) is None
    check_invariants(house.store)


@pytest.mark.parametrize("ended", [False, True])
def test_a_send_of_the_same_id_with_other_consequences_is_refused(house: House, ended: bool) -> None:
    door = house.door("w")
    follows = {"callbacks": [{"task": "app.next"}], "chain": [{"task": "app.last", "options": {"task_id": "last"}}]}
    one = SubmitJob("app.task", [1], job_id="one", canvas=follows)
    door.submit_many([one])
    if ended:
        succeed(door, begin_all(door)["one"])
    assert door.submit_many([one]) == ["one"]
    # What says nothing of what follows may differ: who sent it, say.
    assert door.submit_many([replace(one, canvas={**follows, "origin": "another"})]) == ["one"]
    for canvas in (None, {**follows, "errbacks": [{"task": "app.late"}]}, {**follows, "chain": []}):
        with pytest.raises(JobIdTaken):
            door.submit_many([replace(one, canvas=canvas)])
    with pytest.raises(JobIdTaken):
        door.submit_many([replace(one, waits_for="g"), part(0)], [NewJoin("g", 1)])
    assert house.store.read(lambda reader: reader.get("g-0")) is None
    check_invariants(house.store)


def test_a_part_that_fails_breaks_the_join_when_all_have_ended(house: House) -> None:
    door = house.door("w")
    send(house)
    begun = begin_all(door)
    door.finish(fail(begun["g-1"]))
    succeed(door, begun["g-0"])
    assert job(house).state is JobState.SCHEDULED
    succeed(door, begun["g-2"])
    found = broken_by(door)
    assert found["job_id"] == "g-1"
    assert found["error"] == {"code": "task_failed", "message": "boom", "exc_type": "ValueError"}
    check_invariants(house.store)


def test_a_part_that_its_own_rule_retries_has_not_ended(house: House) -> None:
    door = house.door("w")
    door.submit_many([part(0, max_retries=1), body()], [NewJoin("g", 1)])
    door.finish(fail(begin_all(door)["g-0"]))
    assert job(house).state is JobState.SCHEDULED
    enqueue_due(house.ctx)
    succeed(door, begin_all(door)["g-0"], '"second"')
    assert job(house).args == [["second"], "own"]
    check_invariants(house.store)


def _cancel(house: House, begun: Begun | None) -> None:
    cancel_job(house.ctx, "g-0")


def _stop(house: House, begun: Begun | None) -> None:
    assert begun is not None
    cancel_job(house.ctx, "g-0")
    house.door("w").finish(Finish("g-0", begun.fence, AttemptOutcome.CANCELLED, begun=begun))


def _time_out(house: House, begun: Begun | None) -> None:
    assert begun is not None
    house.door("w").finish(Finish("g-0", begun.fence, AttemptOutcome.TIMEOUT, begun=begun))


def _lose(house: House, begun: Begun | None) -> None:
    for _ in range(house.services.limits.max_rescues + 1):
        rescue_lapsed(house.ctx, silent_for=None)
        begin_all(house.door("w"))


@pytest.mark.parametrize(
    ("end", "runs", "code"),
    [
        (_cancel, False, "cancelled"),
        (_stop, True, "cancelled"),
        (_time_out, True, "timeout"),
        (_lose, True, "worker_lost"),
    ],
    ids=["cancelled before its start", "stopped", "timed out", "lost"],
)
def test_whoever_ends_a_part_it_is_counted(
    house: House, end: Callable[[House, Begun | None], None], runs: bool, code: str
) -> None:
    door = house.door("w")
    door.submit_many([part(0), body()], [NewJoin("g", 1)])
    end(house, begin_all(door)["g-0"] if runs else None)
    queued = job(house)
    if queued.state is JobState.QUEUED:
        assert broken_by(door)["error"]["code"] == code
    else:
        # Whoever lost it took the body up with the next jobs.
        assert queued.state is JobState.RUNNING
    check_invariants(house.store)


def test_a_part_that_expires_is_counted(house: House) -> None:
    door = house.door("w")
    now = house.services.clock.now()
    door.submit_many([part(0, expires_at=now + 1), body()], [NewJoin("g", 1)])
    assert enqueue_due(house.ctx).expired == 1
    assert broken_by(door)["error"]["code"] == "expired"
    check_invariants(house.store)


def test_a_body_that_is_cancelled_while_it_waits_never_starts(house: House) -> None:
    door = house.door("w")
    send(house, 1)
    assert cancel_job(house.ctx, BODY).state is JobState.CANCELLED
    succeed(door, begin_all(door)["g-0"])
    assert job(house).state is JobState.CANCELLED
    assert begin_all(door) == {}
    with pytest.raises(TransitionConflict, match="never got the results"):
        rerun_job(house.ctx, BODY)
    check_invariants(house.store)


def test_the_body_of_a_chord_counts_for_the_chord_around_it(house: House) -> None:
    door = house.door("w")
    inner_body = body("inner", job_id="inner-body", group_id="g", join_id="g", canvas={"group": "g", "group_index": 0})
    commands = [part(0, "inner"), part(1, "inner"), inner_body, part(1), body()]
    door.submit_many(commands, [NewJoin("inner", 2), NewJoin("g", 2)])
    for one in begin_all(door).values():
        succeed(door, one)
    assert job(house).state is JobState.SCHEDULED
    succeed(door, begin_all(door)["inner-body"], '"inner"')
    assert job(house).args == [["inner", 1], "own"]
    check_invariants(house.store)


def test_a_shape_nests_the_results(house: House) -> None:
    door = house.door("w")
    send(house, 3, shape=[["g-2", ["g-0"]], "g-1", []])
    for number, one in enumerate(sorted(begin_all(door).values(), key=lambda one: one.job_id)):
        succeed(door, one, str(number))
    assert job(house).args == [[[2, [0]], 1, []], "own"]


def test_results_that_are_large_or_not_kept_reach_the_body(house: House) -> None:
    door = house.door("w")
    send(house, 3)
    begun = begin_all(door)
    large = json.dumps("x" * 200_000)
    succeed(door, begun["g-0"], large)
    kept_nowhere = Finish("g-1", 1, AttemptOutcome.SUCCEEDED, begun=begun["g-1"], part_json='"ignored"')
    door.finish(kept_nowhere)
    door.finish(Finish("g-2", 1, AttemptOutcome.IGNORED, begun=begun["g-2"]))
    assert json.loads(begin_all(door)[BODY].args_json) == [["x" * 200_000, "ignored", None], "own"]
    assert door.result_json("g-1") == "null"


def test_a_result_that_was_removed_before_the_join_breaks_it(house: House) -> None:
    door = house.door("w")
    send(house, 2)
    begun = begin_all(door)
    succeed(door, begun["g-0"])
    door.forget("g-0")
    succeed(door, begun["g-1"])
    assert broken_by(door) == {
        "job_id": "g-0", "error": {"code": "result_gone", "message": "its result was removed"},
    }  # fmt: skip


def test_what_a_failed_step_would_have_sent_counts_as_failed(house: House) -> None:
    door = house.door("w")

    def signature(job_id: str, index: int) -> dict[str, Any]:
        options = {"task_id": job_id, "group_id": "g", "group_index": index, "chord": {"task": "t"}}
        return {"task": "app.tail", "args": [], "kwargs": {}, "options": options, "subtask_type": None}

    inner = {"task": "celery.group", "subtask_type": "group", "options": {},
             "kwargs": {"tasks": [signature("tail-1", 1), signature("tail-2", 2)]}}  # fmt: skip
    heads = [
        SubmitJob("app.head", job_id="head-0", canvas={"chain": [signature("tail-0", 0)]}),
        SubmitJob("app.head", job_id="head-1", canvas={"chain": [inner]}),
    ]
    door.submit_many([*heads, body()], [NewJoin("g", 3)])
    begun = begin_all(door)
    door.finish(fail(begun["head-1"], replace(BOOM, message="first of all")))
    assert job(house).state is JobState.SCHEDULED
    cancel_job(house.ctx, "head-0")
    door.finish(Finish("head-0", begun["head-0"].fence, AttemptOutcome.CANCELLED, begun=begun["head-0"]))
    assert broken_by(door)["error"]["exc_type"] == "celery.exceptions.TaskRevokedError"
    check_invariants(house.store)


def test_a_join_grows_with_what_is_added_to_it(house: House) -> None:
    door = house.door("w")
    send(house, 1)
    begun = begin_all(door)
    added = part(0, "g", grows_join=True)
    for _ in range(2):
        door.submit_many([replace(added, job_id="added")])
    door.finish(
        Finish("g-0", 1, AttemptOutcome.SUCCEEDED, result_json="0", begun=begun["g-0"], grows={"g": 1})
    )  # and one more, which is sent later
    succeed(door, begin_all(door)["added"], "1")
    assert job(house).state is JobState.SCHEDULED
    door.submit_many([replace(part(5), job_id="later")])
    succeed(door, begin_all(door)["later"], "2")
    assert job(house).state is JobState.QUEUED
    assert sorted(job(house).args[0]) == [0, 1, 2]
    check_invariants(house.store)


def replaced(begun: Begun, sends: tuple[SubmitJob, ...], **fields: Any) -> Finish:
    """The finish of an attempt that others stand for."""
    return Finish(begun.job_id, begun.fence, AttemptOutcome.REPLACED, sends=sends, begun=begun, **fields)


def test_a_job_that_a_chain_replaced_runs_again_when_the_chain_sends_it(house: House) -> None:
    door = house.door("w")
    door.submit_many([SubmitJob("app.task", job_id="r", canvas={"group_index": 7})])
    tail = {"task": "app.tail", "options": {"task_id": "r"}}
    head = SubmitJob("app.head", job_id="head", canvas={"chain": [tail]})
    answer = door.finish(replaced(begin_all(door)["r"], (head,), awaits_send=True))
    assert answer.state is JobState.SCHEDULED
    assert job(house, "r").waits_for == awaits_send("r")
    begun = begin_all(door)
    assert set(begun) == {"head"}
    again = SubmitJob("app.tail", [5], job_id="r", canvas={"group_index": 8})
    door.finish(Finish("head", 1, AttemptOutcome.SUCCEEDED, result_json="5", sends=(again,), begun=begun["head"]))
    (last,) = begin_all(door).values()
    assert (last.job_id, last.task, last.args_json, last.attempt, last.fence) == ("r", "app.tail", "[5]", 2, 2)
    assert last.canvas_json == '{"group_index":8}'
    succeed(door, last)
    check_invariants(house.store)


@pytest.mark.parametrize("cancelled", [False, True], ids=["a step fails", "a step is cancelled"])
def test_a_job_whose_replacement_breaks_fails_and_counts(house: House, cancelled: bool) -> None:
    door = house.door("w")
    send(house, 1)
    # The last step is the body of a chord that was never sent.
    tail = {"task": "celery.chord", "subtask_type": "chord", "options": {},
            "kwargs": {"header": {"subtask_type": "group", "kwargs": {"tasks": []}, "options": {}},
                       "body": {"task": "app.tail", "options": {"task_id": "g-0"}}}}  # fmt: skip
    head = SubmitJob("app.head", job_id="head", canvas={"chain": [tail]})
    door.finish(replaced(begin_all(door)["g-0"], (head,), awaits_send=True))
    if cancelled:
        cancel_job(house.ctx, "head")
    else:
        door.finish(fail(begin_all(door)["head"]))
    stands = job(house, "g-0")
    assert stands.state is JobState.FAILED
    assert stands.error is not None
    assert stands.error.code == "chain_broken"
    assert "head" in str(stands.error.hint)
    assert stands.error.exc_type == ("celery.exceptions.TaskRevokedError" if cancelled else "ValueError")
    assert broken_by(door)["job_id"] == "g-0"
    check_invariants(house.store)


def test_a_replaced_job_that_is_cancelled_is_not_sent_again(house: House) -> None:
    door = house.door("w")
    door.submit_many([SubmitJob("app.task", job_id="r")])
    head = SubmitJob("app.head", job_id="head", canvas={"chain": [{"task": "app.tail", "options": {"task_id": "r"}}]})
    door.finish(replaced(begin_all(door)["r"], (head,), awaits_send=True))
    cancel_job(house.ctx, "r")
    begun = begin_all(door)["head"]
    again = SubmitJob("app.tail", [5], job_id="r")
    door.finish(Finish("head", 1, AttemptOutcome.SUCCEEDED, result_json="5", sends=(again,), begun=begun))
    assert job(house, "head").state is JobState.SUCCEEDED
    assert job(house, "r").state is JobState.CANCELLED
    check_invariants(house.store)


def test_a_cancel_that_came_before_a_replacement_leaves_nothing_of_it(house: House) -> None:
    door = house.door("w")
    door.submit_many([SubmitJob("app.task", job_id="r")])
    begun = begin_all(door)["r"]
    cancel_job(house.ctx, "r")
    answer = door.finish(replaced(begun, (SubmitJob("app.head", job_id="head"),), awaits_send=True))
    assert answer.state is JobState.CANCELLED
    assert house.store.read(lambda reader: reader.get("head")) is None


def test_a_job_that_a_group_replaced_waits_for_it(house: House) -> None:
    door = house.door("w")
    door.submit_many([SubmitJob("app.task", ["as sent"], job_id="r")])
    resend = Resend("celery.accumulate", [results_of("g")], {"index": 0}, None, 0, None, waits_for="g")
    begun = begin_all(door)["r"]
    door.finish(replaced(begun, (part(0), part(1)), joins=(NewJoin("g", 2),), resend=resend))
    for one in begin_all(door).values():
        succeed(door, one, '"p"')
    (last,) = begin_all(door).values()
    assert (last.job_id, last.task, json.loads(last.args_json)) == ("r", "celery.accumulate", [["p", "p"]])
    assert job(house, "r").args == ["as sent"]
    check_invariants(house.store)


def test_a_countdown_and_a_lifetime_of_a_body_begin_when_it_is_ready(database: Database, house: House) -> None:
    clock = FakeClock()
    own = build_house(database.open(clock), house.folder, clock) if database.kind == "postgres" else house
    door = own.door("w")
    canvas = {"countdown": 3600.0, "expires_after": 7200.0}
    door.submit_many([part(0), body(canvas=canvas)], [NewJoin("g", 1)])
    assert job(own).expires_at is None
    succeed(door, begin_all(door)["g-0"])
    due = job(own)
    assert (due.state, due.waits_for) == (JobState.SCHEDULED, None)
    assert due.run_at is not None
    assert due.expires_at == due.run_at + 3600 * 1_000_000
    check_invariants(own.store)


def test_parts_that_end_at_once_in_two_processes_are_all_counted(
    house: House, another_house: Callable[[], House]
) -> None:
    size, houses = 40, [house, another_house()]
    doors = [one.door(f"w{number}") for number, one in enumerate(houses)]
    send(house, size)
    begun = [door.begin(size // 2) for door in doors]
    ready = threading.Barrier(4)

    def finish(door: StoreJobDoor, mine: list[Begun]) -> None:
        ready.wait()
        for one in mine:
            succeed(door, one, one.job_id[2:])

    halves = [(door, some[turn::2]) for door, some in zip(doors, begun, strict=True) for turn in (0, 1)]
    threads = [threading.Thread(target=finish, args=half) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert job(house).args == [list(range(size)), "own"]
    check_invariants(house.store)


def test_retention_keeps_what_a_join_still_needs(house: House) -> None:
    object.__setattr__(house.services.limits, "job_retention_seconds", 1e-6)
    door = house.door("w")
    send(house, 2)
    begun = begin_all(door)
    succeed(door, begun["g-0"], '"early"')
    door.save_group("saved", "[]")
    assert run_retention(house.ctx).jobs == 0
    assert door.saved_group("saved") is None
    succeed(door, begun["g-1"])
    assert job(house).args == [["early", 1], "own"]
    house.store.number_events()
    assert run_retention(house.ctx).jobs == 2
    assert house.store.read(lambda reader: reader.waits()).joins == 0


def test_groups_are_saved_by_name(house: House) -> None:
    door = house.door("w")
    assert door.saved_group("x") is None
    door.save_group("x", "[1]")
    door.save_group("x", "[2]")
    assert door.saved_group("x") == "[2]"
    door.delete_group("x")
    assert door.saved_group("x") is None


def test_a_workflow_is_the_jobs_of_one_root(house: House) -> None:
    door = house.door("w")
    door.submit_many([SubmitJob("app.task", job_id="root"), SubmitJob("app.task", job_id="other")])
    door.submit_many([SubmitJob("app.task", job_id=f"c{i}", root_id="root", parent_id="root") for i in range(3)])
    whole = read_workflow(house.ctx, "c1")
    assert (whole.root_id, [one.id for one in whole.jobs]) == ("root", ["root", "c0", "c1", "c2"])
    assert whole.complete
    some = read_workflow(house.ctx, "root", limit=2)
    assert ([one.id for one in some.jobs], some.complete) == (["root", "c0"], False)


def test_the_checker_finds_a_job_that_waits_for_nothing(house: House) -> None:
    with pytest.raises(InvalidRequest, match="not sent with it"):
        house.door("w").submit_many([part(0), body("gone")])
    row = job_row(house.ctx, body("gone"), house.services.clock.now())
    house.store.write(lambda tx: tx.insert_jobs([row]))
    with pytest.raises(InvariantBroken, match="waits for a join that is not open"):
        check_invariants(house.store)
