"""What a Celery cluster can say of a task, and THE table of what each saying means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from headway.model.states import JobState


class Said(StrEnum):
    """Who said it, and what: Celery's task events, a worker that was asked, or the result backend.

    The values are what a trail stores, so they never change.
    """

    SENT = "sent"
    RECEIVED = "received"
    STARTED = "started"
    RETRIED = "retried"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVOKED = "revoked"
    REJECTED = "rejected"
    REQUEUED = "requeued"  # task-rejected with requeue: back to its queue
    SEEN_WAITING = "seen_waiting"  # a worker that was asked holds it (reserved or scheduled)
    SEEN_RUNNING = "seen_running"  # a worker that was asked runs it
    RESULT_STARTED = "result_started"  # the result backend, while it runs (task_track_started)
    RESULT_RETRY = "result_retry"
    RESULT_SUCCESS = "result_success"
    RESULT_FAILURE = "result_failure"
    RESULT_REVOKED = "result_revoked"
    RESULT_REJECTED = "result_rejected"


class CeleryState(StrEnum):
    """States as Celery spells them."""

    PENDING = "PENDING"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    RETRY = "RETRY"
    REJECTED = "REJECTED"
    REVOKED = "REVOKED"
    FAILURE = "FAILURE"
    SUCCESS = "SUCCESS"


class Meaning(NamedTuple):
    """What one saying means.

    Attributes:
        state: the state that it is evidence of.
        rank: within one run of the task (its first try, its first retry …) the later of two; ends are later than all.
        ends: whether nothing follows it.
    """

    state: CeleryState
    rank: int
    ends: bool


_C = CeleryState
# Of two ends the one that the result backend keeps: a success is never overwritten there, a failure is.
MEANINGS: Final[Mapping[Said, Meaning]] = {
    Said.SENT: Meaning(_C.PENDING, 0, False),
    Said.REQUEUED: Meaning(_C.PENDING, 0, False),
    Said.RECEIVED: Meaning(_C.RECEIVED, 1, False),
    Said.SEEN_WAITING: Meaning(_C.RECEIVED, 1, False),
    Said.STARTED: Meaning(_C.STARTED, 2, False),
    Said.SEEN_RUNNING: Meaning(_C.STARTED, 2, False),
    Said.RESULT_STARTED: Meaning(_C.STARTED, 2, False),
    Said.RETRIED: Meaning(_C.RETRY, 3, False),
    Said.RESULT_RETRY: Meaning(_C.RETRY, 3, False),
    Said.REJECTED: Meaning(_C.REJECTED, 1, True),
    Said.RESULT_REJECTED: Meaning(_C.REJECTED, 1, True),
    Said.REVOKED: Meaning(_C.REVOKED, 2, True),
    Said.RESULT_REVOKED: Meaning(_C.REVOKED, 2, True),
    Said.FAILED: Meaning(_C.FAILURE, 3, True),
    Said.RESULT_FAILURE: Meaning(_C.FAILURE, 3, True),
    Said.SUCCEEDED: Meaning(_C.SUCCESS, 4, True),
    Said.RESULT_SUCCESS: Meaning(_C.SUCCESS, 4, True),
}

EVENTS: Final[Mapping[str, Said]] = {
    "task-sent": Said.SENT,
    "task-received": Said.RECEIVED,
    "task-started": Said.STARTED,
    "task-retried": Said.RETRIED,
    "task-succeeded": Said.SUCCEEDED,
    "task-failed": Said.FAILED,
    "task-revoked": Said.REVOKED,
    "task-rejected": Said.REJECTED,
}
"""Celery's events; ``task-rejected`` with ``requeue`` is ``REQUEUED``."""

COUNTED: Final[frozenset[Said]] = frozenset(EVENTS.values()) | {Said.REQUEUED}
"""What the counters of ``/metrics`` count: events, never what was found out afterwards."""

RESULTS: Final[Mapping[str, Said]] = {
    "STARTED": Said.RESULT_STARTED,
    "RETRY": Said.RESULT_RETRY,
    "SUCCESS": Said.RESULT_SUCCESS,
    "FAILURE": Said.RESULT_FAILURE,
    "REVOKED": Said.RESULT_REVOKED,
    "REJECTED": Said.RESULT_REJECTED,
}
"""States in a result backend; others are custom ones, which mean that it runs."""

ENDED: Final = 1_000_000
"""Rank from which a task has ended."""
TERMINAL: Final[frozenset[CeleryState]] = frozenset(m.state for m in MEANINGS.values() if m.ends)
OUR_STATE: Final[Mapping[CeleryState, JobState]] = {
    _C.PENDING: JobState.QUEUED,
    _C.RECEIVED: JobState.QUEUED,
    _C.STARTED: JobState.RUNNING,
    _C.RETRY: JobState.RETRY_SCHEDULED,
    _C.SUCCESS: JobState.SUCCEEDED,
    _C.FAILURE: JobState.FAILED,
    _C.REVOKED: JobState.CANCELLED,
    _C.REJECTED: JobState.FAILED,
}
"""What the state of an observed task is called beside those of jobs."""

_RESULTS: Final = frozenset(RESULTS.values())


def unnamed(said: Iterable[str]) -> str:
    """Why nobody knows the name of a task that has ended, from all that was said of it.

    Args:
        said: values of ``Said``, an end among them.
    """
    sayings = [Said(one) for one in said]
    ends = [one for one in sayings if MEANINGS[one].ends]
    if not ends:
        return ""
    best = max(MEANINGS[one].rank for one in ends)
    decisive = [one for one in ends if MEANINGS[one].rank == best]
    if all(one in _RESULTS for one in sayings):
        return "found afterwards: only its result is known, and a result names no task"
    if all(one in _RESULTS for one in decisive):
        return "its end was found afterwards, by its result; nothing that was heard of it names the task"
    if len(sayings) == 1:
        return f"{decisive[0].value} before anything else was heard of it; the event names no task"
    return "the events that were heard of it name no task"
