"""Positions of the feed go on, whatever was given up, purged or closed before."""

from __future__ import annotations

import pytest

from headway.model.states import JobState
from headway.ports.store import Tx
from headway.service import feed_bounds, read_events
from headway.testing import check_invariants
from tests.conformance.conftest import Database, House, begin_one, build_house, succeed

FAR = 2**62


def positions(house: House) -> list[int]:
    """All positions that a reader is given."""
    while house.store.number_events():
        pass
    return [event.pos for event in read_events(house.ctx, 0, 1000)]


def ended(house: House) -> None:
    """Submit a job and end it: three events."""
    house.submit()
    door = house.door("w")
    assert succeed(door, begin_one(door)).state is JobState.SUCCEEDED


def test_a_transaction_that_is_given_up_takes_no_position(house: House) -> None:
    ended(house)

    def broken(tx: Tx) -> None:
        tx.claim("w", 1, "test")
        raise RuntimeError("on purpose")

    house.submit()
    with pytest.raises(RuntimeError):
        house.store.write(broken)
    ended(house)
    assert positions(house) == [1, 2, 3, 4, 5, 6, 7]
    check_invariants(house.store)


def test_positions_go_on_after_the_newest_events_were_purged(house: House, database: Database) -> None:
    ended(house)
    assert positions(house) == [1, 2, 3]
    house.store.write(lambda tx: tx.purge(FAR, 100))
    assert positions(house) == []
    assert feed_bounds(house.ctx) == (3, 3)
    ended(house)
    assert positions(house) == [4, 5, 6]
    house.store.write(lambda tx: tx.purge(FAR, 100))
    house.store.close()
    again = build_house(database.open(), house.folder)
    again.workers.add("w")
    assert feed_bounds(again.ctx) == (6, 6)
    ended(again)
    assert positions(again) == [7, 8, 9]
    assert feed_bounds(again.ctx) == (6, 9)
    check_invariants(again.store)


def test_the_mark_of_what_was_purged_never_goes_back(house: House) -> None:
    ended(house)
    ended(house)
    assert positions(house) == [1, 2, 3, 4, 5, 6]
    newest = read_events(house.ctx, 5, 1)[0].job_id
    # The newer job first, as if the clock had been wrong when the older one ended.
    house.store.write(
        lambda tx: tx._cursor.execute(f"UPDATE jobs SET finished_at = 1 WHERE id = '{newest}'")  # type: ignore[attr-defined]
    )
    house.store.write(lambda tx: tx.purge(2, 100))
    assert feed_bounds(house.ctx) == (6, 6)
    house.store.write(lambda tx: tx.purge(FAR, 100))
    assert feed_bounds(house.ctx) == (6, 6)
