"""A pytest plugin that runs inside the suite: every application that it makes is attached, in the one line of the manual.

Workers are the suite's own, in its process, with the pool that it asks for. Registry and broker are named by the
environment; the relay and the due jobs are those of a service process that runs beside it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import pytest
from celery.contrib.testing.worker import test_worker_starting as worker_starting

import headway

_APPLICATIONS = ("celery_session_app", "celery_app")


def pytest_configure() -> None:
    """Applications that a file of the suite makes for itself are attached before their worker starts."""
    worker_starting.connect(_attach_sender, weak=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """Attach every application that the suite's fixtures make."""
    made = yield
    if fixturedef.argname in _APPLICATIONS:
        _attach(made)
    return made


def _attach_sender(sender: Any, **_: Any) -> None:
    _attach(sender)


def _attach(app: Any) -> None:
    cast("Any", headway).attach(app)
