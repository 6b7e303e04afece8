"""The buffer between hearing and storing: its bounds, and that nothing is dropped without being counted."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.observe.buffer import Asked, Buffer, Connected, Dropped, Item, Lost
from headway.observe.sources import Raw
from tests.waiting import wait_until


def raw(text: str = "{}", tag: int = 0) -> Raw:
    return Raw(text.encode(), "application/json", "utf-8", tag)


def taken(buffer: Buffer, limit: int = 1_000) -> list[Item]:
    return [item for item, _ in buffer.take(limit, 0)]


def test_what_was_heard_comes_out_in_order_with_the_moment_it_was_heard_at() -> None:
    buffer = Buffer()
    buffer.note(Connected(1, kept=False))
    buffer.put([raw("a"), raw("b")], 2)
    buffer.put([raw("c")], 3)
    buffer.note(Lost(4, "gone"))
    assert buffer.waiting == 5
    assert buffer.take(3, 0) == [(Connected(1, kept=False), 1), (raw("a"), 2), (raw("b"), 2)]
    assert buffer.take(9, 0) == [(raw("c"), 3), (Lost(4, "gone"), 4)]
    assert buffer.take(9, 0) == []


def test_beyond_its_messages_it_drops_and_says_how_many_and_when() -> None:
    buffer = Buffer(max_messages=2)
    buffer.put([raw("a"), raw("b"), raw("c")], 10)
    buffer.put([raw("d")], 20)
    assert taken(buffer, 1) == [raw("a")]
    buffer.put([raw("e")], 30)
    assert taken(buffer) == [raw("b"), Dropped(10, 20, 2), raw("e")]


def test_beyond_its_bytes_it_drops_and_has_room_again_once_they_are_taken() -> None:
    buffer = Buffer(max_bytes=2_000)
    buffer.put([raw("x" * 1_200), raw("y" * 1_200), raw("z")], 1)
    # Not before half of it is free again: one loss is one gap.
    assert taken(buffer) == [raw("x" * 1_200)]
    assert taken(buffer) == [Dropped(1, 1, 2)]
    for at in range(2, 50):
        buffer.put([raw("x" * 1_200)], at)
        assert taken(buffer) == [raw("x" * 1_200)]


def test_what_was_dropped_last_is_said_although_nothing_comes_after_it() -> None:
    buffer = Buffer(max_messages=1)
    buffer.put([raw("a"), raw("b")], 1)
    assert taken(buffer) == [raw("a")]
    assert taken(buffer) == [Dropped(1, 1, 1)]
    assert taken(buffer) == []


def test_there_is_always_room_for_what_happened_to_the_connection_and_a_loss_is_said_before_it() -> None:
    buffer = Buffer(max_messages=1)
    buffer.put([raw("a"), raw("b")], 1)
    buffer.note(Lost(2, "gone"))
    buffer.note(Connected(3, kept=False))
    assert taken(buffer) == [raw("a"), Dropped(1, 1, 1), Lost(2, "gone"), Connected(3, kept=False)]


def test_for_what_workers_answered_there_is_room_only_where_nothing_is_dropped() -> None:
    buffer = Buffer(max_messages=2)
    asked = Asked(1, 2, {})
    buffer.put([raw("a")], 1)
    buffer.note(asked)
    buffer.note(asked)
    buffer.put([raw("b")], 3)
    buffer.note(asked)
    assert taken(buffer) == [raw("a"), asked]
    buffer.note(asked)
    assert taken(buffer) == [Dropped(3, 3, 1)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=40), st.integers(1, 6))
def test_what_comes_out_and_what_was_dropped_is_all_that_was_put_in(steps: list[tuple[int, int]], most: int) -> None:
    buffer, put, found = Buffer(max_messages=most), 0, list[Item]()
    for at, (messages, take) in enumerate(steps):
        buffer.put([raw(f"{put + number}") for number in range(messages)], at)
        put += messages
        if take:
            found += taken(buffer, take)
        assert buffer.waiting <= most + 1
    while rest := taken(buffer):
        found += rest
    messages_out = [int(one.body) for one in found if isinstance(one, Raw)]
    assert messages_out == sorted(set(messages_out))
    assert len(messages_out) + sum(one.messages for one in found if isinstance(one, Dropped)) == put


@pytest.mark.parametrize("wake", ["put", "note", "wake"])
def test_whoever_waits_is_woken_by_what_comes_and_by_being_told_to_look(wake: str) -> None:
    buffer, took = Buffer(), list[float]()

    def wait() -> None:
        began = time.monotonic()
        buffer.take(1, 30)
        took.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: buffer._filled._waiters, what="somebody to wait")  # type: ignore[attr-defined]
    if wake == "put":
        buffer.put([raw()], 1)
    elif wake == "note":
        buffer.note(Lost(1, ""))
    else:
        buffer.wake()
    thread.join(20)
    assert took
    assert took[0] < 20
