"""What must hold of everything that a store has recorded, whatever happened to the processes that wrote it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from headway.model.commands import ListJobs
from headway.model.job import Attempt, Event, Job
from headway.model.states import BY_VERB, TERMINAL_STATES, AttemptOutcome, JobState, Verb
from headway.ports.store import Reader, Store

_PAGE = 1000
_EVENTS = 10_000
_SHOWN = 20
_GOOD = (AttemptOutcome.SUCCEEDED, AttemptOutcome.IGNORED)


class InvariantBroken(AssertionError):
    """Something that must always hold does not; the text lists what, job by job."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What was looked at, so that a test can see that there was something to look at."""

    jobs: dict[JobState, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    events: int = 0
    newest: int = 0
    rescues: int = 0
    joins: int = 0

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(self.jobs.values())

    @property
    def ended(self) -> int:
        """Jobs in a terminal state."""
        return sum(number for state, number in self.jobs.items() if state in TERMINAL_STATES)

    def __str__(self) -> str:
        jobs = ", ".join(f"{number} {state}" for state, number in sorted(self.jobs.items()))
        attempts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(self.attempts.items()))
        return (
            f"{self.total} jobs ({jobs}); {sum(self.attempts.values())} attempts ({attempts}); "
            f"{self.events} events up to position {self.newest}; {self.rescues} rescues; {self.joins} joins"
        )


def check_invariants(store: Store) -> Counted:
    """Read everything that the store has recorded and check that it fits together; for a store at rest.

    Checked: each job's events are a way through the transition table that ends in its state; a terminal state has
    ``finished_at`` and nothing after it; every begun fence has exactly one attempt and fences grow by one; only the
    newest attempt of a running job is open; a succeeded job has exactly one good attempt, every other job none;
    tries and rescues are counted right; the feed has every position above its purged bound once, in order; a join
    whose parts have all ended has ended, and no job waits for one that has.

    Args:
        store: nobody may write to it meanwhile. Every job is read, so this is for tests, not for service.

    Returns:
        What was counted; printing it shows that something was checked.

    Raises:
        InvariantBroken: with what is wrong.
    """
    while store.number_events():
        pass
    return store.read(_check)


def _check(reader: Reader) -> Counted:
    jobs = {job.id: job for job in _all_jobs(reader)}
    purged, newest = reader.feed_bounds()
    by_job: dict[str, list[Event]] = defaultdict(list)
    wrong: list[str] = []
    events, last = 0, purged
    for event in _all_events(reader):
        events += 1
        by_job[event.job_id].append(event)
        if event.pos > purged:
            if event.pos != last + 1:
                wrong.append(f"feed: position {event.pos} follows {last}")
            last = event.pos
    wrong += [f"feed: events of {job_id}, which is no job" for job_id in by_job if job_id not in jobs]
    outcomes: Counter[str] = Counter()
    for job in jobs.values():
        attempts = reader.attempts(job.id)
        outcomes.update(str(attempt.outcome or "open") for attempt in attempts)
        wrong += [f"{job.id} ({job.state}): {what}" for what in _wrong(job, by_job[job.id], attempts)]
    waits = reader.waits()
    wrong += [f"join {join_id}: all its parts have ended, but it has not" for join_id in waits.overdue]
    wrong += [f"join {join_id}: it counts other parts than it has" for join_id in waits.miscounted]
    wrong += [f"{job_id}: it waits for a join that is not open" for job_id in waits.stranded]
    counted = Counted(
        jobs=dict(Counter(job.state for job in jobs.values())),
        attempts=dict(outcomes),
        events=events,
        newest=newest,
        rescues=sum(job.rescues for job in jobs.values()),
        joins=waits.joins,
    )
    if wrong:
        more = f"\n… and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InvariantBroken(f"{len(wrong)} things are wrong in {counted}:\n" + "\n".join(wrong[:_SHOWN]) + more)
    return counted


def _wrong(job: Job, events: list[Event], attempts: list[Attempt]) -> Iterator[str]:
    yield from _wrong_times(job)
    yield from _wrong_way(job, events)
    yield from _wrong_attempts(job, events, attempts)


def _wrong_times(job: Job) -> Iterator[str]:
    if (job.finished_at is not None) != (job.state in TERMINAL_STATES):
        yield f"finished_at is {job.finished_at}"
    if job.state is JobState.RUNNING and (job.worker_id is None or job.heartbeat_at is None):
        yield "it is running without a worker or a heartbeat"


def _wrong_way(job: Job, events: list[Event]) -> Iterator[str]:
    state: JobState | None = None
    for event in events:
        row = BY_VERB.get(Verb(event.verb))
        if row is None or (state not in row.from_states if state is not None else bool(row.from_states)):
            yield f"event {event.pos}: {event.verb} cannot follow {state}"
        elif event.state != row.to_state:
            yield f"event {event.pos}: {event.verb} says {event.state}"
        state = event.state
    if state != job.state:
        yield f"its last event says {state}"
    if sum(event.state in TERMINAL_STATES for event in events) != (job.state in TERMINAL_STATES):
        yield "it has ended more than once, or without an event"


def _wrong_attempts(job: Job, events: list[Event], attempts: list[Attempt]) -> Iterator[str]:
    fences = [attempt.fence for attempt in attempts]
    begun = [event.fence for event in events if event.verb == Verb.BEGIN]
    if fences != list(range(1, job.fence + 1)):
        yield f"its fence is {job.fence}, its attempts have {fences}"
    if begun != fences:
        yield f"its attempts have the fences {fences}, their events {begun}"
    opened = [attempt.fence for attempt in attempts if attempt.outcome is None]
    if opened != ([job.fence] if job.state is JobState.RUNNING else []):
        yield f"its open attempts are {opened}"
    good = [attempt.fence for attempt in attempts if attempt.outcome in _GOOD]
    if good != ([job.fence] if job.state is JobState.SUCCEEDED else []):
        yield f"its good attempts are {good}"
    free = sum(attempt.outcome is AttemptOutcome.INTERRUPTED for attempt in attempts)
    if job.attempts != len(attempts) - free:
        yield f"it counts {job.attempts} tries, of {len(attempts)} attempts {free} were interrupted"
    rescues = sum(event.verb == Verb.RESCUE for event in events)
    if job.rescues != rescues:
        yield f"it counts {job.rescues} rescues, its events {rescues}"


def _all_jobs(reader: Reader) -> Iterator[Job]:
    cursor = None
    while True:
        page = reader.list_jobs(ListJobs(limit=_PAGE, cursor=cursor))
        yield from page.items
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


def _all_events(reader: Reader) -> Iterator[Event]:
    after = 0
    while batch := reader.events(after, _EVENTS):
        yield from batch
        after = batch[-1].pos
