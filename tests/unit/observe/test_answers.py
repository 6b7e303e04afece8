"""What workers answer to a question, and what is no answer."""

from __future__ import annotations

import pytest

from headway.observe.answers import answer_of
from headway.observe.tallies import Answer


def test_what_is_compared_with_what_was_heard() -> None:
    said = {"pid": 7, "total": {"app.add": 3, "app.fail": 2, "odd": "x"}, "uptime": 90}
    assert answer_of(said, 10.0) == Answer(7, 5, 90, 10.0)
    assert answer_of({"pid": 7, "total": {}}, 10.0) == Answer(7, 0, None, 10.0), (
        "Celery before 5 does not say its uptime"
    )


@pytest.mark.parametrize(
    "said", [{"error": "RuntimeError()"}, {"pid": 7}, {"total": {"a": 1}}, {"pid": "7", "total": {}}, None, [], "stats"]
)
def test_what_is_no_answer_is_no_zero(said: object) -> None:
    assert answer_of(said, 10.0) is None
