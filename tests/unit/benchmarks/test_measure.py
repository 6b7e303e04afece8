from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from benchmarks.machine import Load, disk_sync, facts, tree_seconds
from benchmarks.measure import Figure, Goal, percentile, slope
from benchmarks.report import Report, number, table
from benchmarks.watch import watch


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def test_the_slope_leaves_out_the_start_and_needs_the_end() -> None:
    # Ten slow seconds before the first job ends, then 100 jobs a second.
    samples = [(0.0, 0), (10.0, 0), (11.0, 100), (12.0, 200), (20.0, 1000), (21.0, 1000)]
    assert slope(samples, 1000) == pytest.approx(100)
    with pytest.raises(ValueError, match="200 of 1000"):
        slope(samples[:4], 1000)
    with pytest.raises(ValueError, match="between two looks"):
        slope([(0.0, 0), (1.0, 1000)], 1000)


def test_watching_ends_with_the_last_job() -> None:
    counts = iter([0, 3, 7, 10])
    samples = watch(lambda: next(counts), 10, every=0)
    assert [count for _, count in samples] == [0, 3, 7, 10]


@pytest.mark.parametrize(("goal", "good", "bad"), [(Goal(at_least=1.0), 1.0, 0.99), (Goal(at_most=3.0), 3.0, 3.01)])
def test_a_goal_is_kept_or_missed_by_the_median(goal: Goal, good: float, bad: float) -> None:
    assert Figure("f", "x", (bad, good, good), goal).met is True
    assert Figure("f", "x", (bad, bad, good), goal).met is False
    assert Figure("f", "x", (bad,)).met is None


def test_the_table_and_the_file_say_what_was_missed(tmp_path: Path) -> None:
    missed = Figure("slow thing", "ms", (12.0, 11.0, 13.0), Goal(at_most=10), (0.1, 0.2, 1.5), "why")
    kept = Figure("fast thing", "jobs/s", (12345.6,), Goal(at_least=3000))
    text = table([missed, kept])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert rows[2] == ["slow thing", "12", "11", "13", "ms", "3", "≤ 10", "NO", "0.2", "why"]
    assert rows[3][:5] == ["fast thing", "12,346", "12,346", "12,346", "jobs/s"]
    assert len({len(line) for line in text.splitlines()}) == 1
    report = Report(facts(), {"runs": 3}, "these", {"a": [missed, kept]})
    assert report.missed() == [missed]
    file = report.file_in(tmp_path / "new")
    report.write(file)
    assert file.name.startswith("these-20")
    written = json.loads(file.read_text())
    assert written["figures"]["a"][0]["values"] == [12.0, 11.0, 13.0]
    assert written["figures"]["a"][0]["met"] is False
    assert written["machine"]["cores"] >= 1


def test_numbers_keep_three_digits() -> None:
    assert [number(value) for value in (0, 0.0123, 1.234, 12.34, 123.4, 1234.5)] == [
        "0", "0.0123", "1.23", "12.3", "123", "1,234",
    ]  # fmt: skip


def test_our_own_load_is_not_others() -> None:
    before = tree_seconds(os.getpid())
    with Load() as load:
        ends = time.thread_time() + 0.3
        while time.thread_time() < ends:
            pass
    assert tree_seconds(os.getpid()) - before >= 0.25
    assert load.ours * load.seconds >= 0.25
    assert load.others >= 0


def test_the_disk_is_really_asked() -> None:
    p50, p99 = disk_sync(count=20)
    assert 0 < p50.median <= p99.median
