"""A task's state is a function of the set of what was said of it: not of the order, and not of how often."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.model.evidence import Evidence, ObservedTask, settle, take
from headway.model.sayings import ENDED, MEANINGS, OUR_STATE, RESULTS, TERMINAL, CeleryState, Said
from headway.model.states import JobState
from tests.observations import NOW, SECOND, said
from tests.unit.model.histories import History, histories

ONE, TWO = "one@host", "two@host"


def known_of(evidence: Sequence[Evidence], cuts: Sequence[int] = ()) -> ObservedTask:
    """The task that the evidence makes, settled after each cut and at the end."""
    task = ObservedTask("t", seen_first_at=NOW)
    for place, one in enumerate(evidence):
        take(task, one, NOW + place)
        if place in cuts:
            settle(task)
    settle(task)
    return task


def state_of(*evidence: Evidence) -> str:
    return known_of(evidence, range(len(evidence))).state


def kept(task: ObservedTask) -> tuple[object, ...]:
    """What must not depend on the order."""
    ends = task.state in ("SUCCESS", "FAILURE")
    said_last = (task.result, task.error, task.traceback, task.runtime, task.worker, task.finished_at) if ends else ()
    return (task.state, task.rank, task.retries, task.sent_at, *said_last)


@given(histories(), st.integers(0, 10_000).map(random.Random))
def test_the_state_does_not_depend_on_order_batches_or_duplicates(history: History, chance: random.Random) -> None:
    in_order = known_of(history.evidence)
    heard = [*history.evidence, *chance.choices(history.evidence, k=chance.randint(0, len(history.evidence)))]
    chance.shuffle(heard)
    cuts = [place for place in range(len(heard)) if chance.random() < 0.5]
    assert kept(known_of(heard, cuts)) == kept(in_order)


@given(histories(), st.integers(0, 10_000).map(random.Random))
def test_the_state_does_not_depend_on_the_order_of_what_is_left_when_some_is_lost(
    history: History, chance: random.Random
) -> None:
    heard = [one for one in history.evidence if chance.random() < 0.6]
    in_order = known_of(heard)
    chance.shuffle(heard)
    assert kept(known_of(heard, range(len(heard)))) == kept(in_order)


@given(histories())
def test_a_whole_history_ends_in_what_truly_happened(history: History) -> None:
    task = known_of(history.evidence)
    assert (task.state, task.ended) == (history.state, history.state in TERMINAL)
    assert task.result == history.result
    assert task.error == history.error


@given(histories(), st.integers(0, 10_000).map(random.Random))
def test_the_rank_never_falls_and_an_end_is_kept(history: History, chance: random.Random) -> None:
    heard = list(history.evidence)
    chance.shuffle(heard)
    task, ranks = ObservedTask("t"), [-1]
    for one in heard:
        alone = known_of(heard[: len(ranks)])
        take(task, one, NOW)
        settle(task)
        # Worked out anew from the same set it is the same, so nothing was kept that the set does not say.
        assert task.rank == alone.rank
        assert task.rank >= ranks[-1]
        assert not (ranks[-1] >= ENDED and not task.ended)
        ranks.append(task.rank)


def test_a_retry_handled_by_a_worker_whose_clock_is_behind_is_the_later_run() -> None:
    behind = NOW - 3600 * SECOND
    first = [
        said("t", Said.RECEIVED, NOW, ONE, retries=0),
        said("t", Said.STARTED, NOW + 1, ONE),
        said("t", Said.RETRIED, NOW + 2, ONE, error="ValueError('a')"),
    ]
    second = [said("t", Said.RECEIVED, behind, TWO, retries=1), said("t", Said.STARTED, behind + 1, TWO)]
    task = known_of([*first, *second])
    assert (task.state, task.worker, task.started_at) == ("STARTED", TWO, behind + 1)
    assert known_of([*second, *first]).state == "STARTED"


def test_a_retry_that_is_received_before_the_first_try_is_said_to_be_over_runs_when_it_is_started() -> None:
    """A retry's message is sent first and its event later: one worker may receive its own message in between."""
    heard = [
        said("t", Said.RECEIVED, NOW, ONE, retries=0),
        said("t", Said.STARTED, NOW + 1, ONE),
        said("t", Said.RECEIVED, NOW + 2, ONE, retries=1),
        said("t", Said.RETRIED, NOW + 3, ONE, error="ValueError('a')"),
    ]
    assert state_of(*heard) == "RECEIVED"
    assert state_of(*heard, said("t", Said.STARTED, NOW + 4, ONE)) == "STARTED"


def test_tries_whose_receptions_were_missed_are_told_apart_in_any_order() -> None:
    heard = [
        said("t", Said.RECEIVED, NOW, ONE, retries=0),
        said("t", Said.RETRIED, NOW + 1, ONE, error="a"),
        said("t", Said.STARTED, NOW + 2, ONE),
    ]
    assert {state_of(*heard), state_of(*heard[1:], heard[0]), state_of(*reversed(heard))} == {"STARTED"}


@pytest.mark.parametrize("late", [Said.FAILED, Said.REVOKED, Said.REJECTED, Said.RETRIED, Said.STARTED, Said.SENT])
def test_a_success_is_never_overwritten(late: Said) -> None:
    heard = [said("t", Said.SUCCEEDED, NOW, result="3", runtime=0.5), said("t", late, NOW + 1, TWO, error="late")]
    for order in (heard, heard[::-1]):
        task = known_of(order)
        assert (task.state, task.result, task.error, task.runtime) == ("SUCCESS", "3", None, 0.5)


def test_a_task_that_was_revoked_at_once_and_succeeded_all_the_same_succeeded() -> None:
    revoked = said("t", Said.RESULT_REVOKED, NOW, "", error="TaskRevokedError('revoked')")
    assert state_of(revoked) == "REVOKED"
    assert state_of(revoked, said("t", Said.SUCCEEDED, NOW + SECOND, result="1")) == "SUCCESS"


def test_why_it_was_revoked_is_kept() -> None:
    waiting = said("t", Said.RECEIVED, NOW, ONE, retries=0)
    expired = said("t", Said.REVOKED, NOW + 1, ONE, error="expired before it was begun")
    assert known_of([waiting, expired], [0]).error == "expired before it was begun"
    assert known_of([expired, waiting], [0]).error == "expired before it was begun"


def test_a_retry_that_was_sent_again_is_still_shown_as_a_retry() -> None:
    heard = [
        said("t", Said.SENT, NOW, "gen@client", retries=0),
        said("t", Said.RECEIVED, NOW + 1, ONE, retries=0),
        said("t", Said.STARTED, NOW + 2, ONE),
        said("t", Said.SENT, NOW + 3, ONE, retries=1),
        said("t", Said.RETRIED, NOW + 4, ONE, error="ValueError('a')"),
    ]
    assert state_of(*heard) == "RETRY"
    assert known_of(heard).error == "ValueError('a')"
    assert state_of(*heard, said("t", Said.RECEIVED, NOW + 5, ONE, retries=1)) == "RECEIVED"


def test_what_it_failed_with_is_not_overwritten_by_an_earlier_try_that_is_heard_of_later() -> None:
    failed = said("t", Said.FAILED, NOW + 9, ONE, error="KeyError('end')", traceback="at the end")
    retried = said("t", Said.RETRIED, NOW, ONE, error="ValueError('first')", traceback="at first")
    for cuts in ((), (0,)):
        for order in ([failed, retried], [retried, failed]):
            task = known_of(order, cuts)
            assert (task.state, task.error, task.traceback) == ("FAILURE", "KeyError('end')", "at the end")


def test_a_task_that_was_delivered_twice_keeps_its_first_end() -> None:
    first = said("t", Said.SUCCEEDED, NOW, ONE, result="1", runtime=0.1)
    again = said("t", Said.SUCCEEDED, NOW + 60 * SECOND, TWO, result="2", runtime=0.2)
    for order in ([first, again], [again, first]):
        task = known_of(order, [0])
        assert (task.finished_at, task.worker, task.result, task.runtime) == (NOW, ONE, "1", 0.1)


def test_an_end_that_says_no_time_does_not_move_the_end_that_was_heard() -> None:
    heard = said("t", Said.SUCCEEDED, NOW, ONE, result="1", runtime=0.1)
    found = said("t", Said.RESULT_SUCCESS, 0, "", result="1")
    for order in ([heard, found], [found, heard]):
        task = known_of(order, [0])
        assert (task.finished_at, task.worker, task.runtime) == (NOW, ONE, 0.1)


def test_who_did_it_is_known_although_the_result_backend_was_first_to_say_how_it_ended() -> None:
    found = said("t", Said.RESULT_FAILURE, NOW + 2, "", error="ValueError('x')")
    begun = [said("t", Said.RECEIVED, NOW, ONE, retries=0), said("t", Said.STARTED, NOW + 1, ONE)]
    failed = said("t", Said.FAILED, NOW + 3, ONE, error="ValueError('x')")
    for heard in ([found, *begun, failed], [found, *begun], [*begun, found]):
        for cuts in ([], [0]):
            task = known_of(heard, cuts)
            assert (task.state, task.worker, task.started_at) == ("FAILURE", ONE, NOW + 1)


def test_a_success_clears_what_an_earlier_try_failed_with_but_its_trail_has_it() -> None:
    retried = said("t", Said.RETRIED, NOW, ONE, error="ValueError('first')", traceback="lines")
    task = known_of([retried, said("t", Said.SUCCEEDED, NOW + 1, ONE, result="1")], [0])
    assert (task.error, task.traceback) == (None, None)
    assert [mark.note for mark in task.trail] == ["ValueError('first')", None]


def test_a_long_trail_is_cut_and_keeps_its_state() -> None:
    heard = [said("t", Said.RECEIVED, NOW, ONE, retries=0), said("t", Said.STARTED, NOW + 1, ONE)]
    for run in range(1, 200):
        heard += [
            said("t", Said.RETRIED, NOW + 10 * run, ONE, error=f"try {run}"),
            said("t", Said.RECEIVED, NOW + 10 * run + 1, ONE, retries=run),
        ]
    task = known_of(heard, range(len(heard)))
    assert (task.state, task.retries, len(task.trail)) == ("RECEIVED", 199, 64)
    assert task.trail[0].at == NOW
    assert task.trail[-1].retries == 199
    # What was dropped from the middle is still known: two observers, or a broker that kept events, say it again.
    assert [take(task, one, NOW) for one in heard] == [False] * len(heard)
    settle(task)
    assert (task.state, len(task.trail)) == ("RECEIVED", 64)
    take(task, said("t", Said.SUCCEEDED, NOW + 9_999, ONE, result="1"), NOW)
    settle(task)
    assert (task.state, len(task.trail)) == ("SUCCESS", 64)


def test_a_duplicate_changes_nothing_and_says_so() -> None:
    task = known_of([said("t", Said.SUCCEEDED, NOW, ONE, result="1")])
    before = (task.state, task.seen_at, list(task.trail))
    assert not take(task, said("t", Said.SUCCEEDED, NOW, ONE, result="2"), NOW + SECOND)
    assert (task.state, task.seen_at, list(task.trail), task.result) == (*before, "1")


def test_everything_that_can_be_said_has_a_meaning_and_every_state_one_of_ours() -> None:
    assert set(MEANINGS) == set(Said)
    assert set(OUR_STATE) == set(CeleryState)
    assert {meaning.state for meaning in MEANINGS.values()} == set(CeleryState)
    assert {OUR_STATE[state] for state in TERMINAL} == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    for name, what in RESULTS.items():
        assert MEANINGS[what].state == name
