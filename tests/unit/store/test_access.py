"""Look-up connections: kept, bounded, and asked anew once when they were lost while idle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from headway.model.errors import StoreUnavailable
from headway.store import access
from headway.store.access import Access, LookUps
from headway.store.prepared import Prepared
from headway.store.sqlite import sqlite_engine
from tests.waiting import wait_until

BOUND = 3


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = sqlite_engine(tmp_path / "some.db", read_only=True)
    yield made
    made.dispose()


@pytest.fixture
def look_ups(engine: Engine) -> Iterator[LookUps]:
    made = LookUps(engine, BOUND)
    yield made
    made.drop_idle()


@pytest.fixture
def one(engine: Engine) -> Prepared:
    return Prepared(sa.select(sa.literal_column("1")), engine.dialect)


def opened(engine: Engine) -> list[Any]:
    """Every connection that the engine opens from now on."""
    found: list[Any] = []
    sa.event.listen(engine, "connect", lambda connection, _: found.append(connection))
    return found


def test_one_connection_serves_one_read_after_the_other(engine: Engine, look_ups: LookUps, one: Prepared) -> None:
    made = opened(engine)
    for _ in range(5):
        with Access(engine, look_ups) as reading:
            assert reading.rows(one, {}) == [(1,)]
            assert reading.rows(one, {}) == [(1,)]
    assert len(made) == 1


def test_lost_while_idle_is_asked_once_more_and_the_others_are_not_tried(
    engine: Engine, look_ups: LookUps, one: Prepared
) -> None:
    made = opened(engine)
    taken = [look_ups.take()[0] for _ in range(BOUND)]
    for connection in taken:
        look_ups.give_back(connection)
    for connection in made:
        connection.close()
    with Access(engine, look_ups) as reading:
        assert reading.rows(one, {}) == [(1,)]
    assert len(made) == BOUND + 1
    assert len(look_ups._idle) == 1


def test_what_is_wrong_itself_is_asked_twice_at_most(engine: Engine, look_ups: LookUps) -> None:
    asked: list[int] = []

    class Wrong(Prepared):
        def rows(self, cursor: Any, parameters: Any) -> list[tuple[Any, ...]]:
            asked.append(1)
            return super().rows(cursor, parameters)

    wrong = Wrong(sa.text("SELECT x FROM nowhere"), engine.dialect)
    for connection in [look_ups.take()[0] for _ in range(BOUND)]:
        look_ups.give_back(connection)
    with pytest.raises(Exception, match="nowhere"), Access(engine, look_ups) as reading:
        reading.rows(wrong, {})
    assert len(asked) == 2
    assert not look_ups._idle


def test_who_finds_no_place_waits_and_is_refused_at_last(
    engine: Engine, look_ups: LookUps, one: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = opened(engine)
    go = threading.Event()
    inside: list[int] = []

    def hold() -> None:
        with Access(engine, look_ups) as reading:
            reading.rows(one, {})
            inside.append(1)
            assert go.wait(20)

    threads = [threading.Thread(target=hold) for _ in range(BOUND)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(inside) == BOUND, what="all places to be taken")
    monkeypatch.setattr(access, "_WAIT_SECONDS", 0.05)
    with pytest.raises(StoreUnavailable, match="became free"), Access(engine, look_ups) as reading:
        reading.rows(one, {})
    go.set()
    for thread in threads:
        thread.join(20)
    with Access(engine, look_ups) as reading:
        assert reading.rows(one, {}) == [(1,)]
    assert len(made) == BOUND


def test_a_place_is_given_back_whatever_the_other_connection_does(
    engine: Engine, look_ups: LookUps, one: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise OSError("the server is gone")

    for _ in range(BOUND + 1):
        reading = Access(engine, look_ups).__enter__()
        reading.rows(one, {})
        with monkeypatch.context() as patched:
            patched.setattr(type(reading.connection), "close", broken)
            with pytest.raises(OSError, match="gone"):
                reading.__exit__(None, None, None)
        reading.connection.close()
