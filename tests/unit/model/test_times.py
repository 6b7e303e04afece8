from __future__ import annotations

import pytest

from headway.model.times import LAST_MOMENT, from_rfc3339, to_rfc3339


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_772_366_400_123_456, "2026-03-01T12:00:00.123456Z"),
        (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
        (LAST_MOMENT, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_is_told_and_read_back(at: int, text: str) -> None:
    assert to_rfc3339(at) == text
    assert from_rfc3339(text) == at


@pytest.mark.parametrize("at", [LAST_MOMENT + 1, 2**63 - 1, 10**30])
def test_a_time_after_the_last_is_told_as_the_last(at: int) -> None:
    assert to_rfc3339(at) == "9999-12-31T23:59:59.999999Z"


@pytest.mark.parametrize("at", [-62_135_596_800_000_001, -(2**63), -(10**30)])
def test_a_time_before_the_first_is_told_as_the_first(at: int) -> None:
    assert to_rfc3339(at) == "0001-01-01T00:00:00.000000Z"
