"""Errors as answers: RFC 9457 problems, and the documents' own body on the documents' paths. One table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from headway.model.errors import ErrorKind, HeadwayError, InvalidRequest, MalformedRequest
from headway.model.redact import mask_secrets

RETRY_AFTER_SECONDS = 2
_LONGEST_KEY = 80


@dataclass(frozen=True, slots=True)
class Answer:
    """How one kind of error is answered: status here, and status, code and retryable on the documents' paths."""

    status: int
    document_status: int
    document_code: str
    retryable: bool = False


ANSWERS: Mapping[ErrorKind, Answer] = {
    ErrorKind.MALFORMED: Answer(400, 400, "InvalidInput"),
    ErrorKind.INVALID: Answer(422, 400, "InvalidInput"),
    ErrorKind.NOT_FOUND: Answer(404, 404, "NotFound"),
    ErrorKind.CONFLICT: Answer(409, 409, "Conflict"),
    ErrorKind.GONE: Answer(410, 410, "Gone"),
    ErrorKind.UNAUTHENTICATED: Answer(401, 401, "Unauthorized"),
    ErrorKind.FORBIDDEN: Answer(403, 403, "Forbidden"),
    ErrorKind.TOO_LARGE: Answer(413, 413, "PayloadTooLarge"),
    ErrorKind.UNSUPPORTED_MEDIA: Answer(415, 415, "UnsupportedMediaType"),
    ErrorKind.UNAVAILABLE: Answer(503, 503, "Unavailable", retryable=True),
    ErrorKind.SETUP: Answer(501, 503, "EnvironmentMissing"),
    ErrorKind.FAILED: Answer(500, 500, "InternalError", retryable=True),
}
"""THE table from a kind of error to its answer; a test holds that every kind has a row."""

_OTHER_CODES = {400: "malformed_request", 404: "no_such_path", 405: "method_not_allowed", 500: "internal_error"}
_OTHER_DOCUMENT_CODES = {404: "NotFound", 405: "MethodNotAllowed", 500: "InternalError"}


def problem(error: HeadwayError, *, correlation_id: str, document: bool) -> Response:
    """The answer for an error that Headway raised on purpose.

    Args:
        error: what happened.
        correlation_id: the trace id of the request, so that a person finds its log lines.
        document: whether the path is one of the documents', which have a body of their own.
    """
    answer = ANSWERS[error.kind]
    message, hint = mask_secrets(error.message), mask_secrets(error.hint)
    if document:
        findings = error.details.get("errors", ())
        told = _document_body(answer, error.code, message, hint, findings, correlation_id)
        if error.kind is ErrorKind.UNAVAILABLE:
            told.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return told
    headers: dict[str, str] = {}
    if error.kind is ErrorKind.UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if error.kind is ErrorKind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = 'Bearer realm="headway"'
    return _problem_body(answer.status, error.code, message, hint, error.details, headers, correlation_id)


def _problem_body(
    status: int,
    code: str,
    detail: str,
    hint: str,
    details: Mapping[str, Any],
    headers: Mapping[str, str],
    correlation_id: str,
) -> Response:
    # Details come first so that none of them can replace a member of the standard.
    body = {
        **details,
        "type": f"urn:headway:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        "trace_id": correlation_id,
    }
    return Response(_json(body), status, dict(headers), media_type="application/problem+json")


def _document_body(
    answer: Answer, code: str, message: str, hint: str, findings: Iterable[Mapping[str, Any]], correlation_id: str
) -> Response:
    details: list[dict[str, Any]] = [{"issue": message, "hint": hint, "code": code}]
    details.extend(
        {"issue": finding.get("message", ""), "field": finding.get("field", ""), "code": code} for finding in findings
    )
    body = {
        "error": {
            "code": answer.document_code,
            "message": message,
            "correlationId": correlation_id,
            "retryable": answer.retryable,
            "details": details,
        }
    }
    headers = {"X-Correlation-Id": correlation_id}
    return Response(_json(body), answer.document_status, headers, media_type="application/json")


def _json(body: Mapping[str, Any]) -> bytes:
    return to_json(body, fallback=str, inf_nan_mode="null")


def invalid(findings: Sequence[Mapping[str, Any]]) -> HeadwayError:
    """Pydantic's findings as one error of ours: malformed if it was not JSON at all, else invalid.

    Args:
        findings: ``ValidationError.errors()``; what was sent is not repeated, it may hold a secret.
    """
    errors = [{"field": _place(finding["loc"]), "message": mask_secrets(_plain(finding))} for finding in findings[:100]]
    if any(finding["type"] == "json_invalid" for finding in findings):
        return MalformedRequest(f"The body is not JSON: {errors[0]['message']}.")
    told = "; ".join(
        f"{error['field']}: {error['message']}" if error["field"] else error["message"] for error in errors[:5]
    )
    rest = f"; and {len(findings) - 5} more" if len(findings) > 5 else ""
    hint = "Compare the request with /openapi.json."
    return InvalidRequest(f"{told}{rest}.", hint=hint, errors=errors)


def _place(parts: Sequence[int | str]) -> str:
    # A part may be a key of the sender's own, of any length.
    return ".".join(str(part)[:_LONGEST_KEY] for part in parts)


def _plain(finding: Mapping[str, Any]) -> str:
    message = str(finding["msg"]).removeprefix("Value error, ")
    if finding["type"] == "extra_forbidden":
        return "no such field"
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def install(app: FastAPI) -> None:
    """Answer every error that handlers raise as a problem, unknown paths included (surprises: the door does)."""

    async def on_headway_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HeadwayError):
            raise error
        return problem(error, correlation_id=request.state.trace_id, document=request.state.document)

    async def on_validation(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        findings = [{**found, "loc": tuple(found["loc"])[1:] or found["loc"]} for found in error.errors()]
        return await on_headway_error(request, invalid(findings))

    async def on_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return _other(request, error)

    app.add_exception_handler(HeadwayError, on_headway_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


class _Internal(HeadwayError):
    default_hint = "The server's log has more under this trace id."


def surprise(trace_id: str, *, document: bool) -> Response:
    """The answer for what nobody foresaw: no traceback, but the id under which the log has it."""
    return problem(_Internal("Something went wrong inside Headway."), correlation_id=trace_id, document=document)


def _other(request: Request, error: HTTPException) -> Response:
    code = _OTHER_CODES.get(error.status_code, "http_error")
    detail, hint = str(error.detail), ""
    if error.status_code == 404:
        detail, hint = f"There is nothing at {request.url.path[:200]}.", "/openapi.json lists every path."
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail, hint = f"{request.method} is not offered at {request.url.path[:200]}.", f"Use {allowed}."
    status, detail, headers, correlation_id = (
        error.status_code, mask_secrets(detail), error.headers or {}, request.state.trace_id,
    )  # fmt: skip
    if not request.state.document:
        return _problem_body(status, code, detail, hint, {}, headers, correlation_id)
    document_code = _OTHER_DOCUMENT_CODES.get(status, "InvalidInput" if status < 500 else "InternalError")
    told = _document_body(Answer(status, status, document_code), code, detail, hint, (), correlation_id)
    told.headers.update(headers)
    return told
