from __future__ import annotations

import json

import pytest

from headway.http.problems import ANSWERS, problem
from headway.http.trace import accept_correlation_id, accept_traceparent, trace_id
from headway.model import errors
from headway.model.errors import ErrorKind, HeadwayError


def _tree(root: type[HeadwayError]) -> list[type[HeadwayError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


def test_every_kind_of_error_has_its_row() -> None:
    assert set(ANSWERS) == set(ErrorKind)


@pytest.mark.parametrize("kind", [error for error in _tree(HeadwayError) if error.__module__ == errors.__name__])
def test_every_error_is_a_problem_and_a_documents_error(kind: type[HeadwayError]) -> None:
    error = kind("it went wrong with token=abc", status="not the member", extra=1)
    answer = problem(error, correlation_id="c1", document=False)
    body = json.loads(bytes(answer.body))
    assert answer.media_type == "application/problem+json"
    assert body["status"] == answer.status_code == ANSWERS[kind.kind].status
    assert (body["code"], body["hint"], body["extra"]) == (kind.code, kind.default_hint, 1)
    assert body["detail"] == "it went wrong with token=***"
    assert set(body) >= {"type", "title", "status", "detail", "code", "hint"}
    assert ("retry-after" in answer.headers) == (kind.kind is ErrorKind.UNAVAILABLE)
    document = problem(error, correlation_id="c1", document=True)
    told = json.loads(bytes(document.body))["error"]
    assert set(told) == {"code", "message", "correlationId", "retryable", "details"}
    assert told["correlationId"] == document.headers["x-correlation-id"] == "c1"
    assert told["details"][0]["code"] == kind.code
    assert document.status_code == ANSWERS[kind.kind].document_status


def test_a_traceparent_is_carried_or_made() -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert accept_traceparent(given) == given
    assert trace_id(given) == "4bf92f3577b34da6a3ce929d0e0e4736"
    for wrong in (
        None,
        "",
        "x",
        given.upper(),
        given.replace("4bf9", "0000") + "!",
        f"ff{given[2:]}",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
    ):
        made = accept_traceparent(wrong)
        assert made != wrong
        assert accept_traceparent(made) == made


def test_a_correlation_id_is_echoed_if_it_is_harmless() -> None:
    assert accept_correlation_id("run-7", "t") == "run-7"
    for wrong in (None, "", "a b", "x" * 200, "a\r\nb", "é"):
        assert accept_correlation_id(wrong, "t") == "t"
