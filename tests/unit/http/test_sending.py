from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from headway.http.schemas import MAX_SECONDS, SubmitIn
from headway.http.sending import Send
from headway.model.times import LAST_MOMENT

BACKOFF = {"kind": "fixed", "base_seconds": 1.0, "cap_seconds": 2.0, "jitter": 0.0}


@pytest.mark.parametrize(
    "field",
    [
        {"run_at": -1},
        {"run_at": LAST_MOMENT + 1},
        {"expires_at": -1},
        {"expires_at": LAST_MOMENT + 1},
        {"timeout_seconds": -1},
        {"timeout_seconds": MAX_SECONDS + 1},
        {"timeout_seconds": float("inf")},
        {"backoff": {**BACKOFF, "base_seconds": MAX_SECONDS + 1}},
        {"backoff": {**BACKOFF, "cap_seconds": float("nan")}},
    ],
)
def test_a_send_outside_the_bounds_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Send.model_validate({"task": "t", **field})


@pytest.mark.parametrize(
    "field",
    [
        {"run_at": "9999-12-31T23:59:59-14:00"},
        {"expires_at": "9999-12-31T23:59:59-00:01"},
        {"timeout_seconds": MAX_SECONDS + 1},
        {"backoff": {**BACKOFF, "base_seconds": MAX_SECONDS + 1}},
        {"backoff": {**BACKOFF, "cap_seconds": 1e30}},
    ],
)
def test_a_submission_outside_the_bounds_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SubmitIn.model_validate({"task": "t", **field})


def test_the_bounds_themselves_are_accepted() -> None:
    backoff = {**BACKOFF, "base_seconds": MAX_SECONDS, "cap_seconds": MAX_SECONDS}
    sent = Send.model_validate(
        {"task": "t", "run_at": 0, "expires_at": LAST_MOMENT, "timeout_seconds": MAX_SECONDS, "backoff": backoff}
    )
    assert sent.expires_at == LAST_MOMENT
    asked = SubmitIn.model_validate(
        {"task": "t", "expires_at": "9999-12-31T23:59:59.999999Z", "timeout_seconds": MAX_SECONDS, "backoff": backoff}
    )
    assert asked.expires_at == LAST_MOMENT
