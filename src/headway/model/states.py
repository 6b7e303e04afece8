"""THE transition table. Nothing else decides how a job moves from one state to another.

Database checks, API enums, page colours, metric labels and the picture in the docs are derived from
``TRANSITIONS`` and ``STATE_VIEWS``; tests hold each derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. Each member says who moves it on."""

    SCHEDULED = "scheduled"  # not yet due: the due loop; or it waits for other jobs: the end of the last of them
    QUEUED = "queued"  # a worker that begins it
    RUNNING = "running"  # the holder of the fence
    RETRY_SCHEDULED = "retry_scheduled"  # the due loop
    SUCCEEDED = "succeeded"  # nobody: terminal
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


class AttemptOutcome(StrEnum):
    """How one attempt ended; richer than the state of its job."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"  # its worker was lost; another attempt took over
    INTERRUPTED = "interrupted"  # a shutdown stopped it; costs no try
    RETRIED = "retried"
    REPLACED = "replaced"
    IGNORED = "ignored"
    REJECTED = "rejected"


class Verb(StrEnum):
    """Everything that can move a job."""

    SUBMIT = "submit"
    SCHEDULE = "schedule"
    ENQUEUE = "enqueue"
    BEGIN = "begin"
    SUCCEED = "succeed"
    FAIL = "fail"
    TIME_OUT = "time_out"
    RETRY = "retry"
    REPLACE = "replace"
    WAIT = "wait"
    REQUEUE = "requeue"
    INTERRUPT = "interrupt"
    RESCUE = "rescue"
    LOSE = "lose"
    CANCEL = "cancel"
    STOP = "stop"
    EXPIRE = "expire"
    BREAK = "break"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table.

    Attributes:
        verb: what is done.
        from_states: states in which it may be done; empty for the verbs that create a job.
        to_state: the state entered.
        event: name of the feed's event, which is the state entered.
        needs_fence: whether only the holder of the job's current fence may do it.
        stamps: time columns of the job set by it.
    """

    verb: Verb
    from_states: tuple[JobState, ...]
    to_state: JobState
    event: str
    needs_fence: bool
    stamps: tuple[str, ...]


_S = JobState
_WAITING = (_S.SCHEDULED, _S.QUEUED, _S.RETRY_SCHEDULED)

TRANSITIONS: tuple[Transition, ...] = (
    Transition(Verb.SUBMIT, (), _S.QUEUED, "queued", False, ("submitted_at", "queued_at")),
    Transition(Verb.SCHEDULE, (), _S.SCHEDULED, "scheduled", False, ("submitted_at",)),
    Transition(Verb.ENQUEUE, (_S.SCHEDULED, _S.RETRY_SCHEDULED), _S.QUEUED, "queued", False, ("queued_at",)),
    Transition(Verb.BEGIN, (_S.QUEUED,), _S.RUNNING, "running", False, ("started_at", "heartbeat_at")),
    Transition(Verb.SUCCEED, (_S.RUNNING,), _S.SUCCEEDED, "succeeded", True, ("finished_at",)),
    Transition(Verb.FAIL, (_S.RUNNING,), _S.FAILED, "failed", True, ("finished_at",)),
    Transition(Verb.TIME_OUT, (_S.RUNNING,), _S.TIMEOUT, "timeout", True, ("finished_at",)),
    Transition(Verb.RETRY, (_S.RUNNING,), _S.RETRY_SCHEDULED, "retry_scheduled", True, ()),
    Transition(Verb.REPLACE, (_S.RUNNING,), _S.QUEUED, "queued", True, ("queued_at",)),
    # Replaced by a chain or a group: it waits for what comes before its own turn.
    Transition(Verb.WAIT, (_S.RUNNING,), _S.SCHEDULED, "scheduled", True, ()),
    Transition(Verb.REQUEUE, (_S.RUNNING,), _S.QUEUED, "queued", True, ("queued_at",)),
    Transition(Verb.INTERRUPT, (_S.RUNNING,), _S.QUEUED, "queued", True, ("queued_at",)),
    Transition(Verb.RESCUE, (_S.RUNNING,), _S.QUEUED, "queued", True, ("queued_at",)),
    Transition(Verb.LOSE, (_S.RUNNING,), _S.FAILED, "failed", True, ("finished_at",)),
    Transition(Verb.CANCEL, _WAITING, _S.CANCELLED, "cancelled", False, ("finished_at",)),
    Transition(Verb.STOP, (_S.RUNNING,), _S.CANCELLED, "cancelled", True, ("finished_at",)),
    Transition(Verb.EXPIRE, _WAITING, _S.CANCELLED, "cancelled", False, ("finished_at",)),
    # What it waited for can no longer come.
    Transition(Verb.BREAK, (_S.SCHEDULED,), _S.FAILED, "failed", False, ("finished_at",)),
)


@dataclass(frozen=True, slots=True)
class StateView:
    """How one state is spelled elsewhere: in the documents, by Celery, in the situation report."""

    state: JobState
    document: str
    celery: str
    sitrep: str
    meaning: str


STATE_VIEWS: tuple[StateView, ...] = (
    StateView(_S.SCHEDULED, "queued", "PENDING", "pending", "accepted, not yet due"),
    StateView(_S.QUEUED, "queued", "PENDING", "pending", "waiting for a worker"),
    StateView(_S.RUNNING, "running", "STARTED", "in_progress", "an attempt holds the fence"),
    StateView(_S.RETRY_SCHEDULED, "running", "RETRY", "in_progress", "waiting for its next try"),
    StateView(_S.SUCCEEDED, "succeeded", "SUCCESS", "completed", "ended with a result"),
    StateView(_S.FAILED, "failed", "FAILURE", "failed", "ended with an error"),
    StateView(_S.TIMEOUT, "timeout", "FAILURE", "failed", "ended because its time was over"),
    StateView(_S.CANCELLED, "cancelled", "REVOKED", "cancelled", "ended because somebody asked, or it expired"),
)

BY_VERB: dict[Verb, Transition] = {row.verb: row for row in TRANSITIONS}
VIEW: dict[JobState, StateView] = {view.state: view for view in STATE_VIEWS}

TERMINAL_STATES: frozenset[JobState] = frozenset(
    state for state in JobState if not any(state in row.from_states for row in TRANSITIONS)
)
LIVE_STATES: frozenset[JobState] = frozenset(JobState) - TERMINAL_STATES


def states_named(name: str) -> tuple[JobState, ...]:
    """States meant by a name in our spelling (``failed``) or in Celery's (``FAILURE``).

    Args:
        name: a state's name, ours in any case, Celery's in upper case.

    Returns:
        The states; empty when nobody knows the name.
    """
    if name.lower() in JobState.__members__.values() and name.upper() != name:
        return (JobState(name.lower()),)
    by_celery = tuple(view.state for view in STATE_VIEWS if view.celery == name.upper())
    if by_celery:
        return by_celery
    return (JobState(name.lower()),) if name.lower() in JobState.__members__.values() else ()
