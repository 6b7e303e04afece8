"""A service process' node inside the measuring process, exactly as ``headway up`` puts it together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headway.bootstrap.logging import set_up_logging
from headway.bootstrap.node import Node, open_node, worker_context
from headway.config import Settings
from headway.model.commands import SubmitJob
from headway.service import Context, submit_batch

APP = "benchmarks.jobs"
NOOP = "benchmarks.jobs.noop"
LARGEST_BATCH = 10_000


@contextmanager
def opened_node(data_dir: Path, *, registry: str | None = None, threads: int = 2) -> Iterator[Node]:
    """A node over a data directory; all settings but the number of threads and the registry are the defaults.

    Args:
        data_dir: its data.
        registry: the URL of a Postgres database; None is SQLite in the data directory.
        threads: of the engine.
    """
    set_up_logging(logging.WARNING)
    chosen: dict[str, Any] = {} if registry is None else {"job_registry_path": registry}
    settings = Settings(data_dir=data_dir, job_worker_threads=threads, **chosen)
    node = open_node(settings, app_spec=APP, engine_chosen=True, on_exhausted=lambda: sys.exit("engine exhausted"))
    try:
        yield node
    finally:
        node.stop(drain_seconds=1.0)


def context_of(node: Node) -> Context:
    """A caller's context."""
    return worker_context(node.services, node.worker_id)


def fill(ctx: Context, count: int, task: str = NOOP) -> list[str]:
    """Submit so many jobs, in batches; their ids."""
    ids: list[str] = []
    while len(ids) < count:
        ids += submit_batch(ctx, [SubmitJob(task=task)] * min(LARGEST_BATCH, count - len(ids)))
    return ids
