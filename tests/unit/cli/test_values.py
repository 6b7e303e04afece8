from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.cli.values import UsageError, moment_of, named_values_of, pair_of, past_of, value_of, values_of
from headway.model.times import from_rfc3339, to_rfc3339

NOW = from_rfc3339("2026-03-01T12:00:00Z")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ('"1"', "1"),
        ("hello", "hello"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1,", "[1,"),
        ("01", "01"),
    ],
)
def test_an_argument_is_json_if_it_parses_else_a_string(text: str, value: object) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


def test_named_values_may_hold_equals_signs_and_json() -> None:
    assert named_values_of(["a=1", "b=x=y", 'c={"d": [1]}', "e="]) == {"a": 1, "b": "x=y", "c": {"d": [1]}, "e": ""}
    assert values_of(["1", "a"]) == [1, "a"]


@pytest.mark.parametrize("texts", [["novalue"], ["=1"], ["a=1", "a=2"]])
def test_wrong_named_values_are_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        named_values_of(texts)
    assert caught.value.hint


def test_a_label_keeps_its_text() -> None:
    assert pair_of("n=1", "--label") == ("n", "1")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("+10m", 600), ("+90s", 90), ("+1h30m", 5400), ("+0.5s", 0.5), ("+2d", 172_800), ("+1w", 604_800), ("+0s", 0)],
)
def test_a_time_from_now(text: str, seconds: float) -> None:
    assert moment_of(text, NOW) == NOW + round(seconds * 1_000_000)


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("0.5s", 0.5), ("2d", 172_800)])
def test_how_long_ago(text: str, seconds: float) -> None:
    assert past_of(text, NOW, "--since") == NOW - round(seconds * 1_000_000)
    assert past_of("2026-03-01T12:00:00Z", 0, "--since") == NOW


@pytest.mark.parametrize("text", ["+10m", "-10m", "10", "2026-03-01T12:00:00", "", "999999w"])
def test_a_filter_that_is_no_time_in_the_past_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        past_of(text, NOW, "--since")
    assert caught.value.hint


def test_a_time_with_a_zone() -> None:
    assert moment_of("2026-03-01T14:00:00+02:00", 0) == NOW
    assert moment_of("2026-03-01T12:00:00Z", 0) == NOW


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:00:00", "2026-03-01", "tomorrow", "+10", "10m", "+m", "+1m30", "", "+999999w", "-5m"]
)
def test_anything_else_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment_of(text, NOW)
    assert caught.value.hint


@given(st.integers(min_value=0, max_value=4_102_444_800_000_000))
def test_every_time_that_we_print_is_read_again(at: int) -> None:
    assert moment_of(to_rfc3339(at), NOW) == at
