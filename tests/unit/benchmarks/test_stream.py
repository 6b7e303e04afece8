from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice
from uuid import UUID

import pytest

from benchmarks.observe.stream import EVENTS_PER_TICK, KINDS, NAMES, WORKERS, sent_ids, tasks, ticks


def test_every_task_has_its_four_events_in_their_order() -> None:
    heard: dict[str, list[str]] = defaultdict(list)
    for tick in ticks(islice(tasks(3), 500)):
        for kind, task in tick:
            heard[task.id].append(kind)
    assert len(heard) == 500
    assert set(map(tuple, heard.values())) == {KINDS}


def test_the_ids_of_a_stream_can_be_told_afterwards() -> None:
    assert [task.id for task in islice(tasks(5), 20, 50)] == list(sent_ids(5, 20, 30))
    assert {UUID(one).version for one in sent_ids(5, 0, 50)} == {4}
    assert not set(sent_ids(5, 0, 50)) & set(sent_ids(6, 0, 50))


def test_as_many_events_as_promised_happen_in_a_tick() -> None:
    sizes = [len(tick) for tick in ticks(islice(tasks(1), 5_000))]
    # Until the longest task has ended, and after the last one has begun, there are fewer.
    steady = sizes[80:500]
    assert sum(steady) / len(steady) == pytest.approx(EVENTS_PER_TICK, rel=0.03)
    assert sum(sizes) == 5_000 * len(KINDS)


def test_a_later_part_of_a_stream_begins_at_once() -> None:
    stream = tasks(1)
    before = list(ticks(islice(stream, 100)))
    after = list(ticks(islice(stream, 100)))
    assert before[0]
    assert after[0]
    assert list(ticks(islice(stream, 0))) == []


def test_names_and_workers_are_shared_out() -> None:
    found = list(islice(tasks(1), 5_000))
    assert len(set(NAMES)) == 50
    assert {task.name for task in found} == set(NAMES)
    assert set(Counter(task.worker for task in found).values()) == {5_000 // len(WORKERS)}
