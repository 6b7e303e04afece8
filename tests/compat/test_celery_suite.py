"""Celery's own integration suite: without Headway, and its canvas and task tests on the embedded engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.celery_suite.comparison import compare, counts
from tests.compat.celery_suite.exceptions import EMBEDDED, MANAGED, NOT_RUN
from tests.compat.celery_suite.lanes import CANVAS, TASKS, baseline, canvas_and_tasks, run_units
from tests.compat.celery_suite.ways import Way, place, run

# What is run in continuous integration: a few seconds, with the Python of the tests themselves.
NAMED = (
    "test_tasks.py::test_tasks::test_basic_task",
    "test_tasks.py::test_tasks::test_fail",
    "test_tasks.py::test_tasks::test_wrong_arguments",
    "test_tasks.py::test_tasks::test_fail_with_unpickleable_exception",
    "test_canvas.py::test_chain::test_chain_on_error",
    "test_canvas.py::test_chain::test_complex_chain",
    "test_canvas.py::test_chain::test_chain_inside_group_receives_arguments",
    "test_canvas.py::test_group::test_group_children_with_errbacks",
    "test_canvas.py::test_chord::test_add_to_chord",
    "test_canvas.py::test_chord::test_nested_chord",
    "test_canvas.py::test_chord::test_chord_header_task_replaced_with_chain",
    "test_canvas.py::test_chord::test_error_propagates_to_chord_from_chain",
    "test_canvas.py::test_signature_serialization::test_rebuild_nested_chain_group",
)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the logs of all runs, so that the baseline is run once."""
    return tmp_path_factory.mktemp("celery-suite")


def test_named_part_on_the_embedded_engine(tmp_path: Path) -> None:
    with place(Way.EMBEDDED, "valkey", tmp_path) as where:
        found = run(Way.EMBEDDED, NAMED, where, tmp_path / "pytest.log", seconds=90)
    assert {name: found[name].text for name in found if not found[name].passed} == {}
    assert set(found) == set(NAMED)


def test_each_exception_has_its_reason() -> None:
    for table in (EMBEDDED, MANAGED, NOT_RUN):
        for name, why in table.items():
            assert name.startswith("test_"), name
            assert why.endswith("."), f"{name}: a reason is a sentence, got: {why}"
            assert len(why.split()) > 4, f"{name}: a reason says why, got: {why}"


@pytest.mark.compat
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_suite_without_headway(logs: Path, capsys: pytest.CaptureFixture[str], broker: str) -> None:
    """The baseline: where this fails, nothing is asked of the other ways, so it must not fail far."""
    plain = baseline(broker, logs)
    with capsys.disabled():
        print(f"\nplain on {broker}: {counts(plain)}")
    assert sum(one.passed for one in plain.values()) >= 0.9 * len(plain)


@pytest.mark.compat
@pytest.mark.timeout(3600)
def test_canvas_and_tasks_on_the_embedded_engine(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = {name: one for name, one in baseline("valkey", logs).items() if name.partition("::")[0] in {CANVAS, TASKS}}
    found = run_units(Way.EMBEDDED, "valkey", canvas_and_tasks(), logs, table=EMBEDDED)
    compared = compare(plain, found, EMBEDDED)
    with capsys.disabled():
        print(f"\n{compared.report('embedded')}")
    assert not compared.broken
    assert not compared.stale
