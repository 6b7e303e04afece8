"""Which files of populations are removed, and which never."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from headway.model.job import Backoff, Job
from headway.model.states import LIVE_STATES, JobState
from headway.pbpk import places, retention
from headway.pbpk.places import Places
from headway.pbpk.retention import sweep

NOW = 1_800_000_000_000_000
HOUR = 3_600 * 1_000_000
KEEP = 24 * 3600.0


def job(job_id: str, state: JobState, finished_at: int | None) -> Job:
    fields = dict.fromkeys(Job.__dataclass_fields__)
    known = {"id": job_id, "state": state, "finished_at": finished_at, "backoff": Backoff()}
    return Job(**{**fields, **known})  # type: ignore[arg-type]


class Shelf:
    """Folders of jobs, and what is known of the jobs."""

    def __init__(self, data_dir: Path) -> None:
        self.places = Places(data_dir)
        self.jobs: dict[str, Job] = {}

    def put(self, job_id: str, state: JobState | None, hours_ago: float, kind: places.Kind = "populations") -> Path:
        folder = self.places.folder(kind, job_id)
        places.write_json(folder / places.JOB_FILE, {"job_id": job_id})
        at = NOW - int(hours_ago * HOUR)
        for path in (*folder.iterdir(), folder):
            os.utime(path, (at / 1e6, at / 1e6))
        if state is not None:
            self.jobs[job_id] = job(job_id, state, None if state in LIVE_STATES else at)
        return folder

    def sweep(self, seconds: float = KEEP) -> int:
        return sweep(self.places, self.jobs.get, NOW, seconds)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize("kind", ["populations", "simulations"])
def test_old_results_go_and_fresh_ones_stay(shelf: Shelf, kind: places.Kind) -> None:
    old = shelf.put("old", JobState.SUCCEEDED, 25, kind)
    fresh = shelf.put("fresh", JobState.SUCCEEDED, 23, kind)
    assert shelf.sweep() == 1
    assert (old.exists(), fresh.exists()) == (False, True)


@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_files_of_a_live_job_are_never_touched(shelf: Shelf, state: JobState) -> None:
    folder = shelf.put("live", state, 1000)
    assert shelf.sweep(0.001) == 0
    assert folder.exists()


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT])
def test_what_ended_without_a_result_goes_at_once(shelf: Shelf, state: JobState) -> None:
    folder = shelf.put("ended", state, 0)
    assert shelf.sweep() == 1
    assert not folder.exists()


def test_zero_keeps_everything(shelf: Shelf) -> None:
    folder = shelf.put("old", JobState.SUCCEEDED, 10_000)
    unknown = shelf.put("unknown", None, 10_000)
    assert shelf.sweep(0) == 0
    assert folder.exists()
    assert unknown.exists()


def test_files_of_an_unknown_job_go_by_the_time_they_were_written(shelf: Shelf) -> None:
    old = shelf.put("old", None, 25)
    fresh = shelf.put("fresh", None, 23)
    assert shelf.sweep() == 1
    assert (old.exists(), fresh.exists()) == (False, True)


def test_an_id_that_is_no_file_name_is_found_by_what_is_written_in_the_folder(shelf: Shelf) -> None:
    live = shelf.put("../strange id", JobState.RUNNING, 1000)
    assert shelf.sweep(1) == 0
    assert live.exists()


def test_what_is_not_a_jobs_folder_stays(shelf: Shelf, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shares = shelf.places.shares
    shares.mkdir(parents=True)
    (shares.parent / "link").symlink_to(outside)
    (shares.parent / "notes.txt").write_text("mine")
    for path in (outside, shares):
        os.utime(path, (0, 0))
    assert shelf.sweep() == 0
    assert outside.exists()
    assert shares.exists()
    assert (shares.parent / "notes.txt").exists()


def test_a_sweep_that_removed_something_says_so(shelf: Shelf, written: Callable[[], list[str]]) -> None:
    shelf.sweep()
    assert written() == []
    shelf.put("old", JobState.SUCCEEDED, 25)
    shelf.sweep()
    assert written() == ["population_results.purged"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The DEBUG events so far."""
    log = structlog.testing.LogCapture()
    # Whatever an earlier test of this process configured: its level filters, and a logger that was used has kept both.
    structlog.configure(processors=[log], wrapper_class=structlog.stdlib.BoundLogger, cache_logger_on_first_use=False)
    monkeypatch.setattr(retention, "_log", structlog.stdlib.get_logger("headway.pbpk"))
    return lambda: [entry["event"] for entry in log.entries if entry["log_level"] == "debug"]
