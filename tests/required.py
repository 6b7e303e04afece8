"""What a test needs of the machine: a laptop may lack it, continuous integration may not."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip here, fail in CI: a service that a machine lacks may excuse a laptop, never the gate."""
    if os.environ.get("CI", "").lower() in {"true", "1", "yes"}:
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)
