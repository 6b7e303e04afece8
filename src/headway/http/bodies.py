"""Bodies: read once as bytes, parsed strictly by pydantic in one go; answers written without a detour."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NoReturn, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from headway.http.problems import invalid
from headway.model.errors import InvalidRequest, MalformedRequest

T = TypeVar("T")

CHUNK: Final = 1 << 18
PROBLEM_STATUSES: Final = (400, 401, 403, 404, 409, 410, 413, 415, 422, 500, 503)


async def read_body(request: Request, adapter: TypeAdapter[T], *, empty: bytes = b"") -> T:
    """The body as the adapter's type.

    Args:
        request: with its body still unread.
        adapter: of a strict model.
        empty: what an empty body stands for.

    Raises:
        MalformedRequest: it is not JSON.
        InvalidRequest: it is JSON, but not this; every wrong field is named.
    """
    raw = await request.body() or empty
    _refuse_what_is_not_json(raw)
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False, include_context=False)) from error


def _refuse_what_is_not_json(raw: bytes) -> None:
    # The parser takes NaN and Infinity, which are no JSON and which nobody could read back from us.
    if b"NaN" in raw or b"Infinity" in raw:
        try:
            json.loads(raw, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
                return  # the strict parser says it better
            raise MalformedRequest(str(error), hint="Send null, or the value as a string.") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"The body is not JSON: it holds {name}.")


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer of ours as JSON; a value that JSON does not know (of a task's arguments) becomes its text."""
    return Response(_encoded(model), status, headers, media_type="application/json")


def said(values: dict[str, Any]) -> Response:
    """An answer that is JSON values already."""
    return Response(to_json(values, fallback=str, inf_nan_mode="null"), media_type="application/json")


def _encoded(model: BaseModel) -> bytes:
    return to_json(model, fallback=str, inf_nan_mode="null", bytes_mode="base64")


def result_answer(text: str) -> Response:
    """``{"result": …}`` around JSON text that is already there, sent in pieces and never parsed.

    Args:
        text: the stored JSON of the result.
    """
    if "NaN" in text or "Infinity" in text:
        # Python's JSON may hold them, RFC 8259 does not: such a number is answered as null.
        text = to_json(json.loads(text), inf_nan_mode="null").decode()
    data = text.encode("utf-8", "backslashreplace")
    headers = {"Content-Length": str(len(data) + len(b'{"result":}'))}
    if len(data) <= CHUNK:
        return Response(b'{"result":' + data + b"}", media_type="application/json")
    return StreamingResponse(_pieces(data), headers=headers, media_type="application/json")


def _pieces(data: bytes) -> Iterator[bytes]:
    yield b'{"result":'
    view = memoryview(data)
    for start in range(0, len(data), CHUNK):
        yield bytes(view[start : start + CHUNK])
    yield b"}"


def only_query(request: Request, *allowed: str) -> None:
    """Raise ``InvalidRequest`` that names every query parameter which is not one of these."""
    unknown = sorted(set(request.query_params) - set(allowed))
    if unknown:
        known = ", ".join(allowed) if allowed else "none"
        raise InvalidRequest(
            f"Unknown query parameters: {', '.join(name[:60] for name in unknown)}.",
            hint=f"Known here: {known}.",
            errors=[{"field": name[:60], "message": "no such parameter"} for name in unknown],
        )


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """OpenAPI's description of a JSON body that the handler reads by itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the problems that a path may answer besides its own answer."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
    return {status: {"description": "a problem", "content": content} for status in (*statuses, 401, 403, 422, 503)}
