"""The machine's own clock and ids where the conformance suite cannot look: clocks that jump, forks of time."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from headway.system import SystemClock, SystemIds


def test_ids_go_on_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = SystemIds()
    first = ids.new_id()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    later = [ids.new_id() for _ in range(5_000)]
    assert [first, *later] == sorted({first, *later})


def test_more_ids_than_fit_a_millisecond_borrow_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    ids = SystemIds()
    made = [ids.new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert [UUID(text).int >> 80 for text in (made[0], made[-1])] == [1_700_000_000_000, 1_700_000_000_002]
    assert all(UUID(text).version == 7 for text in made[::100])


def test_wall_time_is_utc_microseconds() -> None:
    before = time.time()
    assert before - 0.001 <= SystemClock().now() / 1_000_000 <= time.time() + 0.001
