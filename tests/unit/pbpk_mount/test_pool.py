"""The pool of worker processes: real processes, real chunks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from headway.pbpk import errors, places, sbml
from headway.pbpk.catalog import ModelCatalog
from headway.pbpk.chunks import is_complete
from headway.pbpk.pool import MAX_STRIKES, Chunk, Shares, Work, WorkerPool
from headway.pbpk.population import PopulationSpec, plan_chunks, population_spec
from headway.pbpk.times import dosing_grid
from headway.pbpk.worker import SPEC_FILE
from tests.waiting import wait_until

TEXT = ModelCatalog().find("caffeine").read()
SPEC = population_spec(sbml.describe(TEXT, "caffeine"), size=40, seed=3, times=dosing_grid(12, 20))


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with ExitStack() as stack:
        pool = WorkerPool()
        stack.callback(pool.close)
        yield pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepared(tmp_path, SPEC)


def prepared(folder: Path, spec: PopulationSpec, text: str = TEXT) -> Path:
    places.write_aside(folder / places.MODEL_FILE, text.encode())
    places.write_json(folder / SPEC_FILE, spec.to_dict())
    return folder


class Watch:
    """Counts what the pool tells, and does something at a chunk."""

    def __init__(self, folder: Path, chunks: list[Chunk], *, workers: int = 2, spec: PopulationSpec = SPEC) -> None:
        self.done: list[Chunk] = []
        self.cancelled = False
        self.work = Work(
            folder, spec.fingerprint, "caffeine", chunks, lambda: workers, self.done.append, lambda: self.cancelled
        )


def test_every_chunk_is_written_once_and_the_workers_stay_warm(pool: WorkerPool, folder: Path) -> None:
    chunks = plan_chunks(SPEC.size, 10)
    watch = Watch(folder, chunks)
    assert pool.run(watch.work)
    assert sorted(watch.done) == chunks
    assert all(is_complete(folder, *chunk, SPEC.fingerprint) for chunk in chunks)
    warm = pool.idle
    assert 1 <= len(warm) <= 2

    again = Watch(folder, chunks[:1], workers=1)
    assert pool.run(again.work)
    assert set(pool.idle) == set(warm)


def test_a_worker_that_died_while_idle_is_replaced(pool: WorkerPool, folder: Path) -> None:
    chunks = plan_chunks(SPEC.size, 20)
    assert pool.run(Watch(folder, chunks, workers=1).work)
    (old,) = pool.idle
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: psutil.Process(old).status() == psutil.STATUS_ZOMBIE, what="the worker to die")
    watch = Watch(folder, chunks, workers=1)
    assert pool.run(watch.work)
    assert sorted(watch.done) == chunks
    assert old not in pool.idle


def test_a_chunk_that_kills_its_worker_again_and_again_ends_the_run(pool: WorkerPool, folder: Path) -> None:
    (folder / places.MODEL_FILE).unlink()
    os.mkfifo(folder / places.MODEL_FILE)  # whoever reads it waits, and can be killed

    def kill_the_worker() -> bool:
        for process in psutil.Process().children():
            if "headway.pbpk.worker" in process.cmdline():
                process.kill()
                killed.append(process.pid)
        return False

    killed: list[int] = []
    work = Work(folder, SPEC.fingerprint, "caffeine", [(0, 10)], lambda: 1, lambda _: None, kill_the_worker)
    with pytest.raises(errors.WorkerFailed, match=f"0 to 10 ended their worker process {MAX_STRIKES} times.*SIGKILL"):
        pool.run(work)
    assert len(set(killed)) == MAX_STRIKES


def test_what_a_worker_says_is_wrong_comes_out_as_it_is(pool: WorkerPool, folder: Path) -> None:
    (folder / places.MODEL_FILE).write_text(TEXT.replace('"73"', '"74"'))
    with pytest.raises(errors.InvalidSimulation, match="another version of the model"):
        pool.run(Watch(folder, [(0, 10)]).work)


def test_a_folder_that_cannot_be_written_is_an_error(pool: WorkerPool, folder: Path) -> None:
    blocked = folder / ".chunk-000000000-000000010.series"
    watch = Watch(folder, [(0, 10)])

    def in_the_way(path: Path) -> None:
        path.mkdir()

    # The worker writes aside under its own process id; a folder of that name is in its way.
    first = Watch(folder, [(10, 20)], workers=1)
    assert pool.run(first.work)
    (pid,) = pool.idle
    in_the_way(blocked.with_name(f"{blocked.name}.{pid}.tmp"))
    with pytest.raises(errors.WorkerFailed, match="IsADirectoryError"):
        pool.run(watch.work)


def test_a_cancelled_run_stops_and_leaves_nobody_computing(pool: WorkerPool, folder: Path) -> None:
    big = population_spec(sbml.describe(TEXT, "caffeine"), size=100_000, seed=3, times=dosing_grid(48, 241))
    prepared(folder, big)
    watch = Watch(folder, plan_chunks(big.size, 10), spec=big)
    work = Work(
        folder,
        big.fingerprint,
        "caffeine",
        watch.work.chunks,
        lambda: 2,
        watch.done.append,
        lambda: len(watch.done) > 3,
    )
    assert not pool.run(work)
    assert len(watch.done) < 20
    for pid in pool.idle:
        wait_until(lambda pid=pid: psutil.Process(pid).cpu_percent(0.1) < 20, what="an idle worker")  # type: ignore[misc]


def test_idle_workers_end_after_a_while(folder: Path) -> None:
    pool = WorkerPool(idle_seconds=0.05)
    assert pool.run(Watch(folder, [(0, 10)], workers=1).work)
    wait_until(lambda: not pool.idle, what="the idle worker to be ended")
    assert pool.run(Watch(folder, [(0, 10)], workers=1).work)
    pool.close()


def test_workers_die_with_the_process_that_started_them(folder: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from headway.pbpk.pool import Work, WorkerPool
pool = WorkerPool()
pool.run(Work(Path({str(folder)!r}), {SPEC.fingerprint!r}, "caffeine", [(0, 10)], lambda: 1, print, lambda: False))
print(pool.idle[0], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    worker = int(ran.stdout.split()[-1])
    wait_until(lambda: not psutil.pid_exists(worker), what="the worker to die", seconds=5)


def test_shares_are_one_each_and_the_rest_for_whoever_comes_first(tmp_path: Path) -> None:
    with Shares(tmp_path, 3, 8) as first:
        assert first.allowed() == 4
        with Shares(tmp_path, 3, 8) as second:
            assert second.allowed() == 1
        assert Shares(tmp_path, 3, 1).allowed() == 1
    with Shares(tmp_path, 3, 2) as modest, Shares(tmp_path, 3, 8) as greedy:
        assert modest.allowed() == 2
        assert greedy.allowed() == 3


def test_shares_of_a_dead_process_are_free_again(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from headway.pbpk.pool import Shares
shares = Shares(Path({str(tmp_path)!r}), 2, 8)
print(shares.allowed(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "3\n"
    with Shares(tmp_path, 2, 8) as shares:
        assert shares.allowed() == 3
