"""Times in which events may have been missed: what is marked, what is cleared, what an observer finds at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.model.observed import Gap
from headway.model.sayings import Said
from headway.service import StoreObservationDoor, get_task, list_gaps, system_context
from headway.testing.clock import FakeClock
from tests.conformance.conftest import Database, House, build_house
from tests.observations import NOW, SECOND, batch, door_over, said, success


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def house(database: Database, clock: FakeClock, tmp_path: Path) -> House:
    return build_house(database.open(clock), tmp_path, clock)


def door_of(house: House) -> StoreObservationDoor:
    return StoreObservationDoor(system_context(house.services, "observer"))


def gap_of(house: House, task_id: str) -> str | None:
    return get_task(house.ctx, task_id).gap


def with_a_gap(house: House, clock: FakeClock) -> tuple[StoreObservationDoor, Gap]:
    """One task ended and one that runs, then half a minute without events."""
    door = door_over(house.services)
    door.record(batch(*success("ended"), *success("runs")[:3], said("waits", Said.SENT, NOW, name="n", retries=0)))
    gap = door.open_gap("broker_away", NOW + SECOND)
    clock.advance(30)
    return door, door.close_gap(gap, clock.now())


# How an observer starts


def test_the_first_observer_finds_no_gap(house: House) -> None:
    assert door_of(house).begin("one", {}) is None
    assert list_gaps(house.ctx) == []


def test_who_starts_again_finds_the_time_since_the_last_watermark(house: House, clock: FakeClock) -> None:
    first = door_over(house.services, "one")
    first.record(batch(seen_at=NOW, watermark_at=NOW + 2 * SECOND, facts={"events": 5}))
    clock.advance(60)
    again = door_of(house)
    gap = again.begin("one", {})
    assert gap is not None
    assert (gap.reason, gap.began_at, gap.ended_at) == ("not_watching", NOW + 2 * SECOND, None)
    again.close_gap(gap, clock.now())
    (kept,) = list_gaps(house.ctx)
    assert (kept.began_at, kept.ended_at) == (NOW + 2 * SECOND, NOW + 60 * SECOND)


def test_who_stopped_in_good_order_has_heard_until_its_last_watermark(house: House, clock: FakeClock) -> None:
    first = door_over(house.services, "one")
    first.record(batch(watermark_at=NOW + 5 * SECOND))
    clock.advance(15)
    first.end()
    clock.advance(60)
    gap = door_of(house).begin("one", {})
    assert gap is not None
    assert gap.began_at == NOW + 5 * SECOND, "it was stopping for some time, and heard nothing then"


def beside(house: House, clock: FakeClock) -> tuple[StoreObservationDoor, StoreObservationDoor, Gap]:
    """Two observers, of which one was killed and starts again; a task was running meanwhile."""
    first, second = door_over(house.services, "one"), door_over(house.services, "two")
    second.record(batch(*success("runs")[:3]))
    clock.advance(60)
    for door in (first, second):
        door.record(batch(seen_at=clock.now()))
    clock.advance(2)
    again = door_of(house)
    gap = again.begin("one", {})
    assert gap is not None
    assert gap.began_at == clock.now() - 2 * SECOND
    clock.advance(1)
    return second, again, again.close_gap(gap, clock.now())


def test_what_another_observer_heard_is_not_missed(house: House, clock: FakeClock) -> None:
    second, again, _ = beside(house, clock)
    assert [one.reason for one in list_gaps(house.ctx)] == ["not_watching"], "nobody knows yet"
    again.reconciled(clock.now(), 1)
    clock.advance(1)
    second.record(batch(seen_at=clock.now()))
    again.record(batch(seen_at=clock.now()))
    assert list_gaps(house.ctx) == []
    assert gap_of(house, "runs") is None
    observers = house.store.read(lambda r: r.observed.observers())
    assert {one.id: one.stopped_at for one in observers} == {"one": None, "two": None}


def test_what_workers_do_not_say_is_no_reason_not_to_vouch_for_another(house: House, clock: FakeClock) -> None:
    silent = door_over(house.services, "two").open_gap("events_off", clock.now())
    second, again, _ = beside(house, clock)
    again.reconciled(clock.now(), 1)
    clock.advance(1)
    second.record(batch(seen_at=clock.now()))
    again.record(batch(seen_at=clock.now()))
    assert [one.id for one in list_gaps(house.ctx)] == [silent.id]
    assert gap_of(house, "runs") is None


def test_what_another_observer_heard_while_the_broker_was_away_for_this_one_is_not_missed(
    house: House, clock: FakeClock
) -> None:
    second, first, _ = beside(house, clock)
    gap = first.open_gap("broker_away", clock.now())
    clock.advance(2)
    second.record(batch(seen_at=clock.now()))
    first.close_gap(gap, clock.now() - SECOND)
    found = {one.id: one for one in list_gaps(house.ctx)}[gap.id]
    assert (found.reason, found.unresolved) == ("another_watched", 0)
    assert found.reconciled_at is not None
    assert gap_of(house, "runs") is None


def test_two_observers_that_were_cut_off_together_do_not_vouch_for_each_other(house: House, clock: FakeClock) -> None:
    one, two = door_over(house.services, "one"), door_over(house.services, "two")
    one.record(batch(*success("runs")[:3]))
    clock.advance(5)
    for door in (one, two):
        # Each hears of its own loss and of its new connection in one look.
        door.close_gap(door.open_gap("broker_away", clock.now() - SECOND), clock.now())
        clock.advance(1)
    for door in (one, two, one):
        door.record(batch(seen_at=clock.now()))
        clock.advance(1)
    assert {gap.reason for gap in list_gaps(house.ctx)} == {"broker_away"}
    assert gap_of(house, "runs") in {gap.id for gap in list_gaps(house.ctx)}


def test_a_gap_that_nobody_judged_is_judged_by_whoever_starts_next(house: House, clock: FakeClock) -> None:
    _, _, gap = beside(house, clock)
    clock.advance(5)
    # Both are killed and made anew under other names, as replicas without a disk of their own are.
    third = door_of(house)
    third.begin("three", {})
    clock.advance(40)
    third.record(batch(*success("later")[:3], seen_at=clock.now()))
    assert gap_of(house, "runs") == gap.id


@pytest.mark.parametrize("comes_back", [False, True])
def test_two_observers_that_died_together_do_not_vouch_for_each_other(
    house: House, clock: FakeClock, comes_back: bool
) -> None:
    _, again, gap = beside(house, clock)
    if comes_back:
        other = door_of(house)
        theirs = other.begin("two", {})
        assert theirs is not None
        other.close_gap(theirs, clock.now())
        clock.advance(1)
        other.record(batch(seen_at=clock.now()))
    else:
        clock.advance(20)
        again.record(batch(seen_at=clock.now()))
        assert gap_of(house, "runs") is None, "the other one may still have heard it"
        clock.advance(20)
    again.record(batch(*success("later")[:3], seen_at=clock.now()))
    assert gap_of(house, "runs") in {one.id for one in list_gaps(house.ctx)}
    assert comes_back or gap_of(house, "runs") == gap.id
    assert {one.reason for one in list_gaps(house.ctx)} == {"not_watching"}
    assert again.known(["runs"])["runs"].gap is not None


def test_an_observer_that_was_killed_is_noted_as_stopped_at_its_watermark(house: House, clock: FakeClock) -> None:
    door_over(house.services, "killed").record(batch(seen_at=NOW + SECOND))
    clock.advance(60)
    door_of(house).begin("next", {})
    observers = {one.id: one for one in house.store.read(lambda r: r.observed.observers())}
    assert observers["killed"].stopped_at == NOW + SECOND
    assert observers["next"].stopped_at is None


def test_a_gap_that_was_open_at_the_kill_is_the_one_that_goes_on(house: House, clock: FakeClock) -> None:
    gap = door_over(house.services, "one").open_gap("broker_away", NOW)
    clock.advance(60)
    found = door_of(house).begin("one", {})
    assert found is not None
    assert (found.id, found.reason) == (gap.id, "broker_away")


def test_the_watermark_never_goes_back(house: House) -> None:
    door = door_over(house.services)
    door.record(batch(watermark_at=NOW + 9))
    door.record(batch(watermark_at=NOW + 5))
    door.record(batch(*success("a"), watermark_at=None))
    (observer,) = house.store.read(lambda r: r.observed.observers())
    assert observer.watermark_at == NOW + 9


def test_nothing_is_recorded_before_the_beginning(house: House) -> None:
    with pytest.raises(RuntimeError, match="begin"):
        door_of(house).record(batch(*success("a")))


# What is marked, and what clears it


def test_an_open_gap_marks_nothing_and_a_closed_one_whatever_was_going_on(house: House, clock: FakeClock) -> None:
    door = door_over(house.services)
    door.record(batch(*success("ended"), *success("runs")[:3]))
    gap = door.open_gap("broker_away", NOW + SECOND, lost=3)
    assert [(one.id, one.ended_at, one.lost, one.unresolved) for one in list_gaps(house.ctx)] == [(gap.id, None, 3, 0)]
    assert gap_of(house, "runs") is None
    clock.advance(30)
    door.record(batch(*success("begun since", clock.now())[:3], seen_at=clock.now() + 1))
    door.close_gap(gap, clock.now())
    assert [gap_of(house, name) for name in ("runs", "ended", "begun since")] == [gap.id, None, None]
    assert not get_task(house.ctx, "runs").complete
    assert [one.unresolved for one in list_gaps(house.ctx)] == [1]
    assert house.store.read(lambda r: r.observed.unresolved()) == {"STARTED": 1}
    assert house.store.read(lambda r: r.observed.gaps_open()) == []


@pytest.mark.parametrize("cleared_by", [Said.SUCCEEDED, Said.RETRIED, Said.SEEN_RUNNING, Said.RESULT_FAILURE])
def test_whatever_is_heard_of_a_marked_task_afterwards_clears_it(
    house: House, clock: FakeClock, cleared_by: Said
) -> None:
    door, gap = with_a_gap(house, clock)
    assert gap_of(house, "runs") == gap.id
    heard = said("runs", cleared_by, clock.now(), error="x" if "fail" in cleared_by else None)
    door.record(batch(heard, seen_at=clock.now()))
    assert gap_of(house, "runs") is None
    assert gap_of(house, "waits") == gap.id


def test_a_result_that_says_it_was_still_running_clears_nothing(house: House, clock: FakeClock) -> None:
    door, gap = with_a_gap(house, clock)
    door.record(batch(said("runs", Said.RESULT_STARTED, NOW + SECOND, ""), seen_at=clock.now()))
    assert gap_of(house, "runs") == gap.id


def test_a_task_that_its_worker_still_runs_is_cleared_at_every_look(house: House, clock: FakeClock) -> None:
    door = door_over(house.services)
    seen = said("runs", Said.SEEN_RUNNING, NOW, retries=0)
    door.record(batch(seen))
    gap = door.open_gap("broker_away", NOW)
    clock.advance(1)
    door.close_gap(gap, clock.now())
    assert gap_of(house, "runs") == gap.id
    answer = door.record(batch(seen, seen_at=clock.now()))
    assert (answer.new, answer.duplicates) == (0, 1)
    assert gap_of(house, "runs") is None


def test_a_task_seen_running_again_and_again_is_written_now_and_then(house: House) -> None:
    door = door_over(house.services)
    seen = said("runs", Said.SEEN_RUNNING, NOW, retries=0)
    for seconds, written in ((0, 0), (3, 0), (6, 6), (8, 6), (12, 12)):
        door.record(batch(seen, seen_at=NOW + seconds * SECOND))
        assert get_task(house.ctx, "runs").seen_at == NOW + written * SECOND


def test_the_second_gap_does_not_take_over_what_the_first_left_open(house: House, clock: FakeClock) -> None:
    door, gap = with_a_gap(house, clock)
    door.record(batch(*success("new", clock.now())[:3], seen_at=clock.now()))
    second = door.open_gap("broker_away", clock.now())
    clock.advance(5)
    door.close_gap(second, clock.now())
    assert (gap_of(house, "runs"), gap_of(house, "new")) == (gap.id, second.id)
    assert {one.id: one.unresolved for one in list_gaps(house.ctx)} == {gap.id: 2, second.id: 1}


# Kept, missed, reconciled


def test_a_gap_in_which_the_broker_kept_all_is_none(house: House, clock: FakeClock) -> None:
    door = door_over(house.services)
    door.record(batch(*success("runs")[:3]))
    gap = door.open_gap("broker_away", NOW)
    clock.advance(3)
    door.kept(gap, clock.now())
    (kept,) = list_gaps(house.ctx)
    assert (kept.reason, kept.ended_at, kept.unresolved) == ("kept_by_broker", clock.now(), 0)
    assert kept.reconciled_at == clock.now()
    assert gap_of(house, "runs") is None


def test_a_gap_of_a_start_that_the_broker_kept_is_not_stored(house: House, clock: FakeClock) -> None:
    door_over(house.services, "one").record(batch())
    clock.advance(60)
    again = door_of(house)
    gap = again.begin("one", {})
    assert gap is not None
    again.kept(gap, clock.now())
    assert list_gaps(house.ctx) == []


def test_missed_marks_only_those_named_and_is_nothing_if_none_is_left(house: House, clock: FakeClock) -> None:
    door = door_over(house.services)
    door.record(batch(*success("a")[:3], *success("b")[:3], *success("ended")))
    clock.advance(20)
    gap = door.missed(["a", "ended", "nobody"], NOW, clock.now(), clock.now())
    assert [gap_of(house, name) for name in ("a", "b", "ended")] == [gap.id, None, None]
    door.missed(["ended"], NOW, clock.now(), clock.now())
    assert [(one.id, one.reason, one.unresolved) for one in list_gaps(house.ctx)] == [(gap.id, "missed_events", 1)]


def test_a_gap_that_was_looked_through_says_what_was_recovered(house: House, clock: FakeClock) -> None:
    door, gap = with_a_gap(house, clock)
    assert gap.ended_at is not None
    door.reconciled(gap.ended_at - 1, 4)
    assert [one.reconciled_at for one in list_gaps(house.ctx)] == [None]
    clock.advance(2)
    door.reconciled(clock.now(), 4)
    door.reconciled(clock.now(), 2)
    (kept,) = list_gaps(house.ctx)
    assert (kept.reconciled_at, kept.recovered) == (clock.now(), 4)


def test_a_gap_that_is_opened_again_by_a_repeated_call_is_continued(house: House) -> None:
    """The answer of the first call was lost: the database had it."""
    door = door_over(house.services)
    first = door.open_gap("broker_away", NOW)
    assert door.open_gap("broker_away", NOW).id == first.id
    assert len(list_gaps(house.ctx)) == 1
    assert door.open_gap("buffer_full", NOW + 5, 3).id != first.id


def test_gaps_are_listed_newest_first_and_so_many(house: House) -> None:
    door = door_over(house.services)
    made = [door.close_gap(door.open_gap("buffer_full", NOW + at), NOW + at + 1).id for at in (0, 10, 20)]
    assert [one.id for one in list_gaps(house.ctx)] == made[::-1]
    assert [one.id for one in list_gaps(house.ctx, 2)] == made[:0:-1]


def test_what_was_heard_of_after_it_was_looked_at_is_not_missed(house: House, clock: FakeClock) -> None:
    door = door_over(house.services)
    door.record(batch(*success("a")[:3]))
    door.record(batch(said("a", Said.RETRIED, NOW + 9, error="x"), seen_at=NOW + 5 * SECOND))
    clock.advance(20)
    door.missed(["a"], NOW, NOW, clock.now())
    assert gap_of(house, "a") is None
    assert list_gaps(house.ctx) == []


# Events that nobody sent


def test_what_was_never_sent_no_broker_has_kept(house: House, clock: FakeClock) -> None:
    """The next observer finds the time since the watermark as its gap, and that one may turn out to be none."""
    first = door_over(house.services, "one")
    first.record(batch(*success("runs")[:3], watermark_at=NOW))
    off = first.open_gap("events_off", NOW)
    clock.advance(35)
    again = door_of(house)
    start = again.begin("one", {})
    assert start is not None
    assert start.reason == "not_watching"
    again.kept(start, clock.now())
    (gap,) = list_gaps(house.ctx)
    assert (gap.id, gap.reason, gap.ended_at, gap.reconciled_at) == (off.id, "events_off", clock.now(), None)
    assert gap_of(house, "runs") == off.id


def test_what_was_never_sent_no_other_observer_has_heard(house: House, clock: FakeClock) -> None:
    one, other = door_over(house.services, "one"), door_over(house.services, "other")
    one.record(batch(*success("runs")[:3], watermark_at=NOW))
    off = one.open_gap("events_off", NOW)
    clock.advance(10)
    other.record(batch(watermark_at=clock.now(), seen_at=clock.now()))
    one.close_gap(off, clock.now())
    assert gap_of(house, "runs") == off.id


def test_gaps_of_those_who_died_are_found_by_those_who_watch(house: House, clock: FakeClock) -> None:
    dead, alive = door_over(house.services, "dead"), door_over(house.services, "alive")
    left = [dead.open_gap("events_off", NOW), dead.open_gap("broker_away", NOW + 1)]
    own = alive.open_gap("broker_away", NOW)
    assert alive.left_open() == []
    clock.advance(40)
    alive.record(batch(watermark_at=clock.now(), seen_at=clock.now()))
    assert {gap.id for gap in alive.left_open()} == {gap.id for gap in left}
    for gap in alive.left_open():
        alive.close_gap(gap, clock.now())
    assert alive.left_open() == []
    assert [gap.id for gap in list_gaps(house.ctx) if gap.ended_at is None] == [own.id]
