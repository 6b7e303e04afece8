from __future__ import annotations

import pytest

from headway.cli import screen
from headway.model.errors import JobNotFound
from headway.model.job import Progress


def test_a_plain_table_is_aligned_and_holds_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    screen.show_table(("A", "LONG"), [("one\x1b[31m", "1"), ("three", "a\nb")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A         LONG"
    assert lines[1] == "one [31m  1"
    assert lines[2] == "three     a b"


def test_an_error_is_code_message_and_hint_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    screen.show_error(JobNotFound("No job x."))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error [job_not_found]: No job x.\nhint: `headway jobs list` shows the jobs that exist.\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (3.21, "3.2 s"), (250, "4 min 10 s"), (7_500, "2 h 5 min"), (-1, "0.0 s")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert screen.span(seconds) == text


def test_progress_for_people() -> None:
    assert screen.progress_words(Progress(40, 100, "solving")) == "40/100 solving"
    assert screen.progress_words(Progress(3.5)) == "3.5"
    assert screen.progress_words(None) == "-"
    assert screen.moment(1_772_366_400_123_456) == "2026-03-01 12:00:00Z"
