"""The situation report in the terminal: nothing is said of the present that is only remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headway.cli.observed import busy, oldest
from headway.cli.situation import lines
from headway.model.observed import ObservedQueue, TaskView, WorkerView
from headway.model.reported import queue_json, situation_json, worker_json
from headway.model.situation import Figure, Health, Situation, SourceView, TaskMetrics
from headway.model.states import JobState
from tests.observations import NOW, SECOND

NAMES = (
    "total_tasks", "active_tasks", "completed_tasks", "failed_tasks", "pending_tasks", "cancelled_tasks",
    "success_rate", "orphaned_tasks", "unresolved_tasks",
)  # fmt: skip
TASK = TaskView("t1", "app.add", JobState.SUCCEEDED, "SUCCESS", NOW, "observed", worker="w@h")


def report(**changes: Any) -> dict[str, Any]:
    metrics = TaskMetrics(57, 2, 40, 3, 10, 0, 0.9302)
    figures = dict.fromkeys(NAMES, Figure(NOW, complete=True))
    source = SourceView("jobs", NOW, complete=True, ok=True)
    whole = Situation(NOW, Health.OK, metrics, figures, (), (), (), (), (), (source,))
    return situation_json(replace(whole, **changes))


def text_of(shown: dict[str, Any]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines(shown, "here"))


def test_the_total_says_what_is_in_no_other_figure() -> None:
    assert "57 in all\n" in text_of(report())
    metrics = TaskMetrics(57, 0, 40, 3, 10, 0, None, orphaned_tasks=2, unresolved_tasks=1)
    assert "57 in all, of these 2 orphaned, 1 unknown\n" in text_of(report(metrics=metrics))


def test_what_nobody_knows_is_no_zero() -> None:
    figures = dict.fromkeys(NAMES, Figure(None, complete=False))
    shown = text_of(report(metrics=TaskMetrics(0, 0, 0, 0, 0, 0, None), figures=figures, health=Health.UNKNOWN))
    assert "- active    - pending    - completed" in shown
    assert "nobody knows how many in all" in shown


def test_one_figure_that_is_not_complete_and_the_headline_does_not_say_complete() -> None:
    assert ", complete" in text_of(report()).splitlines()[4]
    figures = {**dict.fromkeys(NAMES, Figure(NOW, complete=True)), "active_tasks": Figure(NOW, complete=False)}
    assert text_of(report(figures=figures)).splitlines()[4].endswith("not complete")


@pytest.mark.parametrize(
    ("standing", "active", "shown"),
    [
        ("online", 2, "2/4"),
        ("silent", None, "-/4"),
        ("gone", 2, "was running 2"),
        ("gone", 0, "-"),
        ("offline", 1, "was running 1"),
        ("unknown", None, "-"),
    ],
)
def test_a_worker_that_nobody_hears_of_runs_nothing_by_this_report(
    standing: str, active: int | None, shown: str
) -> None:
    worker = WorkerView("w@h", standing, NOW, "observed", 0, {"active": active, "concurrency": 4})
    assert busy(worker_json(worker)) == shown
    text = text_of(report(workers=(worker,)))
    assert (f"{shown} active" in text) is (standing in ("online", "silent"))


def test_recent_tasks_show_the_time_of_their_order() -> None:
    first = replace(TASK, id="a", at=NOW + 5 * SECOND, started_at=NOW, finished_at=NOW + 1 * SECOND)
    second = replace(TASK, id="b", at=NOW + 3 * SECOND, finished_at=NOW + 9 * SECOND)
    waits = replace(TASK, id="c", at=NOW, state=JobState.QUEUED, queue="celery", eta=NOW + 60 * SECOND)
    text = text_of(report(recent=(first, second, waits)))
    assert [line.split()[2] for line in text.splitlines() if "  Add" in line] == ["08:00:05Z", "08:00:03Z", "08:00:00Z"]
    assert "Waits for its time, 2027-01-15 08:01:00Z on w@h" in text


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"depth": 3, "oldest": "unknown", "oldest_at": None}, "unknown"),
        ({"depth": 3, "oldest": "at least", "oldest_at": NOW}, "unknown"),
        ({"depth": 3, "oldest": "at least", "oldest_at": NOW - 5 * SECOND}, "at least 5.0 s"),
        ({"depth": 3, "oldest": "exact", "oldest_at": NOW - 5 * SECOND}, "5.0 s"),
        ({"depth": 0, "oldest": "unknown", "oldest_at": None}, "-"),
    ],
)
def test_an_age_of_which_nothing_is_known_is_unknown(facts: dict[str, Any], shown: str) -> None:
    assert oldest(queue_json(ObservedQueue("q", NOW, facts))) == shown
