"""One task in the terminal: what is not known, and nothing said three times."""

from __future__ import annotations

from typing import Any

import pytest

from headway.cli.observed import _show_one, ends_with

TASK: dict[str, Any] = {
    "id": "t1", "name": None, "state": "failed", "celery_state": "FAILURE", "origin": "observed", "queue": None,
    "worker": None, "retries": None, "args": None, "kwargs": None, "result": None, "error": None, "traceback": None,
    "runtime_seconds": None, "at": "2026-03-01T12:00:00Z", "eta": None, "root_id": None, "parent_id": None,
    "seen_at": None, "complete": False, "orphaned": False, "gap": None, "children": [], "trail": [],
}  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    _show_one({**TASK, **changes}, [], as_json=False)
    return capsys.readouterr().out


def mark(said: str, note: str | None = None) -> dict[str, Any]:
    return {"said": said, "at": None, "worker": "w@h", "retries": None, "note": note}


@pytest.mark.parametrize(
    ("sayings", "words"),
    [
        (["result_success"], "unknown: found afterwards: only its result is known"),
        (["started", "result_success"], "unknown: its end was found afterwards, by its result"),
        (["revoked"], "unknown: revoked before anything else was heard of it; the event names no task"),
        (["rejected"], "unknown: rejected before"),
        (["failed", "result_failure"], "unknown: the events that were heard of it name no task"),
    ],
)
def test_a_task_without_a_name_says_why(capsys: pytest.CaptureFixture[str], sayings: list[str], words: str) -> None:
    assert words in shown(capsys, trail=[mark(one) for one in sayings])


def test_what_nobody_knows_is_no_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert "retries    -\n" in shown(capsys)
    assert "retries    0\n" in shown(capsys, retries=0)


def test_children_are_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert "children   a, b\n" in shown(capsys, children=["a", "b"])
    assert "9 and 5 more\n" in shown(capsys, children=[f"{number}" for number in range(15)])
    assert "children" not in shown(capsys)


def test_an_error_is_printed_once_and_a_note_is_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = "x" * 300
    out = shown(
        capsys,
        error=f"ValueError('{text}')",
        traceback=f"Traceback\n  File\nValueError: {text}",
        trail=[mark("failed", f"ValueError('first\n{text}')")],
    )
    assert out.count(text) == 1
    (row,) = [line for line in out.splitlines() if line.startswith("failed")]
    assert row.endswith("x…")
    assert len(row) < 200


@pytest.mark.parametrize(
    ("traceback", "error", "same"),
    [
        ("…\nValueError: no", "ValueError('no')", True),
        ("…\napp.errors.Oops: ('a', 1)\n", "Oops('a', 1)", True),
        ("…\nKeyError: 'k'", "KeyError('k')", True),
        ("…\nOops", "Oops()", True),
        ("…\nOops: two\nlines", "Oops('two\\nlines')", True),
        ("…\nOops: <object>", "Oops(<object>)", False),
        ("…\nTypeError: other", "ValueError('no')", False),
        (None, "ValueError('no')", False),
        ("", "no brackets", False),
        ("…\nend", "(" * 2000, False),
    ],
)
def test_a_traceback_that_ends_with_the_error(traceback: str | None, error: str, same: bool) -> None:
    assert ends_with(traceback, error) is same
