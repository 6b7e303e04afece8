"""What becomes of the files of populations and simulations when they are old."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from headway.model.job import Job
from headway.model.states import TERMINAL_STATES, JobState
from headway.pbpk.places import Kind, Places, job_folders

_log = structlog.stdlib.get_logger("headway.pbpk")
_KINDS: Final[tuple[Kind, ...]] = ("populations", "simulations")


def sweep(places: Places, find: Callable[[str], Job | None], now: int, seconds: float) -> int:
    """Remove the files of jobs that ended longer ago than ``POPULATION_RETENTION_SECONDS``; never of a live job.

    What a cancelled or failed job left behind goes at once: nothing resumes it. Files of a job that nobody knows
    (it was removed before) go by the time they were written: should another registry have been named by mistake,
    the files are there when the right one is named again.

    Args:
        places: where files lie.
        find: a job by its id; ``None`` where there is none.
        now: UTC microseconds since the epoch.
        seconds: how long files are kept; 0 keeps them for ever.

    Returns:
        How many folders were removed.
    """
    if seconds <= 0:
        return 0
    before = now - int(seconds * 1_000_000)
    removed = 0
    for kind in _KINDS:
        for job_id, folder in job_folders(places.data_dir / kind):
            job = None if job_id is None else find(job_id)
            if _is_old(job, folder, before):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    if removed:
        _log.debug("population_results.purged", folders=removed, older_than_seconds=seconds)
    return removed


def _is_old(job: Job | None, folder: Path, before: int) -> bool:
    if job is None:
        return _written(folder) < before
    if job.state not in TERMINAL_STATES or job.finished_at is None:
        return False
    return job.state is not JobState.SUCCEEDED or job.finished_at < before


def _written(folder: Path) -> int:
    """When something in the folder was last written, UTC microseconds; now, if that cannot be told."""
    try:
        return max(path.stat().st_mtime_ns for path in (folder, *folder.iterdir())) // 1_000
    except OSError:
        return 2**62
