"""Waiting in tests: on a condition, with a deadline, never for a fixed time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, what: str, seconds: float = 10.0, every: float = 0.01) -> T:
    """Ask `condition` until its answer is true, and return that answer.

    Args:
        condition: asked at once and then every `every` seconds; an exception it raises ends the wait.
        what: what is waited for, for the failure's text.
        seconds: the deadline.
        every: seconds between two questions.

    Raises:
        AssertionError: the deadline passed; the text holds the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}; the last answer was {answer!r}")
        time.sleep(every)
