"""When a worker of which nothing is heard is called silent, and when gone."""

from __future__ import annotations

from typing import Any

import pytest

from headway.model.observed import GONE_SECONDS, SILENT_SECONDS, SOLO_GONE_SECONDS
from tests.observations import NOW, SECOND, worker


@pytest.mark.parametrize(
    ("facts", "silent_after", "gone_after"),
    [
        ({}, SILENT_SECONDS, GONE_SECONDS),
        ({"freq": 2.0, "pool": "prefork"}, SILENT_SECONDS, GONE_SECONDS),
        ({"freq": 10}, 30, 90),
        # It says nothing while it runs a task.
        ({"freq": 2.0, "pool": "solo"}, SILENT_SECONDS, SOLO_GONE_SECONDS),
        ({"freq": 3600, "pool": "solo"}, 3 * 3600, 9 * 3600),
    ],
)
def test_a_worker_is_silent_and_then_gone(facts: dict[str, Any], silent_after: float, gone_after: float) -> None:
    one = worker("one@host", NOW, **facts)
    for seconds, standing in (
        (silent_after, "online"),
        (silent_after + 1, "silent"),
        (gone_after, "silent"),
        (gone_after + 1, "gone"),
    ):
        assert one.standing(NOW + round(seconds * SECOND)) == standing
