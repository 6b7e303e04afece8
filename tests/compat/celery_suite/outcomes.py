"""A pytest plugin that runs inside the suite: what became of each test, a line of JSON when it has ended.

It imports nothing of ours, so that the baseline runs without it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

OUTCOMES = "SUITE_OUTCOMES"
EXCEPTIONS = "SUITE_EXCEPTIONS"
_EXCEPTION_SECONDS = 100
_TEXT = 1500


def pytest_configure(config: pytest.Config) -> None:
    """Record into the file that the environment names."""
    config.pluginmanager.register(_Recorder(Path(os.environ[OUTCOMES])))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that is expected to fail is tried once and not for long; all others as their own marks say."""
    expected = set(json.loads(os.environ.get(EXCEPTIONS, "[]")))
    for item in items:
        if item.nodeid in expected:
            item.add_marker(pytest.mark.flaky(reruns=0), append=False)
            item.add_marker(pytest.mark.timeout(_EXCEPTION_SECONDS), append=False)


class _Recorder:
    """One line when a test starts and one when it has ended, so that the one that never ends can be named."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._test = ""
        self._outcome: str | None = None
        self._text = ""
        self._seconds = 0.0
        self._runs = 1

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        # Announced anew for each try.
        if nodeid != self._test:
            self._test, self._outcome, self._text, self._seconds, self._runs = nodeid, None, "", 0.0, 1
            self._write({"test": nodeid, "started": True})

    def pytest_runtest_logreport(self, report: Any) -> None:
        # Parts of a test report their time as well, which is in that of the whole.
        self._seconds += 0.0 if hasattr(report, "context") else report.duration
        if report.outcome == "rerun":
            self._outcome, self._runs = None, self._runs + 1
            return
        found = _outcome_of(report)
        # Parts of a test report under its name; one that failed is not undone by those after it.
        if found == "failed" or (self._outcome != "failed" and (report.when == "call" or found != "passed")):
            if found == "failed" or not self._text:
                self._text = _text_of(report) if found != "passed" else ""
            self._outcome = found

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        outcome = self._outcome or "failed"
        said = {"outcome": outcome, "seconds": round(self._seconds, 2), "runs": self._runs, "text": self._text}
        self._write({"test": nodeid, **said})

    def _write(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _outcome_of(report: Any) -> str:
    expected_to_fail = hasattr(report, "wasxfail")
    if report.outcome == "skipped":
        return "xfailed" if expected_to_fail else "skipped"
    if report.outcome == "passed" and expected_to_fail:
        return "xpassed"
    return str(report.outcome)


def _text_of(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return f"{crash.message} ({Path(crash.path).name}:{crash.lineno})"[:_TEXT]
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[-1])[:_TEXT]
    return str(report.longrepr)[-_TEXT:]
