"""Recording observations over SQLite and Postgres: counts, counters, duplicates, several observers side by side."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from headway.model.evidence import Evidence
from headway.model.observed import ListTasks, ObservedQueue, ObservedWorker
from headway.model.sayings import COUNTED, Said
from headway.ports.observations import Recorded
from headway.service import Services, get_task, list_tasks
from headway.service.recording import MAX_SERIES, OTHER, observations_sweep
from headway.store.postgres import postgres_engine
from headway.store.schema import check_schema, differences, upgrade_schema
from headway.store.sqlite import sqlite_engine
from headway.testing.clock import FakeClock
from tests.conformance.conftest import Database, House, build_house
from tests.observations import NOW, SECOND, batch, door_over, said, success, worker


def counts_of(services: Services) -> dict[str, int]:
    return {state: count for state, count in services.store.read(lambda r: r.observed.counts()).items() if count}


def recount(services: Services) -> dict[str, int]:
    """The counts as the tasks themselves say, page by page."""
    found: Counter[str] = Counter()
    after = None
    while True:
        page = services.store.read(lambda r, at=after: r.observed.list_tasks(ListTasks(limit=1000), [], at))  # type: ignore[misc]
        found.update(task.state for task in page[:1000])
        if len(page) <= 1000:
            return dict(found)
        after = (page[999].seen_first_at, page[999].id)


def tallies_of(services: Services) -> dict[tuple[str, str, str, str, str], float]:
    found = services.store.read(lambda r: r.observed.tallies())
    return {(one.kind, one.name, one.worker, one.queue, one.label): one.value for one in found}


def random_load(seed: int, tasks: int = 120) -> list[Evidence]:
    """Successes, failures, retries, revocations of many tasks, in a wild order and with duplicates."""
    chance = random.Random(seed)
    heard: list[Evidence] = []
    for number in range(tasks):
        task_id, node = f"t{number:05d}", chance.choice(["one@host", "two@host"])
        some = success(task_id, NOW + number * SECOND, worker=node, name=f"app.task{number % 5}")
        end = chance.choice([Said.SUCCEEDED, Said.FAILED, Said.REVOKED, Said.REJECTED, None])
        if end is None:
            some.pop()
        elif end is not Said.SUCCEEDED:
            some[-1] = said(task_id, end, NOW + number * SECOND + 9, node, error=f"ValueError({number})")
        heard += some
    heard += chance.choices(heard, k=tasks)
    chance.shuffle(heard)
    return heard


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counts_are_those_of_the_tasks_after_any_batches(house: House, seed: int) -> None:
    door, chance, heard = door_over(house.services), random.Random(seed), random_load(seed)
    recorded = Counter[str]()
    distinct = {(one.task_id, one.said, one.at, one.worker) for one in heard}
    total = len(heard)
    while heard:
        size = chance.randint(1, 60)
        some, heard = heard[:size], heard[size:]
        answer = door.record(batch(*some, seen_at=NOW))
        recorded["new"] += answer.new
        recorded["duplicates"] += answer.duplicates
        assert counts_of(house.services) == recount(house.services)
    assert recorded == {"new": len(distinct), "duplicates": total - len(distinct)}
    assert sum(counts_of(house.services).values()) == 120


def test_counters_count_every_saying_once(house: House) -> None:
    door = door_over(house.services)
    heard = success("a") + success("b", NOW + 60 * SECOND)
    failed = said("c", Said.FAILED, error="app.errors.NotThere('x')")
    door.record(batch(*heard, failed))
    door.record(batch(*heard, failed))
    counted = tallies_of(house.services)
    for kind in ("received", "started", "succeeded"):
        assert counted[kind, "app.add", "host", "celery", ""] == 2
    assert counted["sent", "app.add", "client", "celery", ""] == 2
    assert counted["failed", "", "host", "celery", "app.errors.NotThere"] == 1
    assert counted["runtime_bucket", "app.add", "host", "celery", "1.0"] == 2
    assert counted["runtime_sum", "app.add", "host", "celery", ""] == 2.0


def test_what_is_found_out_afterwards_is_not_counted_as_an_event(house: House) -> None:
    door = door_over(house.services)
    door.record(batch(said("a", Said.RESULT_SUCCESS, result="1"), said("b", Said.SEEN_RUNNING)))
    assert tallies_of(house.services) == {}
    assert counts_of(house.services) == {"SUCCESS": 1, "STARTED": 1}


def test_a_task_found_in_the_result_backend_stands_where_it_happened(house: House) -> None:
    door = door_over(house.services)
    door.record(batch(said("old", Said.RESULT_SUCCESS, NOW - 3600 * SECOND, "", result="1"), said("new", Said.STARTED)))
    page = list_tasks(house.ctx, ListTasks())
    assert [(one.id, one.at) for one in page.items] == [("new", NOW), ("old", NOW - 3600 * SECOND)]
    assert not page.items[1].complete


def test_labels_of_counters_are_bounded_and_long_ones_cut(house: House) -> None:
    door = door_over(house.services)
    names = [f"app.made_up_{number}" for number in range(MAX_SERIES + 50)]
    heard = [said(name, Said.RECEIVED, NOW, name=name, retries=0) for name in names]
    door.record(batch(said("long", Said.RECEIVED, NOW, "w@" + "h" * 250, name="n" * 255, retries=0)))
    door.record(batch(*heard))
    again = door_over(house.services, "another")
    again.record(batch(said("later", Said.RECEIVED, NOW, name="app.even_later", retries=0)))
    counted = tallies_of(house.services)
    assert len({(name, host, queue) for _, name, host, queue, _ in counted}) == MAX_SERIES + 1
    assert counted["received", OTHER, OTHER, OTHER, ""] == 52
    assert counted["received", "n" * 200, "h" * 200, "celery", ""] == 1
    assert sum(counted.values()) == MAX_SERIES + 52


def test_a_batch_that_fails_is_not_stored_in_part_and_may_be_repeated(house: House) -> None:
    door = door_over(house.services)
    door.record(batch(said("a", Said.STARTED)))
    poisoned = said("b", Said.STARTED, NOW, "one@host", name="n" * 100, queue={"not": "text"})
    for _ in range(2):
        with pytest.raises(Exception, match=r".") as caught:
            door.record(batch(said("a", Said.SUCCEEDED, result="1", runtime=0.1), poisoned))
        assert caught.value is not None
        assert counts_of(house.services) == {"STARTED": 1}
    assert door.record(batch(said("a", Said.SUCCEEDED, result="1", runtime=0.1))) == Recorded(1, 0, 0)
    assert counts_of(house.services) == {"SUCCESS": 1} == recount(house.services)


def test_two_observers_side_by_side_count_nothing_twice(another_house: Callable[[], House]) -> None:
    heard = random_load(7, tasks=200)
    houses = [another_house(), another_house()]
    doors = [door_over(one.services, f"observer{number}") for number, one in enumerate(houses)]
    if houses[0] is houses[1]:
        # One process owns the file: there it is the threads of one observer.
        doors = doors[:1] * 2
    start, answers, errors = threading.Barrier(2), [0, 0], []

    def observe(which: int) -> None:
        chance, mine = random.Random(which), list(heard)
        chance.shuffle(mine)
        start.wait(20)
        try:
            while mine:
                size = chance.randint(1, 40)
                some, mine = mine[:size], mine[size:]
                answers[which] += doors[which].record(batch(*some)).new
        except Exception as error:  # noqa: BLE001 - compared below, where the test can fail of it
            errors.append(error)

    threads = [threading.Thread(target=observe, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    distinct = {(one.task_id, one.said, one.at, one.worker) for one in heard}
    services = houses[0].services
    assert sum(answers) == len(distinct)
    assert sum(counts_of(services).values()) == 200
    assert counts_of(services) == recount(services)
    counted = tallies_of(services)
    events = [kind for _, kind, _, _ in distinct if kind in COUNTED]
    assert sum(value for key, value in counted.items() if not key[0].startswith("runtime")) == len(events)
    for kind, expected in Counter(events).items():
        assert sum(value for key, value in counted.items() if key[0] == kind) == expected


def test_a_job_of_ours_is_not_observed_and_listed_once(house: House) -> None:
    door = door_over(house.services)
    job = house.submit("app.ours")
    answer = door.record(batch(*success(job.id), *success("theirs")))
    assert answer == Recorded(new=4, duplicates=0, of_jobs=4)
    assert counts_of(house.services) == {"SUCCESS": 1}
    listed = list_tasks(house.ctx, ListTasks()).items
    assert sorted((one.id, one.origin) for one in listed) == sorted([(job.id, "job"), ("theirs", "observed")])
    assert get_task(house.ctx, job.id).origin == "job"
    assert {key[1] for key in tallies_of(house.services)} == {"app.add"}


def test_a_worker_is_merged_from_what_it_says_over_time(house: House) -> None:
    door = door_over(house.services)
    door.record(batch(workers=[worker("one@host", NOW, pid=1, active=0)]))
    door.record(batch(workers=[worker("one@host", NOW + SECOND, active=2), worker("one@host", NOW + 2, pool="solo")]))
    (found,) = house.store.read(lambda r: r.observed.workers())
    assert (found.first_seen_at, found.seen_at) == (NOW, NOW + SECOND)
    assert found.facts == {"pid": 1, "active": 2, "pool": "solo"}
    left = ObservedWorker("one@host", NOW + 2 * SECOND, NOW + 2 * SECOND, None, NOW + 2 * SECOND)
    door.record(batch(workers=[left]))
    (found,) = house.store.read(lambda r: r.observed.workers())
    assert found.standing(NOW + 3 * SECOND) == "offline"
    door.record(batch(workers=[worker("one@host", NOW + 4 * SECOND)]))
    (found,) = house.store.read(lambda r: r.observed.workers())
    assert (found.standing(NOW + 4 * SECOND), found.offline_at) == ("online", None)


def test_queues_are_kept_as_last_seen(house: House) -> None:
    door = door_over(house.services)
    door.queues([ObservedQueue("b", NOW, {"depth": 1}), ObservedQueue("a", NOW, {})])
    door.queues([ObservedQueue("b", NOW + 1, {"depth": None, "exists": True})])
    door.queues([])
    assert house.store.read(lambda r: r.observed.queues()) == [
        ObservedQueue("a", NOW, {}),
        ObservedQueue("b", NOW + 1, {"depth": None, "exists": True}),
    ]


def test_the_oldest_task_that_waits_in_a_queue_is_known(house: House) -> None:
    door = door_over(house.services)
    door.record(
        batch(
            said("a", Said.SENT, NOW - 30 * SECOND, "c@c", queue="q", name="n", retries=0),
            said("b", Said.SENT, NOW - 60 * SECOND, "c@c", queue="q", name="n", retries=0, eta=NOW + 3600 * SECOND),
            said("c", Said.SENT, NOW - 90 * SECOND, "c@c", queue="other", name="n", retries=0),
            said("d", Said.SENT, NOW - 99 * SECOND, "c@c", queue="q", name="n", retries=0),
            said("d", Said.RECEIVED, NOW, name="n", retries=0),
        )
    )
    assert door.oldest_waiting("q") == NOW - 30 * SECOND
    assert door.oldest_waiting("nowhere") is None


# Retention


def test_what_is_old_is_removed_and_the_counts_stay_right(database: Database) -> None:
    clock = FakeClock(NOW)
    house = build_house(database.open(clock), database.folder, clock)
    door = door_over(house.services)
    for number in range(0, 620, 2):
        some = [*success(f"old{number}"), *success(f"old{number + 1}")[:3]]
        door.record(batch(*some, workers=[worker(f"w{number % 3}@host")]))
    clock.advance(3600)
    door.record(batch(*success("young", clock.now()), seen_at=clock.now(), workers=[worker("y@host", clock.now())]))
    door.record(batch(said("old1", Said.SEEN_RUNNING, NOW + 9, "w@host"), seen_at=clock.now()))
    sweep = observations_sweep(house.ctx, 1800)
    assert sweep() == 619
    assert counts_of(house.services) == recount(house.services) == {"SUCCESS": 1, "STARTED": 1}
    assert [one.hostname for one in house.store.read(lambda r: r.observed.workers())] == ["y@host"]
    assert sweep() == 0
    assert observations_sweep(house.ctx, 0)() == 0
    assert door.record(batch(*success("old2"), seen_at=clock.now())).new == 4
    assert counts_of(house.services) == recount(house.services)


# Schema


def test_ids_are_in_the_order_of_code_points_whatever_the_language_of_the_database(database: Database) -> None:
    """Pages are merged and continued in Python: a language's collation, which has other orders, would lose some."""
    if database.kind != "postgres":
        with closing(sqlite3.connect(database.folder / "registry.db")) as file:
            order = file.execute("SELECT coll FROM pragma_index_xinfo('ix_observed_tasks_listed') WHERE name = 'id'")
            assert order.fetchall() == [("BINARY",)]
        return
    columns = {("jobs", "id"), ("job_labels", "job_id"), ("observed_tasks", "id"), ("deliveries", "job_id")}
    with psycopg.connect(database.url) as connection:
        found = connection.execute(
            "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_collation o ON o.oid = a.attcollation WHERE o.collname = 'C' AND c.relkind = 'r'"
            " AND c.relnamespace = 'public'::regnamespace"
        ).fetchall()
    assert set(found) == columns


@pytest.mark.parametrize("version", ["0001", "0002", "0003"])
def test_a_database_of_an_older_version_is_upgraded(database: Database, version: str) -> None:
    path = database.folder / "registry.db"
    if database.kind == "postgres":
        engine = postgres_engine(database.url, read_only=False)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    else:
        path.unlink()
        engine = sqlite_engine(path, read_only=False)
    try:
        assert upgrade_schema(engine, version).found == version
        assert differences(engine) != []
        assert upgrade_schema(engine) == check_schema(engine)
        assert differences(engine) == []
    finally:
        engine.dispose()
    house = build_house(database.open(), database.folder)
    door_over(house.services).record(batch(*success("a")))
    assert counts_of(house.services) == {"SUCCESS": 1}
