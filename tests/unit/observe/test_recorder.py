"""Listener and recorder over a real store: gaps in their order, a database that is away, a batch that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.model.observed import Gap
from headway.observe.buffer import Buffer
from headway.observe.listener import SILENCE_SECONDS
from tests.observations import NOW, SECOND
from tests.unit.observe.messages import WORKER_EVENTS
from tests.unit.observe.scripted import Watching, event
from tests.waiting import wait_until


def gaps_of(watching: Watching) -> list[Gap]:
    return watching.house.store.read(lambda r: r.observed.gaps(20))


def observer_stopped(watching: Watching) -> bool:
    (observer,) = watching.house.store.read(lambda r: r.observed.observers())
    return observer.stopped_at is not None


def beat(processed: int) -> dict[str, Any]:
    return {
        "type": "worker-heartbeat",
        "timestamp": NOW / 1e6,
        **WORKER_EVENTS["worker-heartbeat"],
        "processed": processed,
    }


def hears(watching: Watching, one: dict[str, Any]) -> None:
    """A message two seconds after the last one."""
    before = watching.recorder.heard.events
    watching.clock.advance(2.0)
    watching.source.say(one)
    wait_until(lambda: watching.recorder.heard.events > before, what="it to be heard")


def test_what_is_heard_is_stored_acknowledged_and_counted(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        watching.source.say(event("t1"), event("t2"), {"type": "custom"}, b"not json", tag=4)
        watching.source.say(event("t1"), event("t1", "task-succeeded", NOW + 1, result="1", runtime=0.1), tag=7)
        watching.becomes(t1="SUCCESS", t2="STARTED")
        wait_until(lambda: 7 in watching.source.acknowledged, what="the acknowledgement")
    heard = watching.recorder.heard
    assert (heard.events, heard.stored, heard.duplicates, heard.other, heard.malformed, heard.lost) == (
        5,
        3,
        1,
        1,
        1,
        0,
    )
    assert watching.source.acknowledged == sorted(set(watching.source.acknowledged))
    assert watching.gaps == [None]


def test_a_message_of_several_events_and_one_of_a_hostile_kind(tmp_path: Path) -> None:
    nested = b'{"type": "task-received", "uuid": "t3", "timestamp": 1, "args": ' + b"[" * 900 + b"]" * 900 + b"}"
    hostile = [b"[" * 100_000, b"\xff\xfe", b"null", b'"x"', b"[null, 5, []]", nested, b'{"type":"task-sent"}']
    huge = b'{"type": "task-started", "uuid": "t9", "timestamp": 1' + b"0" * 400 + b"}"
    with Watching(tmp_path) as watching:
        watching.source.say(*hostile, huge)
        watching.source.say(
            b"[" + b", ".join([b'{"type": "task-started", "uuid": "t%d", "timestamp": 1}' % n for n in (1, 2)]) + b"]"
        )
        wait_until(lambda: {"t1", "t2"} <= set(watching.states()), what="the events behind hostile ones")
        assert "t9" not in watching.states()
        assert watching.recorder.heard.malformed >= 8


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    import pickle

    from headway.observe.sources import Raw

    opened = tmp_path / "opened"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (opened.write_text, ("x",))

    with Watching(tmp_path) as watching:
        body = pickle.dumps(Hostile())
        for kind in ("application/x-python-serialize", "pickle", "application/json"):
            watching.source._add([Raw(body, kind, "binary")])
        watching.source.say(event("t1"))
        watching.becomes(t1="STARTED")
        assert watching.recorder.heard.malformed == 3
    assert not opened.exists()


# Gaps


def test_a_lost_connection_is_a_gap_from_the_last_good_moment_to_the_next_connection(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        watching.source.say(event("t1"))
        watching.becomes(t1="STARTED")
        watching.source.lose()
        wait_until(lambda: len(watching.gaps) == 2, what="the gap to close")
        watching.source.say(event("t2", at=NOW + 1))
        watching.becomes(t1="STARTED", t2="STARTED")
    (gap,) = [one for one in watching.gaps if one]
    assert (gap.reason, gap.began_at, gap.ended_at) == ("broker_away", NOW, NOW)


def test_events_and_gaps_are_stored_in_the_order_in_which_they_happened(tmp_path: Path) -> None:
    """What was heard before a gap is marked by it, what was heard after it is not, though all is stored at once."""
    with Watching(tmp_path) as watching:
        clock = watching.house.services.clock
        watching.door.away = True
        watching.source.say(event("t1"))
        wait_until(lambda: watching.door.tried, what="the first try")
        watching.source.lose()
        wait_until(lambda: watching.source.connects == 2, what="the second connection")
        clock.advance(10)  # type: ignore[attr-defined]
        watching.source.say(event("t2"))
        wait_until(lambda: watching.buffer.waiting == 3, what="all of it to wait")
        watching.door.away = False
        watching.becomes(t1="STARTED", t2="STARTED")
        (gap,) = gaps_of(watching)
        tasks = watching.house.store.read(lambda r: r.observed.tasks(["t1", "t2"]))
        assert gap.ended_at is not None
        assert tasks["t2"].gap is None
        assert tasks["t1"].seen_at <= gap.ended_at <= tasks["t2"].seen_at


def test_what_the_broker_kept_is_no_gap(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        watching.source.say(event("t1"))
        watching.becomes(t1="STARTED")
        watching.source.lose(kept=True)
        wait_until(lambda: len(watching.gaps) == 2, what="the connection to be noted")
        assert watching.gaps == [None, None]
        (gap,) = gaps_of(watching)
        assert gap.reason == "kept_by_broker"
        assert watching.house.store.read(lambda r: r.observed.tasks(["t1"]))["t1"].gap is None


def test_messages_without_room_are_counted_and_leave_a_gap(tmp_path: Path) -> None:
    with Watching(tmp_path, buffer=Buffer(max_messages=3)) as watching:
        watching.door.away = True
        watching.source.say(event("t0"))
        wait_until(lambda: watching.door.tried, what="the recorder to be held up")
        watching.source.say(*(event(f"t{number}") for number in range(1, 9)))
        wait_until(lambda: watching.buffer.waiting == 3, what="a full buffer")
        watching.door.away = False
        watching.becomes(t0="STARTED", t1="STARTED", t2="STARTED", t3="STARTED")
        wait_until(lambda: watching.recorder.heard.lost == 5, what="the loss to be counted")
        (gap,) = wait_until(lambda: gaps_of(watching), what="the gap")
        assert (gap.reason, gap.lost) == ("buffer_full", 5)


def test_a_broker_that_is_away_at_the_start_is_asked_again(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    watching.source.away = True
    with watching:
        wait_until(lambda: watching.listener.why == "nobody there", what="the reason")
        watching.source.away = False
        watching.source.say(event("t1"))
        watching.becomes(t1="STARTED")
        assert (watching.listener.connected, watching.listener.why) == (True, "")


# A database that is away, and a batch that it refuses


def test_while_the_database_is_away_everything_is_kept_and_stored_later(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        watching.door.away = True
        watching.source.say(event("t1"), tag=1)
        wait_until(lambda: watching.recorder.error, what="the error to be said")
        watching.source.say(event("t1", "task-succeeded", NOW + 1, result="1"), event("t2"), tag=2)
        wait_until(lambda: watching.door.tried >= 4, what="several tries")
        assert watching.source.acknowledged == []
        watching.door.away = False
        watching.becomes(t1="SUCCESS", t2="STARTED")
        wait_until(lambda: watching.source.acknowledged[-1:] == [2], what="the acknowledgement")
        assert watching.recorder.error == ""
        assert watching.recorder.heard.lost == 0
        assert gaps_of(watching) == []


def test_a_database_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    watching.door.away = True
    with watching:
        watching.source.say(event("t1"))
        wait_until(lambda: watching.recorder.error, what="the error to be said")
        watching.door.away = False
        watching.becomes(t1="STARTED")


def test_one_event_that_is_refused_is_lost_alone_counted_and_named(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        watching.door.refuses = lambda batch: any(one.task_id == "t5" for one in batch.evidence)
        beat = {"type": "worker-heartbeat", "timestamp": NOW / 1e6, **WORKER_EVENTS["worker-heartbeat"]}
        watching.source.say(*(event(f"t{number}") for number in range(9)), beat, tag=3)
        watching.becomes(**{f"t{number}": "STARTED" for number in range(9) if number != 5})
        (gap,) = wait_until(lambda: gaps_of(watching), what="the gap", seconds=60)
        assert (gap.reason, gap.lost) == ("not_stored", 1)
        assert watching.recorder.heard.lost == 1
        assert [one.hostname for one in watching.house.store.read(lambda r: r.observed.workers())] == ["one@host"]
        watching.source.say(event("t20"), tag=4)
        wait_until(lambda: watching.source.acknowledged[-1:] == [4], what="the stream to go on")


def test_a_heartbeat_that_is_refused_does_not_take_the_events_beside_it_along(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        watching.door.refuses = lambda batch: bool(batch.workers)
        beat = {"type": "worker-heartbeat", "timestamp": NOW / 1e6, **WORKER_EVENTS["worker-heartbeat"]}
        watching.source.say(event("t1"), beat, event("t2"))
        watching.becomes(t1="STARTED", t2="STARTED")
        assert watching.recorder.heard.lost == 0


# The end


def test_what_was_heard_is_stored_before_it_stops_and_the_end_is_noted(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    with watching:
        watching.source.say(*(event(f"t{number}") for number in range(250)), tag=1)
        wait_until(lambda: watching.listener.heard_at, what="the events to be heard")
        assert watching.stop()
        assert len(watching.states()) == 250
        assert observer_stopped(watching)
        assert watching.source.acknowledged == [1]
        assert watching.source.closed is True


def test_who_stops_while_the_database_is_away_stops_all_the_same_and_acknowledges_nothing(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    with watching:
        watching.door.away = True
        watching.source.say(event("t1"), tag=1)
        wait_until(lambda: watching.recorder.error, what="the error to be said")
        assert not watching.stop()
        assert watching.source.acknowledged == []
        assert watching.states() == {}


@pytest.mark.parametrize("sends", [True, False])
def test_a_worker_that_works_and_says_nothing_of_its_tasks_is_noticed(tmp_path: Path, sends: bool) -> None:
    with Watching(tmp_path) as watching:
        hears(watching, beat(5))
        if sends:
            watching.source.say(event("t1"))
        for _ in range(4):
            hears(watching, beat(9))

        def known() -> object:
            workers = watching.house.store.read(lambda r: r.observed.workers())
            return [one.facts.get("events_enabled") for one in workers] == [sends]

        wait_until(known, what="whether it sends events")


def test_the_watermark_goes_on_while_nothing_comes(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        clock = watching.house.services.clock

        def watermark() -> bool:
            clock.advance(SILENCE_SECONDS + 1)  # type: ignore[attr-defined]
            (observer,) = watching.house.store.read(lambda r: r.observed.observers())
            # The connection was asked whether it still is one.
            return observer.watermark_at > NOW + int(SILENCE_SECONDS) * SECOND

        wait_until(watermark, what="the watermark", every=0.3)


def test_tasks_that_run_unheard_are_a_gap_until_they_are_heard(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        began = watching.clock.now()
        for processed in (7, 8, 8, 9, 9):
            hears(watching, beat(processed))
        (gap,) = wait_until(lambda: gaps_of(watching), what="the gap")
        assert (gap.reason, gap.began_at, gap.ended_at) == ("events_off", began, None)
        watching.clock.advance(2.0)
        watching.source.say(event("t1", at=watching.clock.now()), beat(10))
        wait_until(lambda: gaps_of(watching)[0].ended_at is not None, what="its end")
        assert len(gaps_of(watching)) == 1
        assert [gap and gap.reason for gap in watching.gaps] == [None, "events_off"]


def test_a_worker_that_takes_from_one_queue_has_its_tasks_from_there(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        watching.queues["one@host"] = "mail"
        watching.source.say(
            event("t1", "task-received", name="a"),
            event("t2", "task-received", name="a") | {"hostname": "two@host"},
        )
        watching.becomes(t1="RECEIVED", t2="RECEIVED")
        stored = watching.house.store.read(lambda r: r.observed.tasks(["t1", "t2"]))
        assert (stored["t1"].queue, stored["t2"].queue) == ("mail", None)
