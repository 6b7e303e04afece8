"""Whether workers send events of their tasks, told by what they say they have begun."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.observe.tallies import Answer, Tallies
from tests.observations import NOW, SECOND, worker

ONE = "one@host"


def beats(tallies: Tallies, *processed: int, begin: int = 0, every: int = 2, **facts: object) -> list[bool | None]:
    """Heartbeats with these counts; what the worker was taken for at each."""
    at = [NOW + (begin + every * number) * SECOND for number in range(len(processed))]
    facts = {"pid": 1, "freq": float(every), **facts}
    return [
        tallies.beat(worker(ONE, seen, processed=count, **facts)) for seen, count in zip(at, processed, strict=True)
    ]


def starts(tallies: Tallies, second: int, count: int = 1) -> None:
    """So many tasks say that they were begun."""
    for _ in range(count):
        tallies.task_event(ONE, NOW + second * SECOND, started=True)


def answers(
    tallies: Tallies, *processed: int, begin: int = 0, uptime: int | None = 1_000, pid: int = 1
) -> list[bool | None]:
    """Answers with these counts, ten seconds apart; what the worker was taken for at each."""
    found = []
    for number, count in enumerate(processed):
        at, up = NOW + (begin + 10 * number) * SECOND, None if uptime is None else uptime + 10 * number
        found.append(tallies.answered(ONE, at, at + SECOND // 2, Answer(pid, count, up, every=10.0)))
    return found


@pytest.fixture
def tallies() -> Tallies:
    found = Tallies()
    found.connected(NOW - SECOND)
    return found


def test_who_has_done_nothing_is_not_mute_and_promises_nothing(tallies: Tallies) -> None:
    assert beats(tallies, 7, 7, 7, 7, 7) == [None] * 5
    now = NOW + 9 * SECOND
    assert (tallies.mute(now), tallies.unheard(now), tallies.mute_since(now)) == (set(), {ONE}, None)


def test_who_begins_tasks_unheard_is_mute_since_the_connection_was_made(tallies: Tallies) -> None:
    assert beats(tallies, 7, 7, 8, 8, 9, 9) == [None, None, None, None, None, False]
    now = NOW + 11 * SECOND
    assert tallies.mute(now) == {ONE}
    # Nobody knows what it did before its first heartbeat.
    assert tallies.mute_since(now) == NOW - SECOND
    assert tallies.mute(now + 60 * SECOND) == set(), "it is gone"


def test_it_stays_mute_through_a_connection_that_is_made_anew(tallies: Tallies) -> None:
    beats(tallies, 7, 7, 8, 8, 9, 9)
    tallies.connected(NOW + 12 * SECOND)
    assert beats(tallies, 9, 9, 9, begin=13) == [False] * 3
    starts(tallies, 20)
    assert beats(tallies, 10, 10, 10, 10, begin=21) == [True] * 4


@pytest.mark.parametrize("every", [2, 10, 60])
def test_however_seldom_its_heart_beats_it_stays_mute(tallies: Tallies, every: int) -> None:
    assert beats(tallies, *range(10), every=every)[-3:] == [False] * 3
    last = NOW + 9 * every * SECOND
    assert [tallies.mute(last + second * SECOND) for second in (0, every // 2, every)] == [{ONE}] * 3


def test_a_bundle_of_events_that_a_heartbeat_overtook_is_no_silence(tallies: Tallies) -> None:
    beats(tallies, 7, 8)
    starts(tallies, 3)
    assert beats(tallies, 8, 8, 8, 8, begin=4) == [True] * 4
    now = NOW + 100 * SECOND
    assert (tallies.unheard(NOW + 11 * SECOND), tallies.missing(now)) == (set(), {})


def test_events_that_were_turned_off_are_missed_since_the_last_that_was_heard(tallies: Tallies) -> None:
    beats(tallies, 7)
    starts(tallies, 1)
    assert beats(tallies, *range(8, 48), begin=2)[-1] is False
    now = NOW + 81 * SECOND
    assert tallies.mute_since(now) == NOW + SECOND
    starts(tallies, 82)
    assert tallies.mute_since(now) is None


def test_tasks_that_send_no_events_beside_others_are_told_of_and_are_no_silence(tallies: Tallies) -> None:
    """`send_events=False`: one such task every ten seconds, one of the others a minute."""
    beats(tallies, 0)
    called, count = 0, 0
    for second in range(2, 1_200, 2):
        count += second % 10 == 0
        if second % 60 == 0:
            count += 1
            starts(tallies, second)
        called += beats(tallies, count, begin=second)[0] is False
    assert called < 60, "once, until it is heard again"
    assert tallies.missing(NOW + 1_200 * SECOND)[ONE] > 50


def test_a_worker_that_is_started_anew_is_measured_anew(tallies: Tallies) -> None:
    beats(tallies, 7)
    starts(tallies, 1)
    assert beats(tallies, 8, 8, begin=2) == [True] * 2
    assert beats(tallies, 0, 0, begin=6, pid=2) == [None] * 2
    assert beats(tallies, 1, 2, 3, 4, begin=60, pid=2)[-1] is False
    # It may have begun tasks before its first heartbeat.
    assert tallies.mute_since(NOW + 67 * SECOND) == NOW - SECOND


def test_two_of_one_name_are_not_taken_for_one(tallies: Tallies) -> None:
    for second in range(0, 20, 4):
        beats(tallies, 3, begin=second, pid=1)
        beats(tallies, 100, begin=second + 2, pid=2)
    assert beats(tallies, 100, 100, 100, 100, begin=20, pid=2) == [None] * 4


def test_who_ends_before_it_is_sure_has_run_tasks_unheard(tallies: Tallies) -> None:
    beats(tallies, 7, 8)
    now = NOW + 3 * SECOND
    assert tallies.ended(now) is None
    tallies.beat(replace(worker(ONE, now), offline_at=now))
    assert tallies.ended(now) == NOW - SECOND
    assert tallies.ended(now) is None


def test_who_is_killed_before_it_is_sure_has_run_tasks_unheard(tallies: Tallies) -> None:
    beats(tallies, 7, 8)
    assert tallies.ended(NOW + 30 * SECOND) is None
    assert tallies.ended(NOW + 33 * SECOND) == NOW - SECOND
    assert tallies.ended(NOW + 34 * SECOND) is None


def goes(tallies: Tallies, second: int) -> None:
    """It says goodbye."""
    at = NOW + second * SECOND
    tallies.beat(replace(worker(ONE, at), offline_at=at))


def test_who_loses_its_broker_says_goodbye_and_is_the_same_when_it_comes_back(tallies: Tallies) -> None:
    beats(tallies, 7)
    starts(tallies, 1)
    beats(tallies, 8, begin=2)
    tallies.lost()
    # Nothing that is compared from then on has anything to do with what was said before.
    tallies.connected(NOW + 10 * SECOND)
    goes(tallies, 11)
    assert beats(tallies, 8, 8, begin=12) == [True] * 2
    assert tallies.unheard(NOW + 15 * SECOND) == set()


def test_who_sends_no_events_sends_none_after_it_came_back(tallies: Tallies) -> None:
    assert beats(tallies, 7, 8, 9, 9, 9, 9)[-1] is False
    goes(tallies, 20)
    assert tallies.mute_since(NOW + 21 * SECOND) is None
    assert beats(tallies, 9, begin=22) == [False]
    assert tallies.mute_since(NOW + 23 * SECOND) == NOW + 20 * SECOND


def test_a_goodbye_that_is_delivered_twice_is_one(tallies: Tallies) -> None:
    assert beats(tallies, 7, 8, 9, 9, 9, 9)[-1] is False
    goes(tallies, 20)
    goes(tallies, 20)
    assert beats(tallies, 9, begin=22) == [False]


def test_what_is_heard_after_the_goodbye_is_heard(tallies: Tallies) -> None:
    """Its last events waited in it, and it says goodbye first."""
    assert beats(tallies, 7, 8, 9, 9, 9, 9)[-1] is False
    goes(tallies, 20)
    starts(tallies, 21)
    assert beats(tallies, 9, begin=22) == [True]
    assert tallies.mute_since(NOW + 23 * SECOND) is None


def test_a_goodbye_counts_once(tallies: Tallies) -> None:
    assert beats(tallies, 7, 8, 9, 9, 9, 9)[-1] is False
    goes(tallies, 20)
    assert beats(tallies, 9, begin=22) == [False]
    starts(tallies, 23)
    # Long afterwards there are two of its name.
    for second in range(7200, 7220, 4):
        assert beats(tallies, 90, begin=second) != [False]
        assert beats(tallies, 3, begin=second + 2, pid=2) != [False]


def test_who_was_remembered_as_mute_and_says_goodbye_first_is_mute_when_it_comes_back(tallies: Tallies) -> None:
    tallies.remembered(worker(ONE, NOW - 20 * SECOND, pid=1, processed=7), NOW)
    goes(tallies, 1)
    assert beats(tallies, 7, begin=2) == [False]


@pytest.mark.parametrize(("pid", "processed"), [(2, 8), (1, 7), (1, 0)])
def test_another_process_of_the_name_is_not_taken_for_the_one_that_said_goodbye(
    tallies: Tallies, pid: int, processed: int
) -> None:
    beats(tallies, 7)
    starts(tallies, 1)
    beats(tallies, 8, begin=2)
    goes(tallies, 4)
    assert beats(tallies, processed, begin=6, pid=pid) == [None]


def test_who_has_no_heartbeat_is_told_by_its_answers(tallies: Tallies) -> None:
    assert answers(tallies, 7, 7, 8, 8) == [None, None, None, False]
    assert tallies.mute_since(NOW + 30 * SECOND) == NOW - SECOND
    assert (tallies.mute(NOW + 110 * SECOND), tallies.mute(NOW + 130 * SECOND)) == ({ONE}, set())
    starts(tallies, 31)
    assert answers(tallies, 9, 9, begin=40) == [True] * 2


def test_what_it_did_before_it_was_first_asked_counts_where_all_of_it_could_be_heard(tallies: Tallies) -> None:
    assert answers(tallies, 3, 3, begin=100, uptime=8) == [None, False]
    assert tallies.mute_since(NOW + 110 * SECOND) == NOW + 81 * SECOND
    assert answers(tallies, 3, 3, begin=200, uptime=190, pid=2) == [None, False]
    assert tallies.mute_since(NOW + 210 * SECOND) == NOW - SECOND
    starts(tallies, 218, 2)
    assert answers(tallies, 3, 3, begin=220, uptime=4, pid=3) == [True] * 2, "heard before it was first asked"
    assert answers(tallies, 3, 3, begin=240, uptime=2, pid=4) == [None, False], "the one before was heard, not this one"


@pytest.mark.parametrize(("uptime", "sends"), [(9, False), (10, False), (13, None)])
def test_who_may_have_begun_as_the_connection_was_made_began_after_it(
    tallies: Tallies, uptime: int, sends: bool | None
) -> None:
    assert answers(tallies, 1, 1, begin=9, uptime=uptime) == [None, sends]


@pytest.mark.parametrize("uptime", [None, 200])
def test_what_it_did_before_anybody_listened_is_no_silence(tallies: Tallies, uptime: int | None) -> None:
    assert answers(tallies, 3, 3, 3, begin=100, uptime=uptime) == [None] * 3


def test_who_sent_no_events_when_somebody_last_watched_sends_none_until_it_is_heard(tallies: Tallies) -> None:
    tallies.remembered(worker(ONE, NOW - 20 * SECOND, pid=1), NOW)
    assert tallies.mute_since(NOW) == NOW
    assert beats(tallies, 7, 7, begin=2) == [False] * 2
    starts(tallies, 6)
    assert beats(tallies, 8, begin=7) == [True]
    tallies.remembered(worker(ONE, NOW, pid=1), NOW)
    assert beats(tallies, 0, 0, begin=10, pid=2) == [None] * 2, "it was started anew"


def test_in_a_container_every_process_has_the_same_number(tallies: Tallies) -> None:
    starts(tallies, 1)
    assert answers(tallies, 1, 1, begin=2, uptime=1) == [True] * 2
    assert answers(tallies, 5, 5, begin=60, uptime=20) == [None, False]


def test_an_answer_that_comes_after_the_goodbye_is_of_one_that_has_ended(tallies: Tallies) -> None:
    starts(tallies, 1, 5)
    beats(tallies, 5, begin=2)
    tallies.beat(replace(worker(ONE, NOW + 11 * SECOND), offline_at=NOW + 11 * SECOND))
    assert answers(tallies, 5, begin=10, uptime=9) == [None]
    assert (tallies.unheard(NOW + 12 * SECOND), tallies.ended(NOW + 200 * SECOND)) == (set(), None)
    assert answers(tallies, 1, 1, begin=20, uptime=5) == [None, False], "it came back"


def test_answers_say_nothing_while_events_are_not_heard(tallies: Tallies) -> None:
    assert answers(Tallies(), 3, 4, 5, 6, uptime=5) == [None] * 4, "never connected"
    assert answers(tallies, 7) == [None]
    tallies.lost()
    assert answers(tallies, 8, 9, 10, begin=10, uptime=1_010) == [None] * 3
    tallies.connected(NOW + 40 * SECOND)
    assert answers(tallies, 11, 11, 11, begin=40, uptime=1_040) == [None] * 3, "the first was asked before"
    assert answers(tallies, 12, 12, begin=70, uptime=1_070) == [None, False]


def test_who_was_heard_and_stays_away_for_long_is_not_forgotten(tallies: Tallies) -> None:
    """A task of `send_events=False` beside others; and `solo`, whose heart stands still while it runs a task."""
    starts(tallies, 1, 3)
    assert answers(tallies, 4, begin=2, uptime=1) == [True]
    assert tallies.ended(NOW + 200 * SECOND) is None
    assert answers(tallies, 4, 4, begin=300, uptime=299) == [True] * 2


def test_who_comes_back_after_it_was_taken_for_dead_is_mute_still(tallies: Tallies) -> None:
    beats(tallies, 7, 8)
    assert tallies.ended(NOW + 40 * SECOND) == NOW - SECOND
    assert tallies.mute_since(NOW + 40 * SECOND) is None
    assert beats(tallies, 8, begin=50) == [False]
    assert tallies.mute_since(NOW + 50 * SECOND) == NOW - SECOND


def test_what_it_began_after_it_was_asked_is_in_its_next_answer(tallies: Tallies) -> None:
    assert answers(tallies, 7) == [None]
    for second in range(1, 61):
        starts(tallies, second)
        if second % 10 == 0:
            # Those of the last three seconds were heard before the answer was.
            assert answers(tallies, 7 + max(0, second - 3), begin=second) == [True]
    assert answers(tallies, 67, 67, begin=70) == [True] * 2
    assert tallies.missing(NOW + 200 * SECOND) == {}


def test_answers_count_for_nothing_where_the_heart_is_heard(tallies: Tallies) -> None:
    beats(tallies, 7, 7)
    assert answers(tallies, 90, 95, 99, begin=3) == [None] * 3
    assert (tallies.beating(NOW + 30 * SECOND), tallies.mute(NOW + 30 * SECOND)) == ({ONE}, set())
    assert tallies.beating(NOW + 60 * SECOND) == set()


def test_what_was_dropped_here_is_no_silence_of_workers(tallies: Tallies) -> None:
    beats(tallies, 7)
    tallies.interrupted(NOW + SECOND)
    assert beats(tallies, 90, 90, 90, 90, begin=2) == [None] * 4
    tallies.connected(NOW + 20 * SECOND)
    assert beats(tallies, 200, 200, 200, 200, begin=21) == [None] * 4


def test_whoever_calls_itself_as_it_likes_does_not_fill_the_memory() -> None:
    tallies = Tallies()
    for number in range(10_005):
        tallies.beat(worker(f"w{number}@host", NOW + number, processed=1))
    assert len(tallies.unheard(NOW + 10_005)) == 10_000
