"""A pytest plugin that runs inside the suite: no worker and no broker, the embedded engine in the suite's own process.

The suite asks two tools of Celery for its worker: `start_worker` and `Manager`. Both are answered here, by what
`headway up -A` would open; every application that the suite makes is attached to that engine's door. Nothing of Celery
itself is replaced.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing import manager, worker

from headway.bootstrap.logging import set_up_logging
from headway.bootstrap.node import Node, open_node, worker_context
from headway.config import Settings
from headway.engine.embedded.attach import attach
from headway.model.commands import ListJobs
from headway.model.errors import TransitionConflict
from headway.model.states import JobState
from headway.service import StoreJobDoor, cancel_job, list_jobs, system_context
from tests.waiting import wait_until

_IDLE_SECONDS = 60.0
_WAITING = (JobState.SCHEDULED, JobState.QUEUED, JobState.RETRY_SCHEDULED)

# What `-A` names: the application for which the suite would start its worker.
session_app: Any = None


class House:
    """A node as `headway up` has it, without its web pages, over a data directory of its own.

    Args:
        app: the application whose tasks it runs.
    """

    def __init__(self, app: Any) -> None:
        global session_app  # noqa: PLW0603 - an application is named by module and attribute
        session_app = app
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="headway-suite-")))
        # One slot, as the suite's worker has one child: some tests count on what waits behind what.
        settings = Settings(data_dir=folder / "data", job_worker_threads=1)
        exhausted = threading.Event()
        self.node: Node = open_node(
            settings, app_spec=f"{__name__}:session_app", engine_chosen=True, on_exhausted=exhausted.set
        )
        self._stack.callback(lambda: self.node.stop(drain_seconds=5))
        context = worker_context(self.node.services, self.node.worker_id)
        self.door = StoreJobDoor(context, self.node.worker_id)

    def attach(self, app: Any) -> None:
        """Make what this application sends jobs of the node."""
        attach(app, self.door)

    def clear(self) -> None:
        """Cancel what waits and let what runs end: what a purge of the broker and a look at the worker do."""
        context = system_context(self.node.services, "the suite's purge")
        while page := list_jobs(context, ListJobs(states=_WAITING)).items:
            for job in page:
                # One that has begun or ended meanwhile is what the wait below is for.
                with suppress(TransitionConflict):
                    cancel_job(context, job.id)
        wait_until(lambda: not self.node.engine.status().running, what="an idle engine", seconds=_IDLE_SECONDS)

    def close(self) -> None:
        """Stop the node and remove its data."""
        self._stack.close()


_house: list[House] = []


class EngineManager(manager.Manager):
    """The suite's manager; what it would ask of a worker it asks of the engine."""

    def _init_manager(
        self, block_timeout: float = 1800.0, no_join: bool = False, stdout: Any = None, stderr: Any = None
    ) -> None:
        self.stdout, self.stderr = stdout, stderr
        self.connerrors = ()
        self.block_timeout, self.no_join = block_timeout, no_join

    def inspect(self, timeout: float = 3.0) -> Any:
        """Answers `ping` alone."""
        return _Ping()

    def wait_until_idle(self) -> None:
        """See `House.clear`."""
        _house[0].clear()


class _Ping:
    @staticmethod
    def ping() -> dict[str, dict[str, str]]:
        status = _house[0].node.engine.status()
        return {"engine": {"ok": "pong"}} if status.store_ok and not status.draining else {}


@contextmanager
def _start_engine(app: Any, **_: Any) -> Iterator[House]:
    assert _house[0].node.engine is not None
    _house[0].node.start()
    yield _house[0]


set_up_logging(logging.WARNING)
# Plugins are imported before the suite's own configuration, which imports both.
assert os.environ["TEST_BROKER"].startswith("memory:"), "there is no broker in this way"
_replaced: Any = manager
_replaced.Manager = EngineManager
_replaced = worker
_replaced.start_worker = _start_engine


def pytest_unconfigure() -> None:
    """After the last test."""
    while _house:
        _house.pop().close()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Attach every application that the suite makes."""
    if fixturedef.argname == "celery_app":
        request.getfixturevalue("celery_session_app")
    made: Any = yield
    if fixturedef.argname == "celery_session_app":
        made.loader.import_task_module("t.integration.tasks")
        _house.append(House(made))
        made.set_current()
    if fixturedef.argname == "celery_app":
        _house[0].attach(made)
    return made
