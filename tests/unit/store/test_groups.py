"""Group commit: who leads, who waits, and what a failure costs the neighbours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from headway.model.errors import JobNotFound, StoreUnavailable
from headway.store.groups import MAX_GROUP, MAX_RIDING, GroupCommit, RetryAlone
from tests.waiting import wait_until


@dataclass
class Database:
    """Transactions over a list: what a real one does at begin, commit and rollback, with faults on demand."""

    rows: list[object] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    away: bool = False
    refuse_commits: int = 0

    def open(self) -> Unit:
        if self.away:
            raise StoreUnavailable("away")
        return Unit(self)


class Unit:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.tx: Any = self
        self.writes = 0
        self.made_ready = False
        self.pending: list[object] = []

    def add(self, row: object) -> object:
        self.writes += 1
        if row in self.database.rows or row in self.pending:
            raise RetryAlone(f"{row} is there")
        self.pending.append(row)
        self.made_ready = str(row).startswith("ready")
        return row

    def commit(self) -> int:
        if self.database.refuse_commits:
            self.database.refuse_commits -= 1
            raise RetryAlone("serialization")
        self.database.rows += self.pending
        self.database.groups.append(len(self.pending))
        return len(self.pending)

    def rollback(self) -> None:
        self.pending.clear()


@dataclass
class Group:
    database: Database
    commit: Any
    told: list[int]

    def together(self, works: list[Callable[[Any], Any]]) -> list[Any]:
        """All of them in one group: the first holds the writer's place until the others have queued."""
        go = threading.Event()
        answers: dict[int, Any] = {}

        def run(place: int, work: Callable[[Any], Any]) -> None:
            try:
                answers[place] = self.commit.write(work)
            except Exception as error:  # noqa: BLE001 compared by the test
                answers[place] = error

        leader = threading.Thread(target=run, args=(-1, lambda _: go.wait(20)))
        leader.start()
        wait_until(lambda: self.commit._busy and not self.commit._waiting, what="the leader")
        threads = []
        for place, work in enumerate(works):
            threads.append(threading.Thread(target=run, args=(place, work)))
            threads[-1].start()
            wait_until(lambda: len(self.commit._waiting) == len(threads), what="the work to queue")
        go.set()
        for thread in (leader, *threads):
            thread.join(20)
        return [answers[place] for place in range(len(works))]


@pytest.fixture
def group() -> Any:
    database, told = Database(), list[int]()
    commit = GroupCommit(database.open, lambda error: error, lambda _, count: told.append(count))
    yield Group(database, commit, told)
    commit.close()


def test_a_lone_writer_commits_at_once(group: Group) -> None:
    assert group.commit.write(lambda tx: tx.add("a")) == "a"
    assert group.database.groups == [1]
    assert group.told == [1]


def test_what_queues_meanwhile_is_one_commit(group: Group) -> None:
    assert group.together([_adding(i) for i in range(10)]) == list(range(10))
    assert group.database.rows == list(range(10))
    assert group.database.groups == [0, 10]


def test_a_group_is_bounded_and_who_logs_too_fast_is_slowed_down(group: Group) -> None:
    for i in range(MAX_RIDING * 5):
        group.commit.write_later(_adding(i))
    assert group.commit.write(lambda tx: tx.add("x")) == "x"
    assert group.database.rows[-1] == "x"
    assert len(group.database.rows) == MAX_RIDING * 5 + 1
    assert max(group.database.groups) <= MAX_RIDING + 1


def test_a_group_of_those_who_wait_is_bounded(group: Group) -> None:
    assert group.together([_adding(i) for i in range(MAX_GROUP + 10)]) == list(range(MAX_GROUP + 10))
    assert group.database.groups == [0, MAX_GROUP, 10]


def test_writers_and_loggers_never_stop_each_other(group: Group) -> None:
    def work(place: int) -> None:
        for i in range(200):
            if place < 4:
                group.commit.write(_adding((place, i)))
            else:
                group.commit.write_later(_adding((place, i)))

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    group.commit.close()
    assert len(group.database.rows) == 7 * 200


def _adding(row: object) -> Callable[[Any], Any]:
    return lambda tx: tx.add(row)


def test_one_that_raises_after_writing_costs_the_others_only_time(group: Group) -> None:
    def bad(tx: Any) -> None:
        tx.add("bad")
        raise LookupError("mine")

    one, error, two = group.together([lambda tx: tx.add(1), bad, lambda tx: tx.add(2)])
    assert (one, two) == (1, 2)
    assert isinstance(error, LookupError)
    assert group.database.rows == [1, 2]
    assert group.database.groups == [0, 1, 1]


def test_one_that_refuses_before_writing_costs_nothing(group: Group) -> None:
    def refuse(tx: Any) -> None:
        raise JobNotFound("nobody")

    one, error, two = group.together([lambda tx: tx.add(1), refuse, lambda tx: tx.add(2)])
    assert (one, two) == (1, 2)
    assert isinstance(error, JobNotFound)
    assert group.database.groups == [0, 2]


def test_a_duplicate_is_tried_alone(group: Group) -> None:
    def insert_or_find(tx: Any) -> str:
        return "found" if "k" in group.database.rows else str(tx.add("k"))

    assert sorted(group.together([insert_or_find, insert_or_find])) == ["found", "k"]
    assert group.database.rows == ["k"]


def test_a_refused_commit_is_tried_again_and_then_given_up(group: Group) -> None:
    group.database.refuse_commits = 2
    assert group.commit.write(lambda tx: tx.add("a")) == "a"
    group.database.refuse_commits = 100
    with pytest.raises(StoreUnavailable, match="refused the transaction 4 times"):
        group.commit.write(lambda tx: tx.add("b"))
    assert group.database.rows == ["a"]


def test_a_database_that_is_away_fails_all_and_then_works_again(group: Group) -> None:
    group.database.away = True
    with pytest.raises(StoreUnavailable):
        group.commit.write(lambda tx: tx.add("a"))
    group.database.away = False
    assert group.commit.write(lambda tx: tx.add("b")) == "b"


def test_a_closed_store_takes_nothing_and_has_written_all(group: Group) -> None:
    for i in range(5):
        group.commit.write_later(lambda tx, i=i: tx.add(i))
    group.commit.close()
    assert group.database.rows == list(range(5))
    with pytest.raises(StoreUnavailable, match="closed"):
        group.commit.write(lambda tx: tx.add("a"))


def test_many_threads_lose_nothing(group: Group) -> None:
    def run(name: int) -> None:
        for i in range(200):
            group.commit.write(lambda tx, row=(name, i): tx.add(row))
            group.commit.write_later(lambda tx, row=(name, i, "later"): tx.add(row))

    threads = [threading.Thread(target=run, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    group.commit.close()
    assert len(group.database.rows) == len(set(group.database.rows)) == 8 * 400
    for name in range(8):
        mine = [row for row in group.database.rows if isinstance(row, tuple) and row[0] == name and len(row) == 2]
        assert mine == [(name, i) for i in range(200)]


def test_a_ride_is_taken_by_the_first_commit_that_makes_a_job_ready(group: Group) -> None:
    ride = group.commit.stand_by(lambda tx: tx.add("ride"))
    group.commit.write(lambda tx: tx.add("other"))
    assert group.database.rows == ["other"]
    group.commit.write(lambda tx: tx.add("ready 1"))
    group.commit.write(lambda tx: tx.add("ready 2"))
    assert group.database.rows == ["other", "ready 1", "ride", "ready 2"]
    assert ride.leave() == "ride"


def test_who_leaves_before_is_not_taken(group: Group) -> None:
    ride = group.commit.stand_by(lambda tx: tx.add("ride"))
    assert ride.leave() is None
    group.commit.write(lambda tx: tx.add("ready"))
    assert group.database.rows == ["ready"]


def test_one_commit_takes_one_ride(group: Group) -> None:
    rides = [group.commit.stand_by(lambda tx, i=i: tx.add(i)) for i in range(2)]
    group.commit.write(lambda tx: tx.add("ready"))
    assert [ride.leave() for ride in rides] == [0, None]


@pytest.mark.parametrize("refused", [1, 2])
def test_a_commit_that_fails_leaves_the_ride_where_it_was(group: Group, refused: int) -> None:
    ride = group.commit.stand_by(lambda tx: tx.add("ride"))
    group.database.refuse_commits = refused
    group.commit.write(lambda tx: tx.add("ready 1"))
    # Tried again without it: whoever submits must not pay for a neighbour.
    assert group.database.rows == ["ready 1"]
    group.commit.write(lambda tx: tx.add("ready 2"))
    assert group.database.rows == ["ready 1", "ready 2", "ride"]
    assert ride.leave() == "ride"


def test_a_ride_that_fails_costs_the_others_nothing(group: Group) -> None:
    def bad(tx: Any) -> None:
        raise ValueError("a claim that the database refuses")

    ride = group.commit.stand_by(bad)
    assert group.together([_adding("ready 1"), _adding("ready 2")]) == ["ready 1", "ready 2"]
    assert group.database.rows == ["ready 1", "ready 2"]
    assert ride.leave() is None


@pytest.mark.parametrize(("refused", "told", "rows"), [(0, "taken", ["ready"]), (1, None, ["ready"])])
def test_who_leaves_during_the_commit_waits_for_how_it_ends(
    group: Group, refused: int, told: str | None, rows: list[str]
) -> None:
    aboard, go = threading.Event(), threading.Event()

    def work(tx: Any) -> str:
        aboard.set()
        assert go.wait(20)
        return "taken"

    ride = group.commit.stand_by(work)
    group.database.refuse_commits = refused
    left: list[Any] = []
    writer = threading.Thread(target=group.commit.write, args=(lambda tx: tx.add("ready"),))
    leaver = threading.Thread(target=lambda: left.append(ride.leave()), daemon=True)
    writer.start()
    assert aboard.wait(20)
    leaver.start()
    wait_until(lambda: ride.leaving is not None, what="it to wait")
    go.set()
    writer.join(20)
    leaver.join(20)
    assert left == [told]
    assert group.database.rows == rows
    assert not group.commit._standing_by


def test_a_database_that_goes_away_is_waited_for_once(group: Group) -> None:
    """A group that fails is tried one by one; the first that finds nobody there answers for the others."""
    opened: list[int] = []
    original = group.database.open

    def open_unit() -> Unit:
        opened.append(1)
        return original()

    group.commit._open_unit = open_unit

    def fails_and_goes(tx: Any) -> None:
        group.database.away = True
        raise RetryAlone("the connection is gone")

    answers = group.together([_adding("a"), fails_and_goes, _adding("b")])
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    # The leader's own, the group's, and one more.
    assert len(opened) == 2 + 1


def test_riders_come_and_go_beside_many_writers(group: Group) -> None:
    """Everybody who was told that his ride was committed finds it, once; nobody else finds his."""
    taken: list[tuple[int, int]] = []
    done = threading.Event()

    def rider(name: int) -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            ride = group.commit.stand_by(lambda tx, row=(name, turn): tx.add(row))
            found = ride.leave()
            if found is not None:
                taken.append(found)

    riders = [threading.Thread(target=rider, args=(name,)) for name in range(2)]
    for thread in riders:
        thread.start()
    writers = [
        threading.Thread(target=lambda n=n: [group.commit.write(_adding(f"ready {n} {i}")) for i in range(100)])
        for n in range(4)
    ]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(60)
    done.set()
    for thread in riders:
        thread.join(60)
    assert sorted(taken) == sorted(row for row in group.database.rows if isinstance(row, tuple))
    assert len([row for row in group.database.rows if isinstance(row, str)]) == 400
