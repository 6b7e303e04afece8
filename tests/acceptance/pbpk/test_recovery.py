"""A population whose processes are killed under it, or that is cancelled, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headway.pbpk.catalog import SHIPPED
from headway.pbpk.runs import chunk_size
from tests.acceptance.pbpk.server import PbpkServer, of_weight, without_ids
from tests.waiting import wait_until

SIZE = 1000
TASK = "headway.pbpk.run_population"
PEOPLE: dict[str, Any] = {"model": "caffeine", "size": SIZE, "seed": 11, "points": 60}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PbpkServer]:
    with PbpkServer(tmp_path_factory.mktemp("recovery")) as running:
        yield running


@pytest.fixture(scope="module")
def expected(server: PbpkServer) -> dict[str, Any]:
    """The population, undisturbed, computed by one worker."""
    return without_ids(server.result(server.submit(TASK, **PEOPLE, workers=1)))


def _started(server: PbpkServer, **more: Any) -> str:
    """A population in the middle: some of it is on disk, and it is far from its end."""
    job_id = server.submit(TASK, **{**PEOPLE, **more})
    wait_until(lambda: server.done(job_id) > 0, what="the first individuals", seconds=60)
    return job_id


def _gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def _kill_children(server: PbpkServer) -> list[psutil.Process]:
    """Kill the child of every slot at one moment; the workers that they had."""
    workers = server.workers
    children = server.processes("headway.engine.embedded.child")
    for child in children:
        # Stopped first: none of them may begin the next attempt before its turn to be killed has come.
        child.suspend()
    for child in children:
        child.kill()
    return workers


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.long)])
def test_the_result_does_not_depend_on_the_workers(server: PbpkServer, expected: dict[str, Any], workers: int) -> None:
    job_id = server.submit(TASK, **PEOPLE, workers=workers)
    assert without_ids(server.result(job_id)) == expected


@pytest.mark.faults
@pytest.mark.long
def test_killed_workers_are_replaced_within_the_attempt(server: PbpkServer, expected: dict[str, Any]) -> None:
    job_id = _started(server)
    for worker in server.workers:  # those that are warm in other slots, too: they cannot be told apart from here
        worker.kill()
    assert without_ids(server.result(job_id)) == expected
    assert server.job(job_id)["attempts"] == 1


@pytest.mark.faults
def test_a_killed_child_is_tried_again_and_goes_on(server: PbpkServer, expected: dict[str, Any]) -> None:
    job_id = _started(server)
    workers = _kill_children(server)
    wait_until(lambda: _gone(workers), what="the workers to die with their child", seconds=5)
    assert without_ids(server.result(job_id)) == expected
    assert server.job(job_id)["attempts"] == 2
    lines = server.http.get(f"/api/v1/jobs/{job_id}/logs").json()["items"]
    assert any("from an earlier attempt" in line["text"] for line in lines)


@pytest.mark.faults
def test_a_cancelled_population_stops_at_once_and_keeps_nobody_busy(server: PbpkServer) -> None:
    job_id = _started(server, size=200_000)
    before = server.processes("headway.engine.embedded.child")
    server.post("/cancel_job", jobId=job_id)
    server.ended(job_id, "cancelled", seconds=8)

    def idle() -> bool:
        return all(process.cpu_percent(0.2) < 20 for process in server.workers)

    wait_until(idle, what="the workers to be idle", seconds=10)
    # Children are kept warm: a cancel is no reason to compile everything anew.
    assert set(before) <= set(server.processes("headway.engine.embedded.child"))


@pytest.mark.faults
def test_kill_9_of_everything_in_the_middle(tmp_path: Path, expected: dict[str, Any]) -> None:
    first = PbpkServer(tmp_path / "data")
    with first:
        job_id = _started(first)
        beneath = [*first.workers, *first.processes("headway.engine.embedded.child")]
        first.kill_group()
    wait_until(lambda: _gone(beneath), what="no orphan to compute on", seconds=5)
    chunks = list((tmp_path / "data" / "populations" / job_id).glob("chunk-*.table.npz"))
    assert 0 < len(chunks) < SIZE / chunk_size(SIZE)
    with PbpkServer(tmp_path / "data") as second:
        assert without_ids(second.result(job_id)) == expected
        assert second.job(job_id)["attempts"] == 2


@pytest.mark.long
def test_a_recovered_run_is_the_same_run_though_the_model_was_edited(
    server: PbpkServer, expected: dict[str, Any]
) -> None:
    models = server.data_dir / "models"
    models.mkdir(exist_ok=True)
    text = (SHIPPED / "caffeine.xml").read_text()
    (models / "edited.xml").write_text(text)
    job_id = _started(server, model="edited")
    (models / "edited.xml").write_text(of_weight(text, 120))
    _kill_children(server)
    found = without_ids(server.result(job_id))
    # The name comes from the file; everything else is the first text's.
    assert {**found, "model": expected["model"]} == expected
