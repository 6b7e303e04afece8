"""Idempotency, ids and the feed under races: two connections, many threads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import TypeVar

import pytest

from headway.model.commands import Finish, ListJobs, SubmitJob
from headway.model.errors import HeadwayError, IdempotencyConflict, JobIdTaken
from headway.model.job import Job
from headway.model.states import AttemptOutcome
from headway.service import list_jobs, read_events, submit_batch, submit_job
from headway.testing import check_invariants
from tests.conformance.conftest import House

T = TypeVar("T")
ROUNDS, RACERS = 50, 6


def race(runners: Sequence[Callable[[], T]]) -> list[T | HeadwayError]:
    """All at once, each in a thread of its own; what each answered or raised."""
    start, answers = threading.Barrier(len(runners)), dict[int, T | HeadwayError]()

    def run(place: int, runner: Callable[[], T]) -> None:
        start.wait(30)
        try:
            answers[place] = runner()
        except HeadwayError as error:
            answers[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [answers[place] for place in range(len(runners))]


def submitters(houses: Sequence[House], commands: Sequence[SubmitJob]) -> list[Callable[[], Job]]:
    return [partial(submit_job, house.ctx, command) for house, command in zip(cycle(houses), commands, strict=False)]


@pytest.fixture
def houses(house: House, another_house: Callable[[], House]) -> list[House]:
    """Two processes on Postgres; the one owner on SQLite."""
    return [house, another_house()]


def test_one_key_is_one_job(houses: list[House]) -> None:
    for turn in range(ROUNDS):
        command = SubmitJob("app.task", [turn], idempotency_key=f"k{turn}")
        jobs = race(submitters(houses, [command] * RACERS))
        assert len({job.id for job in jobs if isinstance(job, Job)}) == 1
        assert all(isinstance(job, Job) for job in jobs), jobs
    assert check_invariants(houses[0].store).total == ROUNDS


def test_one_key_for_different_payloads_is_one_job_and_conflicts(houses: list[House]) -> None:
    for turn in range(ROUNDS):
        commands = [SubmitJob("app.task", [place], idempotency_key=f"k{turn}") for place in range(RACERS)]
        answers = race(submitters(houses, commands))
        (won,) = [answer for answer in answers if isinstance(answer, Job)]
        conflicts = [answer for answer in answers if isinstance(answer, IdempotencyConflict)]
        assert len(conflicts) == RACERS - 1, answers
        assert {conflict.details["job_id"] for conflict in conflicts} == {won.id}
    assert check_invariants(houses[0].store).total == ROUNDS


def test_a_callers_own_id_is_one_job(houses: list[House]) -> None:
    for turn in range(ROUNDS):
        same = race(submitters(houses, [SubmitJob("app.task", [1], job_id=f"same{turn}")] * RACERS))
        assert {job.id for job in same if isinstance(job, Job)} == {f"same{turn}"}
        assert all(isinstance(job, Job) for job in same), same
        others = [SubmitJob("app.task", [place], job_id=f"other{turn}") for place in range(RACERS)]
        answers = race(submitters(houses, others))
        assert Counter(type(answer) for answer in answers) == {Job: 1, JobIdTaken: RACERS - 1}, answers
    assert check_invariants(houses[0].store).total == 2 * ROUNDS


def test_batches_with_keys_in_common(houses: list[House]) -> None:
    for turn in range(10):
        batches = [
            [SubmitJob("app.task", [key], idempotency_key=f"{turn}.{key}") for key in keys]
            for keys in ([1, 2, 3], [3, 2, 1], [2, 4], [4, 1])
        ]
        runners = [
            partial(submit_batch, house.ctx, batch) for house, batch in zip(cycle(houses), batches, strict=False)
        ]
        answers = race(runners)
        ids: dict[str | None, set[str]] = {}
        for batch, answer in zip(batches, answers, strict=True):
            assert isinstance(answer, list), answer
            for command, job_id in zip(batch, answer, strict=True):
                ids.setdefault(command.idempotency_key, set()).add(job_id)
        assert all(len(found) == 1 for found in ids.values()), ids
    assert check_invariants(houses[0].store).total == 40


def test_a_batch_is_all_or_none(houses: list[House]) -> None:
    submit_job(houses[0].ctx, SubmitJob("app.task", [1], idempotency_key="taken"))
    batch = [SubmitJob("app.task", [0]), SubmitJob("app.task", [2], idempotency_key="taken")]
    with pytest.raises(IdempotencyConflict):
        submit_batch(houses[1].ctx, batch)
    assert len(list_jobs(houses[0].ctx, ListJobs()).items) == 1


def test_of_two_requests_with_one_id_the_one_whose_key_is_free_is_the_job(houses: list[House]) -> None:
    """Each is answered for itself, although they are stored by one statement."""
    taken = submit_job(houses[0].ctx, SubmitJob("app.a", idempotency_key="taken"))
    batch = [
        SubmitJob("app.a", job_id="x", idempotency_key="taken"),
        SubmitJob("app.b", job_id="x", idempotency_key="free", run_at=2_000_000_000_000_000),
    ]
    assert submit_batch(houses[1].ctx, batch) == [taken.id, "x"]
    house = houses[0]
    while house.store.number_events():
        pass
    assert [(event.task, event.verb) for event in read_events(house.ctx, 0, 10, "x")] == [("app.b", "schedule")]
    check_invariants(house.store)


def test_a_key_is_the_callers_own_and_for_one_task(houses: list[House]) -> None:
    one = submit_job(houses[0].ctx, SubmitJob("app.task", idempotency_key="k"))
    other_task = submit_job(houses[0].ctx, SubmitJob("app.other", idempotency_key="k"))
    door = houses[1].door("w")
    other_caller = door.submit(SubmitJob("app.task", idempotency_key="k"))
    assert len({one.id, other_task.id, other_caller.id}) == 3


def test_no_job_is_begun_twice_and_the_feed_has_no_gap(houses: list[House]) -> None:
    total = 300
    submit_batch(houses[0].ctx, [SubmitJob("app.task", [i]) for i in range(total)])
    begun: list[tuple[str, int]] = []
    done = threading.Event()
    positions: list[int] = []

    def work(house: House, name: str) -> None:
        door = house.door(name)
        taken = door.begin(3)
        while taken:
            begun.extend((one.job_id, one.fence) for one in taken)
            reports = [
                Finish(one.job_id, one.fence, AttemptOutcome.SUCCEEDED, result_json="1", begun=one) for one in taken
            ]
            taken = door.finish_and_begin(reports, 3)[1]

    def number() -> None:
        while not done.is_set():
            for house in houses:
                house.store.number_events()
            done.wait(0.002)

    def read() -> None:
        while not done.is_set() or houses[0].store.number_events():
            positions.extend(e.pos for e in read_events(houses[1].ctx, positions[-1] if positions else 0, 100))
            done.wait(0.001)

    workers = [threading.Thread(target=work, args=(houses[i % 2], f"w{i}")) for i in range(4)]
    others = [threading.Thread(target=number), threading.Thread(target=read)]
    for thread in (*workers, *others):
        thread.start()
    for thread in workers:
        thread.join(100)
    done.set()
    for thread in others:
        thread.join(30)
    assert sorted(begun) == sorted(set(begun))
    assert len(begun) == total
    counted = check_invariants(houses[0].store)
    assert (counted.ended, counted.events) == (total, 3 * total)
    positions.extend(e.pos for e in read_events(houses[1].ctx, positions[-1], 10_000))
    assert positions == list(range(1, 3 * total + 1))
