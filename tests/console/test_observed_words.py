"""What the pages of what is observed say, without a browser."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.console.colours import COLOURS, TONES, Tone, states_css
from headway.console.health import queue_row, source_row, tiles, total, verdict, worker_row
from headway.console.trail import arguments, flags, gap_words, relatives, steps, task_row
from headway.model.errors import StoreUnavailable
from headway.model.evidence import Mark
from headway.model.observed import Gap, ObservedQueue, TaskView, WorkerView
from headway.model.sayings import CeleryState, Said
from headway.model.situation import Attention, Figure, Health, Situation, SourceView, TaskMetrics
from headway.model.states import JobState
from headway.service.reports import Known, away

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
NAMES = ("total_tasks", "active_tasks", "completed_tasks", "failed_tasks", "pending_tasks", "cancelled_tasks")
EVENTS = SourceView("events", NOW, complete=True, ok=True)
BROKER = SourceView("broker", NOW, complete=True, ok=True)
TASK = TaskView("t1", "app.add", JobState.SUCCEEDED, "SUCCESS", NOW, "observed", worker="w@h")


def situation(
    health: Health = Health.OK,
    *,
    rate: float | None = 1.0,
    last: float | None = None,
    attention: tuple[Attention, ...] = (),
    sources: tuple[SourceView, ...] = (EVENTS, BROKER),
) -> Situation:
    metrics = TaskMetrics(4, 0, 3, 1, 0, 0, rate)
    figures = {
        **dict.fromkeys(NAMES, Figure(NOW, complete=True)),
        "success_rate": Figure(NOW, complete=True, last_known=last),
    }
    return Situation(NOW, health, metrics, figures, (), (), (), (), attention, sources)


def test_the_verdict_has_a_word_a_tone_and_a_reason() -> None:
    error, warning = (Attention("x", severity, "s", "r") for severity in ("error", "warning"))
    cases = [
        (situation(), "OK", Tone.GOOD, "nothing wants attention"),
        (situation(sources=(EVENTS, BROKER, replace(BROKER, name="workers", ok=None))), "OK", Tone.GOOD, "workers are not asked"),
        (situation(attention=(warning,)), "OK", Tone.GOOD, "1 thing wants attention"),
        (situation(sources=()), "OK", Tone.GOOD, "No cluster is watched here"),
        (situation(Health.DEGRADED, attention=(error, warning)), "Degraded", Tone.BAD, "2 things want attention"),
        (situation(Health.DEGRADED, attention=(warning,)), "Degraded", Tone.WARN, "1 thing wants attention"),
        (situation(Health.DEGRADED, sources=(replace(EVENTS, complete=False, says="a gap"),)), "Degraded", Tone.WARN, "a gap"),
        (situation(Health.UNKNOWN, sources=(EVENTS, replace(BROKER, ok=False))), "Unknown", Tone.QUIET, "The broker does not answer"),
        (situation(Health.UNKNOWN), "Unknown", Tone.QUIET, "no worker has been heard of"),
        (situation(Health.UNKNOWN, sources=(replace(EVENTS, says="nobody watches"),)), "Unknown", Tone.QUIET, "Nobody watches."),
        (away(StoreUnavailable("gone"), NOW), "Unknown", Tone.QUIET, "own database does not answer"),
    ]  # fmt: skip
    for given, word, tone, why in cases:
        found = verdict(given)
        assert (found.word, found.tone) == (word, tone)
        assert why in found.why


def test_the_total_says_what_is_in_no_other_figure() -> None:
    shown = situation()
    assert total(shown) == "4 tasks in all."
    some = replace(shown, metrics=TaskMetrics(4, 0, 1, 0, 0, 0, None, orphaned_tasks=2, unresolved_tasks=1))
    assert (
        total(some) == "4 tasks in all; of these 2 orphaned and 1 whose end may have been missed, in no other figure."
    )
    assert total(away(StoreUnavailable("gone"), NOW)) == ""


@pytest.mark.parametrize(
    ("rate", "shown"), [(1.0, "100 %"), (0.9997, "99.9 %"), (0.5, "50 %"), (0.0, "0 %"), (0.983, "98.3 %")]
)
def test_a_rate_never_looks_better_than_it_is(rate: float, shown: str) -> None:
    assert tiles(situation(rate=rate))[-1].value == shown


def known(report: Situation) -> Known:
    return Known(report.at, report.metrics, report.figures)


def test_what_was_known_before_the_database_went_away_is_shown_as_that() -> None:
    last = situation()
    shown = away(StoreUnavailable("gone"), NOW + 60 * SECOND, known(last))
    assert "What is below is what was known before." in verdict(shown).why
    completed, rate = tiles(shown)[2], tiles(shown)[-1]
    assert (completed.value, completed.seen_at, completed.complete) == ("3", NOW, False)
    assert (rate.value, rate.note) == ("\u2013", "100 % when last known: the database does not answer")
    assert total(shown) == "4 tasks in all."
    # However often it is asked meanwhile.
    again = away(StoreUnavailable("gone"), NOW + 90 * SECOND, known(shown))
    assert tiles(again)[-1].note == rate.note
    nothing = replace(last, metrics=TaskMetrics(0, 0, 0, 0, 0, 0, None))
    assert tiles(away(StoreUnavailable("gone"), NOW, known(nothing)))[-1].note == "not known"


def test_what_nobody_knows_is_no_zero() -> None:
    assert {tile.value for tile in tiles(away(StoreUnavailable("gone"), NOW))} == {"\u2013"}
    rate = tiles(situation(rate=None, last=0.75))[-1]
    assert (rate.value, rate.note) == ("\u2013", "75 % when last known: no worker is online")
    assert "cannot be asked" in tiles(situation(Health.UNKNOWN, rate=None, last=0.75))[-1].note


def test_workers_queues_and_sources_in_words() -> None:
    facts = {"pool": "prefork", "ident": "py-celery", "version": "5.6.3", "active": 1, "concurrency": 2}
    row = worker_row(WorkerView("w@h", "online", NOW, "observed", 0, {**facts, "clock_skew_seconds": -3.21}))
    assert (row.about, row.busy, row.clock) == ("prefork · Celery 5.6.3", "1 / 2", "clock 3.2 s behind")
    assert row.clock_tone is Tone.WARN
    bare = worker_row(WorkerView("w@h", "gone", NOW, "observed"))
    assert (bare.tone, bare.busy, bare.clock) == (Tone.BAD, "\u2013", "")
    was = worker_row(WorkerView("w@h", "gone", NOW, "observed", 2, {"active": 2, "concurrency": 2}))
    assert was.busy == "was running 2"
    unheard = worker_row(WorkerView("w@h", "unknown", NOW, "observed"))
    assert (unheard.tone, "nobody watches" in unheard.meaning) == (Tone.QUIET, True)
    queue = ObservedQueue(
        "q", NOW, {"depth": 3, "growth_per_minute": -12.0, "oldest": "at least", "oldest_at": NOW - 90 * SECOND}
    )
    found = queue_row(queue, NOW)
    assert (found.growth, found.oldest, found.least, found.growing) == ("\u221212 a minute", 90.0, True, False)
    assert queue_row(ObservedQueue("q", NOW, {"depth": 3, "oldest": "at least", "oldest_at": NOW}), NOW).oldest is None
    assert queue_row(ObservedQueue("q", NOW, {"depth": 0, "growth_per_minute": 0.2}), NOW).growth == "steady"
    words = [
        source_row(replace(BROKER, ok=ok, complete=whole)).word
        for ok, whole in ((True, True), (True, False), (False, False), (None, False))
    ]
    assert words == ["complete", "may be incomplete", "does not answer", "not known"]


def test_every_saying_and_state_has_words() -> None:
    trail = tuple(Mark(said.value, NOW, "w@h") for said in Said)
    assert not [step.words for step in steps(replace(TASK, trail=trail)) if "_" in step.words]
    for state in CeleryState:
        assert f"({state})" in task_row(replace(TASK, celery_state=state)).meaning


def test_steps_are_in_order_and_what_has_no_time_is_no_afterthought() -> None:
    trail = (Mark("result_success", 0, ""), Mark("started", NOW + SECOND, "w@h"), Mark("received", NOW, "w@h", 1))
    found = steps(replace(TASK, trail=trail))
    assert [(one.words, one.attempt, one.after) for one in found[:2]] == [("received", 2, None), ("started", None, 1.0)]
    assert (found[2].at, found[2].worker) == (None, "result backend")
    trail = (Mark("result_retry", 0, ""), Mark("succeeded", NOW + SECOND, "w@h"), Mark("started", NOW, "w@h"))
    found = steps(replace(TASK, trail=trail))
    assert [one.words for one in found] == ["started", "to be tried again, says its result", "succeeded"]


def test_what_is_missing_is_said_in_words() -> None:
    lost = replace(TASK, state=JobState.RUNNING, celery_state="STARTED", complete=False, gap="g", orphaned=True)
    assert [flag.word for flag in flags(lost)] == ["orphaned", "end may be missed"]
    gap = Gap("g", "o", "broker_away", NOW, NOW + 60 * SECOND)
    said = gap_words(lost, [gap])
    assert said.startswith("Its end may have been missed between 2027-01-15 08:00:00 UTC and 2027-01-15 08:01:00 UTC")
    assert "the broker did not answer" in said
    assert "and now" in gap_words(lost, [replace(gap, ended_at=None)])
    assert "may have been missed" in gap_words(lost, [])
    assert gap_words(TASK, [gap]) == ""
    (flag,) = flags(replace(TASK, name=None, complete=False, unnamed="the event names no task"))
    assert (flag.word, flag.meaning) == ("name not known", "the event names no task")
    assert task_row(lost).since is None


def test_relatives_are_a_tree_whatever_the_links_say() -> None:
    root = replace(TASK, id="r", root_id="r")
    one, two = (replace(TASK, id=name, root_id="r", parent_id=parent) for name, parent in (("a", "r"), ("b", "a")))
    stray = replace(TASK, id="s", root_id="r", parent_id="unknown")
    found = relatives(one, [root, one, two, stray])
    assert [(each.row.task.id, each.depth, each.role) for each in found] == [
        ("r", 0, "root and parent"),
        ("a", 1, "this task"),
        ("b", 2, "child"),
        ("s", 0, ""),
    ]
    circle = [replace(TASK, id="x", parent_id="y"), replace(TASK, id="y", parent_id="x")]
    assert [each.row.task.id for each in relatives(circle[0], circle)] == ["x", "y"]


def test_empty_arguments_are_left_out_and_ids_are_quoted() -> None:
    assert arguments(replace(TASK, args="()", kwargs="{'a': 1}")) == [("By name", "{'a': 1}")]
    assert task_row(replace(TASK, id="a/../b?c#é")).link == "/tasks/a%2F..%2Fb%3Fc%23%C3%A9/view"
    assert task_row(replace(TASK, origin="job")).link == "/jobs/t1/view"


def test_tones_are_colours_that_can_be_read() -> None:
    css = states_css()
    for tone, colour in TONES.items():
        assert f".tone-{tone} {{ --state: light-dark({colour.light}, {colour.dark})" in css
        # The contrast of those of states is tested; these are the same.
        assert any(colour.light == one.light and colour.light_tint == one.light_tint for one in COLOURS.values())
    assert len({colour.glyph for colour in TONES.values()}) == len(Tone)
