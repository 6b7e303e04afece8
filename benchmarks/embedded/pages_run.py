"""Child process: the same pages and reads of a small and of a large registry, in turns."""

from __future__ import annotations

import json
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.embedded.filling import multiply
from benchmarks.node import NOOP, context_of, fill, opened_node
from headway.bootstrap.database import open_store, services_of
from headway.config import Settings
from headway.model.actor import Actor, Role
from headway.model.commands import ListJobs, SubmitJob
from headway.model.states import LIVE_STATES, JobState
from headway.service import Context, cancel_job, count_jobs, get_job, list_jobs, submit_job
from tests.servers.postgres import create_database

_OTHER, _FAIL = "benchmarks.jobs.other", "benchmarks.jobs.fail"
_HOUR = 3_600_000_000
_END_SECONDS = 120.0
PAGE = 50


def main(wanted: dict[str, Any]) -> dict[str, Any]:
    """Run 1,000 jobs, copy them ``copies`` times, and read both registries ``calls`` times per round and read.

    Args:
        wanted: ``folder``, ``copies``, ``rounds``, ``calls``, and ``server`` (URL of a Postgres, or None).

    Returns:
        ``reads``: per read a list of (small, large) medians in ms, one per round; ``jobs``: how many there were;
        ``large``: the large data directory; ``fill_seconds``.
    """
    folder = Path(wanted["folder"])
    small = Settings(data_dir=folder / "small", **_registry(wanted.get("server")))
    _run_jobs(small)
    begun = time.monotonic()
    large = _grown(small, folder / "large", wanted["copies"])
    took = time.monotonic() - begun
    stores = [open_store(settings, own=True, upgrade=False) for settings in (small, large)]
    try:
        contexts = [
            Context(services_of(opened, settings, None), Actor("benchmark", Role.ADMIN))
            for opened, settings in zip(stores, (small, large), strict=True)
        ]
        reads = [_reads(ctx, _some_ids(settings)) for ctx, settings in zip(contexts, (small, large), strict=True)]
        measured = {
            name: [_median_each(reads[0][name], reads[1][name], wanted["calls"]) for _ in range(wanted["rounds"])]
            for name in reads[0]
        }
    finally:
        for opened in stores:
            opened.close()
    counts = [_count(settings) for settings in (small, large)]
    return {"reads": measured, "jobs": counts, "large": str(large.data_dir), "fill_seconds": took}


def _registry(server: str | None) -> dict[str, Any]:
    return {} if server is None else {"job_registry_path": create_database(server)}


def _run_jobs(settings: Settings) -> None:
    """A thousand jobs, of which 87 % do one thing, 6 % another, 6 % fail and 1 % are cancelled.

    Whatever is asked for, there is more than a page of it here, too: both registries answer as many jobs.
    """
    registry = settings.job_registry_path if settings.on_postgres else None
    with opened_node(settings.data_dir, registry=registry) as node:
        ctx = context_of(node)
        node.start()
        for _ in range(10):
            fill(ctx, 87)
            fill(ctx, 6, _OTHER)
            fill(ctx, 6, _FAIL)
            job = submit_job(ctx, SubmitJob(task=NOOP, run_at=node.services.clock.now() + _HOUR))
            cancel_job(ctx, job.id)
        ends = time.monotonic() + _END_SECONDS
        while any(count_jobs(ctx)[state] for state in LIVE_STATES):
            if time.monotonic() > ends:
                raise RuntimeError(f"not all jobs ended: {count_jobs(ctx)}")
            time.sleep(0.05)
        time.sleep(1.0)  # the numbering of the last events, on Postgres


def _grown(small: Settings, data_dir: Path, copies: int) -> Settings:
    """A copy of the registry with so many copies of its jobs more."""
    if small.on_postgres:
        head, _, name = small.job_registry_path.rpartition("/")
        maintenance = sa.create_engine(_sqlalchemy_url(f"{head}/postgres"), isolation_level="AUTOCOMMIT")
        with maintenance.connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}_large" TEMPLATE "{name}"'))
        maintenance.dispose()
        large = Settings(data_dir=data_dir, job_registry_path=f"{head}/{name}_large")
    else:
        large = Settings(data_dir=data_dir)
        shutil.copytree(small.data_dir, data_dir)
    engine = sa.create_engine(large.registry_url)
    for done in multiply(engine, copies):
        if done % 100 == 0:
            print(f"{done} copies", file=sys.stderr, flush=True)
    engine.dispose()
    if small.on_postgres:
        # What autovacuum does sooner or later.
        for settings in (small, large):
            vacuum = sa.create_engine(settings.registry_url, isolation_level="AUTOCOMMIT")
            with vacuum.connect() as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))
            vacuum.dispose()
    return large


def _sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _some_ids(settings: Settings) -> list[str]:
    engine = sa.create_engine(settings.registry_url)
    with engine.connect() as connection:
        ids = [str(row[0]) for row in connection.execute(sa.text("SELECT id FROM jobs"))]
    engine.dispose()
    return random.Random(1).sample(ids, min(1000, len(ids)))


def _count(settings: Settings) -> int:
    engine = sa.create_engine(settings.registry_url)
    with engine.connect() as connection:
        count = int(connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar_one())
    engine.dispose()
    return count


def _reads(ctx: Context, ids: list[str]) -> dict[str, Callable[[], object]]:
    """What is read, by its name."""
    chosen = random.Random(2)

    def page(**filters: Any) -> Callable[[], object]:
        query = ListJobs(limit=PAGE, **filters)
        found = list_jobs(ctx, query)
        assert len(found.items) == PAGE, f"{len(found.items)} jobs on the page of {filters}"
        assert found.next_cursor is not None
        return lambda: list_jobs(ctx, query)

    middle = get_job(ctx, ids[0])
    second = list_jobs(ctx, ListJobs(limit=PAGE)).next_cursor
    assert middle.id == ids[0]
    return {
        "first page": page(),
        "second page": page(cursor=second),
        "page by state succeeded": page(states=(JobState.SUCCEEDED,)),
        "page by state failed": page(states=(JobState.FAILED,)),
        "page by task": page(task=_OTHER),
        "page by state and task": page(states=(JobState.FAILED,), task=_FAIL),
        "status of a job": lambda: get_job(ctx, chosen.choice(ids)),
    }


def _median_each(small: Callable[[], object], large: Callable[[], object], calls: int) -> tuple[float, float]:
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(calls + 10):
        for read, times in zip((small, large), took, strict=True):
            begun = time.perf_counter()
            read()
            if number >= 10:
                times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took[0]), statistics.median(took[1])


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
