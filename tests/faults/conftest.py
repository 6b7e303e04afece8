"""A folder with the tasks of the fault tests, and what is said at the end of a run."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headway.client import Client
from headway.model.commands import ListJobs
from headway.model.states import LIVE_STATES
from tests.faults.serving import Server
from tests.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `up -A work` is started."""
    shutil.copy(Path(__file__).with_name("work.py"), tmp_path / "work.py")
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Server]]:
    """Make servers over `folder`; what is left of them after the test is killed."""
    made: list[Server] = []

    def make(app: str | None = "work", **options: object) -> Server:
        server = Server(folder, app, **options)  # type: ignore[arg-type]
        made.append(server)
        return server

    yield make
    for server in made:
        server.__exit__(None, None, None)
        for process in server.alive():
            process.kill()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """What everything random of a test follows from: its name, or HEADWAY_TEST_FAULT_SEED for other moments."""
    return f"{request.node.name}-{os.environ.get('HEADWAY_TEST_FAULT_SEED', '1')}"


@pytest.fixture
def chance(seed: str) -> random.Random:
    """The test's own random numbers."""
    return random.Random(seed)


def all_ended(client: Client, seconds: float = 60.0) -> None:
    """Wait until no job is on its way."""
    live = ListJobs(states=tuple(sorted(LIVE_STATES)), limit=1)
    try:
        wait_until(lambda: not client.page(live).items, what="all jobs to end", seconds=seconds, every=0.1)
    except AssertionError as error:
        error.add_note(f"{client.ready()}")
        raise
