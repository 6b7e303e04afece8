"""Lists of what is observed over SQLite and Postgres: filters, pages, relations, orphans."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.model.errors import InvalidRequest, TaskNotFound
from headway.model.evidence import Evidence
from headway.model.observed import GONE_SECONDS, ListTasks, ObservedWorker, TaskView
from headway.model.sayings import CeleryState, Said
from headway.model.states import JobState
from headway.service import cancel_job, get_task, list_tasks, list_workers, related_tasks
from headway.testing.clock import FakeClock
from tests.conformance.conftest import Database, House, build_house
from tests.observations import NOW, SECOND, batch, door_over, said, success, worker

ENDS = {0: Said.SUCCEEDED, 1: Said.FAILED, 2: Said.REVOKED, 3: Said.REJECTED}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def at_now(database: Database, clock: FakeClock, tmp_path: Path) -> House:
    """The service over a fresh database, at a time that the test decides."""
    return build_house(database.open(clock), tmp_path, clock)


def fill(house: House, count: int, start: int = 0) -> None:
    """Tasks of all states, names, queues, workers and roots, some first seen in the same moment; jobs among them."""
    door = door_over(house.services)
    clock = house.services.clock
    assert isinstance(clock, FakeClock)
    for number in range(start, start + count):
        if number % 3 == 0:
            clock.advance(1)
        task_id, node = f"t{number:04d}", f"w{number % 3}@host"
        some = success(
            task_id,
            clock.now(),
            worker=node,
            name=f"app.n{number % 4}",
            queue=f"q{number % 2}",
            root_id=f"t{number % 9:04d}",
        )[: 1 + number % 4]
        if number % 4 == 3:
            end = ENDS[(number // 4) % 4]
            some[-1] = said(task_id, end, clock.now(), node, error=f"Oops('number {number} 50%')", result="1")
        door.record(batch(*some, seen_at=clock.now()))
        if number % 5 == 0:
            job = house.submit(f"app.n{number % 4}", queue=f"q{number % 2}")
            if number % 10 == 0:
                cancel_job(house.ctx, job.id)


def everything(house: House, query: ListTasks, between: Callable[[], None] = lambda: None) -> list[TaskView]:
    """All pages of a list, with something done between two of them."""
    found: list[TaskView] = []
    while True:
        page = list_tasks(house.ctx, query)
        found += page.items
        assert len(page.items) <= query.limit
        if page.next_cursor is None:
            return found
        query = replace(query, cursor=page.next_cursor)
        between()


# For each filter, what of a task answers it.
FILTERS: dict[str, tuple[dict[str, Any], Callable[[TaskView], bool]]] = {
    "none": ({}, lambda task: True),
    "waiting": ({"states": (JobState.QUEUED,)}, lambda task: task.state is JobState.QUEUED),
    "ended badly": (
        {"states": (JobState.FAILED, JobState.CANCELLED)},
        lambda task: task.state in (JobState.FAILED, JobState.CANCELLED),
    ),
    "a state that nothing has": ({"states": (JobState.TIMEOUT,)}, lambda task: False),
    "by a name of Celery's": (
        {"celery_states": (CeleryState.REJECTED, CeleryState.PENDING)},
        lambda task: task.celery_state in ("REJECTED", "PENDING"),
    ),
    "by a name that no job has": (
        {"celery_states": (CeleryState.RECEIVED,)},
        lambda task: task.celery_state == "RECEIVED",
    ),
    "by names of both": (
        {"states": (JobState.CANCELLED,), "celery_states": (CeleryState.FAILURE,)},
        lambda task: task.state is JobState.CANCELLED or task.celery_state == "FAILURE",
    ),
    "name": ({"name": "app.n1"}, lambda task: task.name == "app.n1"),
    "queue": ({"queue": "q1"}, lambda task: task.queue == "q1"),
    "worker": ({"worker": "w2@host"}, lambda task: task.worker == "w2@host"),
    "root": ({"root": "t0004"}, lambda task: "t0004" in (task.root_id, task.id)),
    "since": ({"since": NOW + 20 * SECOND}, lambda task: task.at >= NOW + 20 * SECOND),
    "until": ({"until": NOW + 20 * SECOND}, lambda task: task.at < NOW + 20 * SECOND),
    "text in an error": ({"text": "NUMBER 3"}, lambda task: "number 3" in (task.error or "")),
    "text with a sign of patterns": ({"text": "50%"}, lambda task: "50%" in (task.error or "")),
    "the beginning of an id": ({"text": "t001"}, lambda task: task.id.startswith("t001")),
    "several": (
        {"states": (JobState.RUNNING,), "name": "app.n2", "queue": "q0"},
        lambda task: (task.state, task.name, task.queue) == (JobState.RUNNING, "app.n2", "q0"),
    ),
}


def test_every_filter_pages_through_exactly_what_it_means(at_now: House) -> None:
    fill(at_now, 150)
    total = everything(at_now, ListTasks(limit=1000))
    assert len(total) == 180
    assert [(one.at, one.id) for one in total] == sorted(((one.at, one.id) for one in total), reverse=True)
    for name, (fields, matches) in FILTERS.items():
        expected = [one.id for one in total if matches(one)]
        assert (len(expected) > 0) is (name != "a state that nothing has"), name
        for limit in (1, 7, 1000):
            query = ListTasks(limit=limit, **fields)
            assert [one.id for one in everything(at_now, query)] == expected, (name, limit)


def test_what_waits_is_counted_by_its_queue(at_now: House) -> None:
    sent = {"a": "one", "b": "one", "c": "two", "d": None}
    door = door_over(at_now.services)
    door.record(batch(*(said(task, Said.SENT, NOW, name="n", queue=queue) for task, queue in sent.items())))
    door.record(batch(*success("e", queue="one")))
    again = [*success("f", queue="two")[:3], said("f", Said.RETRIED, NOW + 3 * SECOND)]
    door.record(batch(*again))
    found = at_now.store.read(lambda reader: reader.observed.waiting_by_queue())
    assert found == {"one": 2, "two": 2, "": 1}


def test_pages_have_no_gap_and_no_repeat_while_tasks_are_added_and_change(at_now: House) -> None:
    fill(at_now, 90)
    for name, (fields, _) in FILTERS.items():
        if "until" in fields or name == "a state that nothing has":
            continue
        before = [one.id for one in everything(at_now, ListTasks(limit=1000, **fields))]
        added = [len(before) * 1000]

        def add(added: list[int] = added) -> None:
            fill(at_now, 4, start=added[0] + 10_000)
            added[0] += 4

        assert [one.id for one in everything(at_now, ListTasks(limit=9, **fields), add)] == before, name


def test_a_page_has_bounds_and_a_cursor_is_ours(at_now: House) -> None:
    for limit in (0, -1, 1001):
        with pytest.raises(InvalidRequest, match="limit"):
            list_tasks(at_now.ctx, ListTasks(limit=limit))
    for cursor in ("", "x", "bm8", "WzEsIDFd" * 50, "WyJhIiwgImIiXQ", "é", "WzFlNDAwLCAiYSJd"):
        with pytest.raises(InvalidRequest, match="cursor"):
            list_tasks(at_now.ctx, ListTasks(cursor=cursor))


def test_one_task_is_shown_with_its_trail_in_the_order_of_time(at_now: House) -> None:
    heard = success("a")
    random.Random(5).shuffle(heard)
    door_over(at_now.services).record(batch(*heard))
    task = get_task(at_now.ctx, "a")
    assert [mark.said for mark in task.trail] == ["sent", "received", "started", "succeeded"]
    assert (task.name, task.queue, task.worker, task.result, task.runtime) == (
        "app.add",
        "celery",
        "one@host",
        "3",
        1.0,
    )
    assert (task.sent_at, task.received_at, task.started_at, task.finished_at) == tuple(
        NOW + seconds * SECOND for seconds in range(4)
    )
    assert list_tasks(at_now.ctx, ListTasks()).items[0].trail == ()
    with pytest.raises(TaskNotFound, match="'b'"):
        get_task(at_now.ctx, "b")


def test_related_tasks_are_those_of_the_same_root_oldest_first(at_now: House, clock: FakeClock) -> None:
    door = door_over(at_now.services)
    for task_id in ("root", "child", "grandchild", "stranger"):
        clock.advance(1)
        root = task_id if task_id == "stranger" else "root"
        door.record(batch(*success(task_id, clock.now(), root_id=root), seen_at=clock.now()))
    for asked in ("root", "child", "grandchild"):
        assert [one.id for one in related_tasks(at_now.ctx, asked)] == ["root", "child", "grandchild"]
    assert [one.id for one in related_tasks(at_now.ctx, "stranger")] == ["stranger"]
    with pytest.raises(TaskNotFound, match="'nobody'"):
        related_tasks(at_now.ctx, "nobody")
    job = at_now.submit("app.ours")
    assert [one.id for one in related_tasks(at_now.ctx, job.id)] == [job.id]


def found_afterwards(task_id: str, parent: str | None, at: int = NOW) -> Evidence:
    return said(task_id, Said.RESULT_SUCCESS, at, "", parent_id=parent)


def test_a_chain_of_which_only_results_were_found_is_related_by_its_parents(at_now: House) -> None:
    door = door_over(at_now.services)
    chain = [found_afterwards(f"c{place}", f"c{place - 1}" if place else None, NOW + place) for place in range(5)]
    side = found_afterwards("side", "c2", NOW + 9)
    live = success("live", NOW + 20, root_id="c0", parent_id="side")
    door.record(batch(*reversed(chain), side, *live, found_afterwards("stranger", "gone"), seen_at=NOW + 60 * SECOND))
    for asked in ("c0", "c3", "side", "live"):
        assert [one.id for one in related_tasks(at_now.ctx, asked)] == ["c0", "c1", "c2", "c3", "c4", "side", "live"]
    assert [one.id for one in related_tasks(at_now.ctx, "stranger")] == ["stranger"]
    assert get_task(at_now.ctx, "c2").children == ("c3", "side")
    assert get_task(at_now.ctx, "c4").children == ()


def test_relations_have_a_bound_and_a_circle_has_an_end(at_now: House) -> None:
    door = door_over(at_now.services)
    door.record(batch(found_afterwards("a", "b"), found_afterwards("b", "a"), found_afterwards("c", "b")))
    for asked in "abc":
        assert {one.id for one in related_tasks(at_now.ctx, asked)} == {"a", "b", "c"}
    door.record(batch(found_afterwards("big", None), *(found_afterwards(f"n{one}", "big") for one in range(600))))
    related = related_tasks(at_now.ctx, "n77")
    assert len({one.id for one in related}) == len(related) == 500
    assert {"n77", "big"} <= {one.id for one in related}
    assert len(get_task(at_now.ctx, "big").children) == 100


def test_the_retry_of_a_task_does_not_make_it_its_own_parent(at_now: House) -> None:
    door = door_over(at_now.services)
    for task_id, parent in (("alone", None), ("called", "up")):
        again = said(task_id, Said.SENT, NOW + 5 * SECOND, "gen@h", name="n", retries=1, parent_id=task_id)
        first = success(task_id, parent_id=parent)[:3]
        door.record(batch(*([again, *first] if parent else [*first, again])))
        task = get_task(at_now.ctx, task_id)
        assert (task.parent_id, task.retries, task.children) == (parent, 1, ())


def test_how_often_a_task_was_tried_is_known_or_not(at_now: House) -> None:
    door = door_over(at_now.services)
    door.record(batch(found_afterwards("bare", None), *success("heard")))
    door.record(batch(said("whole", Said.RESULT_SUCCESS, NOW, "w@h", retries=0, name="n")))
    assert {one.id: one.retries for one in list_tasks(at_now.ctx, ListTasks()).items} == {
        "bare": None, "heard": 0, "whole": 0,
    }  # fmt: skip


def test_a_task_without_a_name_says_where_its_end_came_from(at_now: House) -> None:
    door = door_over(at_now.services)
    door.record(batch(found_afterwards("found", None), said("revoked", Said.REVOKED), *success("named")))
    why = {one.id: (one.complete, one.unnamed) for one in list_tasks(at_now.ctx, ListTasks()).items}
    assert why["named"] == (True, "")
    assert why["found"] == (False, "found afterwards: only its result is known, and a result names no task")
    assert why["revoked"] == (False, "revoked before anything else was heard of it; the event names no task")


def test_upcoming_are_those_that_wait_for_their_time_the_next_first(at_now: House) -> None:
    door = door_over(at_now.services)
    for task_id, eta in (("late", NOW + 90 * SECOND), ("soon", NOW + 5 * SECOND), ("past", NOW - SECOND)):
        door.record(batch(said(task_id, Said.RECEIVED, NOW, name="n", retries=0, eta=eta)))
    door.record(batch(*success("done", eta=NOW + 7 * SECOND)))
    found = at_now.store.read(lambda r: r.observed.upcoming(NOW, [], 10))
    assert [one.id for one in found] == ["soon", "late"]
    assert len(at_now.store.read(lambda r: r.observed.upcoming(NOW, [], 1))) == 1


def test_what_nobody_holds_or_may_have_ended_does_not_wait_for_its_time(at_now: House) -> None:
    door = door_over(at_now.services)
    for task_id, node in (("a", "dead@host"), ("b", "one@host")):
        door.record(batch(said(task_id, Said.RECEIVED, NOW, node, name="n", retries=0, eta=NOW + 9 * SECOND)))
    named = {"name": "n", "queue": "q", "retries": 0, "eta": NOW + 9 * SECOND}
    door.record(batch(said("c", Said.SENT, NOW, "gen1@client", **named)))

    def waiting(*gone: str) -> list[str]:
        return sorted(one.id for one in at_now.store.read(lambda r: r.observed.upcoming(NOW, gone, 10)))

    assert waiting() == ["a", "b", "c"]
    assert waiting("dead@host") == ["b", "c"]
    door.close_gap(door.open_gap("broker_away", NOW + SECOND), NOW + SECOND)
    assert waiting() == []


def test_a_task_of_a_worker_that_is_gone_is_orphaned_until_it_ends(at_now: House, clock: FakeClock) -> None:
    door = door_over(at_now.services)
    running = [*success("a", worker="dead@host")[:3], *success("b", worker="alive@host")[:3]]
    door.record(batch(*running, *success("c", worker="dead@host"), workers=[worker("dead@host"), worker("alive@host")]))
    assert [one.id for one in everything(at_now, ListTasks(orphaned=True))] == []
    clock.advance(GONE_SECONDS + 1)
    door.record(batch(seen_at=clock.now(), workers=[worker("alive@host", clock.now())]))
    (orphan,) = everything(at_now, ListTasks(orphaned=True))
    assert (orphan.id, orphan.orphaned, orphan.worker) == ("a", True, "dead@host")
    assert everything(at_now, ListTasks(orphaned=True, states=(JobState.SUCCEEDED,))) == []
    assert [one.id for one in at_now.store.read(lambda r: r.observed.orphans(["dead@host"], 10))] == ["a"]
    assert at_now.store.read(lambda r: r.observed.orphans([], 10)) == []
    shown = {one.name: (one.standing, one.orphans) for one in list_workers(at_now.ctx)}
    assert shown == {"alive@host": ("online", 0), "dead@host": ("gone", 1)}
    door.record(batch(said("a", Said.SUCCEEDED, clock.now(), "dead@host", result="1"), seen_at=clock.now()))
    assert everything(at_now, ListTasks(orphaned=True)) == []


def test_workers_of_this_server_stand_beside_those_of_the_cluster(house: House) -> None:
    house.door("ours")
    heard = worker("one@host", house.services.clock.now(), pid=7)
    door_over(house.services).record(batch(workers=[heard]))
    shown = [(one.name, one.origin, one.standing) for one in list_workers(house.ctx)]
    assert shown == [("one@host", "observed", "online"), ("ours", "job", "online")]


@pytest.mark.parametrize(
    ("age", "facts", "standing"),
    [
        (0, {}, "online"),
        (10, {}, "online"),
        (10.1, {}, "silent"),
        (30.1, {}, "gone"),
        (50, {"freq": 20.0}, "online"),
        (61, {"freq": 20.0}, "silent"),
        (181, {"freq": 20.0}, "gone"),
        (-60, {}, "online"),
    ],
)
def test_a_worker_is_silent_then_gone_by_its_own_heartbeat(age: float, facts: dict[str, Any], standing: str) -> None:
    assert ObservedWorker("w", NOW, NOW, facts=facts).standing(NOW + int(age * SECOND)) == standing


def test_live_tasks_are_walked_through_oldest_first(at_now: House) -> None:
    fill(at_now, 60)
    door, found, after = door_over(at_now.services), [], (-1, "")
    while page := door.live(after, 7):
        found += page
        after = (page[-1].seen_first_at, page[-1].id)
    live = [
        one for one in everything(at_now, ListTasks(limit=1000)) if one.origin == "observed" and not one.finished_at
    ]
    assert [one.id for one in found] == [one.id for one in reversed(live)]
    assert set(door.known(["t0000", "nobody"])) == {"t0000"}
