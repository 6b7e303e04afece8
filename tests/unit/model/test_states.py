"""The transition table: what is derived from it, and that the real database holds it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.model.commands import SubmitJob
from headway.model.states import (
    BY_VERB,
    LIVE_STATES,
    STATE_VIEWS,
    TERMINAL_STATES,
    TRANSITIONS,
    VIEW,
    AttemptOutcome,
    JobState,
    Verb,
    states_named,
)
from headway.ports.store import EndedAttempt, Move, Moved, TransitionRefused
from headway.service.submission import job_row
from headway.store import tables
from headway.testing import check_invariants
from tests.unit.store.house import House, open_house

FIRST = {Verb.SUBMIT, Verb.SCHEDULE}
MOVING = sorted(set(Verb) - FIRST)
OUTCOME = {
    Verb.SUCCEED: AttemptOutcome.SUCCEEDED,
    Verb.FAIL: AttemptOutcome.FAILED,
    Verb.TIME_OUT: AttemptOutcome.TIMEOUT,
    Verb.RETRY: AttemptOutcome.FAILED,
    Verb.REPLACE: AttemptOutcome.REPLACED,
    Verb.WAIT: AttemptOutcome.REPLACED,
    Verb.REQUEUE: AttemptOutcome.REJECTED,
    Verb.INTERRUPT: AttemptOutcome.INTERRUPTED,
    Verb.RESCUE: AttemptOutcome.ABANDONED,
    Verb.LOSE: AttemptOutcome.ABANDONED,
    Verb.STOP: AttemptOutcome.CANCELLED,
}
CHANGES: dict[Verb, dict[str, int]] = {Verb.INTERRUPT: {"attempts+": -1}, Verb.RESCUE: {"rescues+": 1}}


# The table


def test_every_verb_has_one_row() -> None:
    assert [row.verb for row in TRANSITIONS] == list(dict.fromkeys(row.verb for row in TRANSITIONS))
    assert set(BY_VERB) == set(Verb)


def test_an_event_is_named_after_the_state_entered() -> None:
    assert all(row.event == row.to_state for row in TRANSITIONS)


def test_terminal_is_terminal() -> None:
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.TIMEOUT, JobState.CANCELLED} == TERMINAL_STATES
    assert set(JobState) == LIVE_STATES | TERMINAL_STATES
    assert all(not TERMINAL_STATES & set(row.from_states) for row in TRANSITIONS)
    assert all(("finished_at" in row.stamps) == (row.to_state in TERMINAL_STATES) for row in TRANSITIONS)


def test_who_ends_a_running_attempt_needs_its_fence() -> None:
    assert all(row.needs_fence == (row.from_states == (JobState.RUNNING,)) for row in TRANSITIONS)
    assert set(OUTCOME) == {row.verb for row in TRANSITIONS if row.needs_fence}


def test_every_state_is_reached_and_left_or_terminal() -> None:
    assert {row.to_state for row in TRANSITIONS} == set(JobState)
    assert {state for row in TRANSITIONS for state in row.from_states} == LIVE_STATES


def test_stamps_are_columns_of_the_job() -> None:
    assert {name for row in TRANSITIONS for name in row.stamps} <= set(tables.jobs.c.keys())


def test_every_state_has_one_view() -> None:
    assert [view.state for view in STATE_VIEWS] == list(JobState)
    assert set(VIEW) == set(JobState)


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("failed", (JobState.FAILED,)),
        ("FAILURE", (JobState.FAILED, JobState.TIMEOUT)),
        ("PENDING", (JobState.SCHEDULED, JobState.QUEUED)),
        ("Queued", (JobState.QUEUED,)),
        ("RUNNING", (JobState.RUNNING,)),
        ("STARTED", (JobState.RUNNING,)),
        ("nonsense", ()),
    ],
)
def test_states_by_name(name: str, states: tuple[JobState, ...]) -> None:
    assert states_named(name) == states


# The database


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = open_house(tmp_path_factory.mktemp("states"))
    yield made
    made.store.close()


class Model:
    """What the table says of one job, kept in Python beside the real store."""

    def __init__(self, house: House, first: Verb) -> None:
        self.house = house
        now = house.services.clock.now()
        due = now + 10**12 if first is Verb.SCHEDULE else None
        row = job_row(house.ctx, SubmitJob("app.task", run_at=due), now)
        house.store.write(lambda tx: tx.insert_jobs([row]))
        self.id = str(row["id"])
        self.state = BY_VERB[first].to_state
        self.fence = 0
        self.tries = self.rescues = 0
        self.events = [str(first)]

    def do(self, verb: Verb, fence_off: int) -> None:
        """Ask the store; what it answers and what is then stored must be what the table says."""
        row = BY_VERB[verb]
        fence = self.fence + fence_off if row.needs_fence else None
        allowed = self.state in row.from_states and (not row.needs_fence or fence_off == 0)
        assert self._asked(verb, fence) == allowed, (verb, self.state, fence_off)
        if allowed:
            self.state = row.to_state
            self.events.append(str(verb))
            self.fence += verb is Verb.BEGIN
            self.tries += (verb is Verb.BEGIN) - (verb is Verb.INTERRUPT)
            self.rescues += verb is Verb.RESCUE

    def _asked(self, verb: Verb, fence: int | None) -> bool:
        store = self.house.store
        if verb is Verb.BEGIN:
            begun = store.write(lambda tx: tx.claim("w", 10_000, "me"))
            assert len(begun) <= 1
            return [one.job_id for one in begun] == [self.id]

        def work(tx: object) -> Moved | TransitionRefused:
            move = Move(verb, self.id, fence, CHANGES.get(verb, {}))
            answer = tx.move(move, "me")  # type: ignore[attr-defined]
            if isinstance(answer, Moved) and fence is not None:
                tx.end_attempts([EndedAttempt(self.id, fence, OUTCOME[verb].value, None)])  # type: ignore[attr-defined]
            return answer  # type: ignore[no-any-return]

        return isinstance(store.write(work), Moved)

    def check(self) -> None:
        """The stored job is the model's."""
        job = self.house.store.read(lambda r: r.get(self.id))
        assert job is not None
        assert (job.state, job.fence, job.attempts, job.rescues) == (self.state, self.fence, self.tries, self.rescues)
        assert (job.finished_at is not None) == (self.state in TERMINAL_STATES)
        events = self.house.store.read(lambda r: r.events(0, 1_000, self.id))
        assert [event.verb for event in events] == self.events
        assert [event.pos for event in events] == sorted(event.pos for event in events)

    def end(self) -> None:
        """Leave nothing queued for the next example."""
        self.do(Verb.STOP if self.state is JobState.RUNNING else Verb.CANCEL, 0)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.sampled_from(sorted(FIRST)),
    # Begin and enqueue lead on: without a bias most walks would end at their first step.
    steps=st.lists(
        st.tuples(
            st.sampled_from([*MOVING, Verb.BEGIN, Verb.BEGIN, Verb.ENQUEUE, Verb.RETRY, Verb.RESCUE, Verb.INTERRUPT]),
            st.sampled_from([0, 0, 0, 1, -1]),
        ),
        max_size=14,
    ),
)
def test_any_sequence_of_verbs_is_answered_as_the_table_says(
    house: House, first: Verb, steps: list[tuple[Verb, int]]
) -> None:
    model = Model(house, first)
    for verb, fence_off in steps:
        model.do(verb, fence_off)
        model.check()
    model.end()
    model.check()


WAYS: dict[JobState, tuple[Verb, ...]] = {
    JobState.SCHEDULED: (Verb.SCHEDULE,),
    JobState.QUEUED: (Verb.SUBMIT,),
    JobState.RUNNING: (Verb.SUBMIT, Verb.BEGIN),
    JobState.RETRY_SCHEDULED: (Verb.SUBMIT, Verb.BEGIN, Verb.RETRY),
    JobState.SUCCEEDED: (Verb.SUBMIT, Verb.BEGIN, Verb.SUCCEED),
    JobState.FAILED: (Verb.SUBMIT, Verb.BEGIN, Verb.FAIL),
    JobState.TIMEOUT: (Verb.SUBMIT, Verb.BEGIN, Verb.TIME_OUT),
    JobState.CANCELLED: (Verb.SUBMIT, Verb.CANCEL),
}


@pytest.mark.parametrize(("verb", "state"), list(itertools.product(MOVING, JobState)))
def test_every_pair_of_verb_and_state(house: House, verb: Verb, state: JobState) -> None:
    first, *rest = WAYS[state]
    model = Model(house, first)
    for step in rest:
        model.do(step, 0)
    assert model.state is state
    if BY_VERB[verb].needs_fence:
        model.do(verb, 1)
        assert model.state is state
    model.do(verb, 0)
    assert model.state is (BY_VERB[verb].to_state if state in BY_VERB[verb].from_states else state)
    model.check()
    if model.state in LIVE_STATES:
        model.end()


def test_all_that_was_recorded_fits_together(house: House) -> None:
    assert check_invariants(house.store).total > 0


def test_a_verb_without_its_fence_is_a_mistake_of_ours(house: House) -> None:
    with pytest.raises(AssertionError, match="expected a fence"):
        house.store.write(lambda tx: tx.move(Move(Verb.SUCCEED, "x"), "me"))


def test_a_job_is_created_queued_or_scheduled(house: House) -> None:
    row = job_row(house.ctx, SubmitJob("app.task"), 1) | {"state": "running"}
    with pytest.raises(AssertionError, match="expected a job to be created"):
        house.store.write(lambda tx: tx.insert_jobs([row]))


@pytest.mark.parametrize(
    "change",
    [
        "state = 'lost'",
        "state = 'succeeded'",
        "state = 'failed', finished_at = NULL",
        "finished_at = 5",
        "priority = 10",
        "isolation = 'vm'",
    ],
)
def test_the_database_itself_refuses_what_no_verb_does(tmp_path: Path, change: str) -> None:
    made = open_house(tmp_path)
    made.submit()
    engine = made.store._writer
    made.store.close()
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError, match="CHECK"):
        connection.exec_driver_sql(f"UPDATE jobs SET {change}")
    engine.dispose()


def test_the_database_refuses_an_attempt_that_ended_without_an_outcome(tmp_path: Path) -> None:
    made = open_house(tmp_path)
    made.submit()
    made.store.write(lambda tx: tx.claim("w", 1, "me"))
    engine = made.store._writer
    made.store.close()
    for change in ("finished_at = 5", "outcome = 'failed'", "outcome = 'lost', finished_at = 5"):
        with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError, match="CHECK"):
            connection.exec_driver_sql(f"UPDATE attempts SET {change}")
    engine.dispose()


def test_checks_are_derived_from_the_table() -> None:
    assert all(f"'{state}'" in tables.STATE_CHECK for state in JobState)
    assert {state for state in JobState if f"'{state}'" in tables.FINISHED_CHECK} == TERMINAL_STATES
    assert all(f"'{outcome}'" in tables.OUTCOME_CHECK for outcome in AttemptOutcome)
