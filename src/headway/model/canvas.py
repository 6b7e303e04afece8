"""What the parts of a canvas are called where engine, service and store must agree on it."""

from __future__ import annotations

from typing import Final

AWAITS_SEND: Final = "send:"
"""What a job waits for that will be sent again, before its own id: no group's id begins like this."""

LAST_PLACE: Final = 2**31 - 1
"""Where the result of a part stands that has no place in its group."""


def results_of(join_id: str) -> str:
    """What stands in the arguments of a job that waits for a join, until the results of its parts do."""
    return f"headway:results-of:{join_id}"


def awaits_send(job_id: str) -> str:
    """What a job waits for that will be sent again by the chain that replaced it."""
    return f"{AWAITS_SEND}{job_id}"
