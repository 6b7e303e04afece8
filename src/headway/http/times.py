"""Times as fields of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from headway.model.times import LAST_MOMENT, from_rfc3339


def _parsed(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(f"expected an RFC 3339 time as a string, got {type(value).__name__}")  # noqa: TRY004 - pydantic turns only ValueError into a finding
    return from_rfc3339(value)


MomentIn = Annotated[
    int,
    BeforeValidator(_parsed),
    Field(le=LAST_MOMENT),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]
"""A time that a caller sends: RFC 3339 with a zone; UTC microseconds inside."""

MomentOut = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time that we answer: RFC 3339, UTC, ``Z``."""
