"""What breaks under a store: a full disk, a killed process, a database that goes and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.model.commands import Finish, ListJobs
from headway.model.errors import StorageFull, StoreUnavailable
from headway.model.job import Job
from headway.model.states import AttemptOutcome, JobState
from headway.service import StoreJobDoor, get_job, list_jobs, read_result
from headway.store.postgres import open_postgres, postgres_engine
from headway.store.schema import upgrade_schema
from headway.store.signals import LocalSignal
from headway.system import SystemClock
from headway.testing import check_invariants
from tests.servers.postgres import PostgresServer
from tests.unit.store.house import House, open_house
from tests.waiting import wait_until

pytestmark = pytest.mark.faults
FACTS = {"host": "h", "pid": 1, "slots": 1, "version": "0"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; where the tests may not mount one, a folder (the database is then bounded itself)."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_work_goes_on_after(small_disk: Path) -> None:
    house = open_house(small_disk)
    ballast = small_disk / "ballast"
    mounted = small_disk.is_mount()
    house.store.write(lambda tx: tx.register_worker("w", FACTS))
    door = StoreJobDoor(house.ctx, "w")
    running = house.submit()
    (begun,) = door.begin(1)
    accepted: list[str] = []
    if mounted:
        ballast.write_bytes(b"x" * 4_000_000)
    else:
        house.store.write(lambda tx: tx._cursor.execute("PRAGMA max_page_count = 600"))  # type: ignore[attr-defined]
    full: StorageFull | None = None
    while full is None and len(accepted) < 3_000:
        try:
            accepted.append(house.submit(args=["y" * 5_000]).id)
        except StorageFull as error:
            full = error
    assert full is not None
    assert "Free space" in full.hint
    assert accepted
    # Reading goes on, and what was accepted is there.
    assert get_job(house.ctx, accepted[-1]).state is JobState.QUEUED
    with pytest.raises(StorageFull):
        house.submit(args=["y" * 5_000])
    if mounted:
        ballast.unlink()
    else:
        house.store.write(lambda tx: tx._cursor.execute("PRAGMA max_page_count = 1000000"))  # type: ignore[attr-defined]
    report = Finish(begun.job_id, begun.fence, AttemptOutcome.SUCCEEDED, result_json="1", begun=begun)
    assert door.finish(report).state is JobState.SUCCEEDED
    accepted.append(house.submit().id)
    assert read_result(house.ctx, running.id) == "1"
    counted = check_invariants(house.store)
    assert counted.total == len(accepted) + 1
    house.store.close()


_WRITER = """
import os, sys, threading
from pathlib import Path
from tests.unit.store.house import open_house
house = open_house(Path(sys.argv[1]))
lock = threading.Lock()
def run(name):
    for i in range(100_000):
        job = house.submit(args=[name, i])
        with lock:
            os.write(int(sys.argv[2]), (job.id + "\\n").encode())
threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, fault_rounds: int) -> None:
    for turn in range(fault_rounds):
        folder = tmp_path / str(turn)
        folder.mkdir()
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder), str(writing)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writing],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        os.close(writing)
        with os.fdopen(reading) as told:
            said = [told.readline().strip() for _ in range(60 + 17 * turn)]
            process.send_signal(signal.SIGKILL)
            process.wait()
            # The last line may be cut in the middle.
            said += told.read().split("\n")[:-1]
        assert said[0]
        house = open_house(folder)
        there = {job.id for job in list_all(house)}
        assert set(said) <= there
        # What was not acknowledged may be there: at most one for each thread.
        assert len(there) <= len(said) + 4 + 1
        assert check_invariants(house.store).events == len(there)
        house.submit()
        house.store.close()


def list_all(house: House) -> Iterator[Job]:
    cursor = None
    while True:
        page = list_jobs(house.ctx, ListJobs(limit=1000, cursor=cursor))
        yield from page.items
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


@pytest.mark.postgres
def test_a_database_that_goes_and_comes_back(own_postgres: PostgresServer, tmp_path: Path) -> None:
    url = own_postgres.create_database()
    engine = postgres_engine(url, read_only=False)
    upgrade_schema(engine)
    engine.dispose()
    store = open_postgres(url, clock=SystemClock(), signal=LocalSignal())
    try:
        template = open_house(tmp_path)
        house = _over(template, store)
        template.store.close()
        store.write(lambda tx: tx.register_worker("w", FACTS))
        door = StoreJobDoor(house.ctx, "w")
        job = house.submit()
        (begun,) = door.begin(1)
        report = Finish(begun.job_id, begun.fence, AttemptOutcome.SUCCEEDED, result_json="1", begun=begun)
        for stop in (own_postgres.stop, own_postgres.kill):
            stop()
            for attempt in (
                lambda: door.finish(report),
                lambda: house.submit(),  # noqa: PLW0108 the verb looks its store up when it is called
                lambda: get_job(house.ctx, job.id),
                store.number_events,
                store.ping,
            ):
                with pytest.raises(StoreUnavailable):
                    attempt()
            own_postgres.start()
            # The first write after the return is good: an old connection is not taken for an answer.
            house.submit()
            wait_until(lambda: _answers(house, job.id), what="reads", seconds=20)
        assert door.finish(report).state is JobState.SUCCEEDED
        assert door.finish(report).state is JobState.SUCCEEDED
        assert check_invariants(store).total == 3
    finally:
        store.close()


def _over(house: House, store: object) -> House:
    from dataclasses import replace

    services = replace(house.services, store=store)  # type: ignore[arg-type]
    return House(store, services, replace(house.ctx, services=services), house.signal)  # type: ignore[arg-type]


def _answers(house: House, job_id: str) -> bool:
    try:
        return get_job(house.ctx, job_id) is not None
    except StoreUnavailable:
        return False


@pytest.mark.postgres
def test_a_connection_that_is_cut_in_the_middle_of_writes(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """Submits in four threads while the server is killed: every acknowledged one is there afterwards, once."""
    url = own_postgres.create_database()
    engine = postgres_engine(url, read_only=False)
    upgrade_schema(engine)
    engine.dispose()
    store = open_postgres(url, clock=SystemClock(), signal=LocalSignal())
    template = open_house(tmp_path)
    house = _over(template, store)
    template.store.close()
    stop = threading.Event()
    accepted: list[str] = []
    refused: list[str] = []

    def run(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{name}.{number}"
            while True:
                try:
                    accepted.append(house.submit(args=[key], idempotency_key=key).id)
                except StoreUnavailable:
                    refused.append(key)
                    if stop.wait(0.02):
                        return
                else:
                    break

    threads = [threading.Thread(target=run, args=(name,)) for name in range(4)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(2):
            so_far = len(accepted)
            wait_until(lambda: len(accepted) > so_far + 30, what="submits", seconds=30)  # noqa: B023
            before = len(refused)
            own_postgres.kill()
            wait_until(lambda: len(refused) > before + 4, what="refusals", seconds=30)  # noqa: B023
            own_postgres.start()
        so_far = len(accepted)
        wait_until(lambda: len(accepted) > so_far + 30, what="submits after it", seconds=30)
        stop.set()
        for thread in threads:
            thread.join(30)
        there = {job.id for job in list_all(house)}
        assert len(accepted) == len(set(accepted))
        assert set(accepted) <= there
        assert len(there) <= len(accepted) + len(threads)
        check_invariants(store)
    finally:
        stop.set()
        store.close()
