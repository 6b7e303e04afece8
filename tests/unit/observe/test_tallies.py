"""Whether workers send events of their tasks, told by what they say they have begun."""

from __future__ import annotations

from headway.observe.tallies import Tallies
from tests.observations import NOW, SECOND, worker

ONE = "one@host"


def beats(tallies: Tallies, *processed: int, begin: int = 0) -> list[bool | None]:
    """Heartbeats two seconds apart with these counts; what each was taken for."""
    at = [NOW + (begin + 2 * number) * SECOND for number in range(len(processed))]
    return [tallies.beat(worker(ONE, seen, processed=count)) for seen, count in zip(at, processed, strict=True)]


def test_who_has_done_nothing_is_not_mute_and_promises_nothing() -> None:
    tallies = Tallies()
    tallies.connected(NOW - SECOND)
    assert beats(tallies, 7, 7, 7, 7, 7) == [None] * 5
    now = NOW + 9 * SECOND
    assert (tallies.mute(now), tallies.unheard(now), tallies.mute_since(now)) == (set(), {ONE}, None)


def test_who_begins_tasks_unheard_is_mute_since_the_connection_was_made() -> None:
    tallies = Tallies()
    tallies.connected(NOW - SECOND)
    assert beats(tallies, 7, 7, 8, 8, 9, 9) == [None, None, None, None, None, False]
    now = NOW + 11 * SECOND
    assert tallies.mute(now) == {ONE}
    # Nobody knows what it did before its first heartbeat.
    assert tallies.mute_since(now) == NOW - SECOND
    assert tallies.mute(now + 60 * SECOND) == set(), "it is gone"


def test_a_bundle_of_events_that_a_heartbeat_overtook_is_no_silence() -> None:
    tallies = Tallies()
    tallies.connected(NOW)
    beats(tallies, 7, 8)
    tallies.task_event(ONE, NOW + 3 * SECOND)
    assert beats(tallies, 8, 8, 8, 8, begin=4) == [True] * 4
    assert tallies.unheard(NOW + 11 * SECOND) == set()


def test_events_that_were_turned_off_are_missed_since_the_last_heartbeat_that_was_in_order() -> None:
    tallies = Tallies()
    tallies.connected(NOW)
    beats(tallies, 7)
    tallies.task_event(ONE, NOW + SECOND)
    beats(tallies, 8, 8, 9, 9, 10, 10, begin=2)
    now = NOW + 13 * SECOND
    assert tallies.mute_since(now) == NOW + 4 * SECOND
    tallies.task_event(ONE, now)
    assert tallies.mute_since(now) is None


def test_a_worker_that_is_started_anew_is_measured_anew() -> None:
    tallies = Tallies()
    tallies.connected(NOW - 100 * SECOND)
    beats(tallies, 7)
    tallies.task_event(ONE, NOW + SECOND)
    assert beats(tallies, 8, 0, 0, begin=2) == [True, None, None]
    assert beats(tallies, 1, 2, 3, 4, begin=60)[-1] is False
    # It may have begun tasks before its first heartbeat.
    assert tallies.mute_since(NOW + 67 * SECOND) == NOW + 4 * SECOND - 10 * SECOND


def test_what_was_dropped_here_is_no_silence_of_workers() -> None:
    tallies = Tallies()
    tallies.connected(NOW)
    beats(tallies, 7)
    tallies.interrupted()
    assert beats(tallies, 90, 90, 90, 90, begin=2) == [None] * 4
    tallies.connected(NOW + 20 * SECOND)
    assert beats(tallies, 200, 200, 200, 200, begin=21) == [None] * 4


def test_whoever_calls_itself_as_it_likes_does_not_fill_the_memory() -> None:
    tallies = Tallies()
    for number in range(10_005):
        tallies.beat(worker(f"w{number}@host", NOW + number, processed=1))
    assert len(tallies.unheard(NOW + 10_005)) == 10_000
