"""W3C trace context: accepted, carried with the job and answered."""

from __future__ import annotations

import re
import secrets

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_CORRELATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")


def accept_traceparent(header: str | None) -> str:
    """The caller's ``traceparent`` if it is one, else a new one (sampled).

    Args:
        header: value of the request's header.
    """
    if header is not None and _TRACEPARENT.fullmatch(header.strip()):
        return header.strip()
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str) -> str:
    """The 32 hex digits that all lines and spans of one trace share."""
    return traceparent[3:35]


def accept_correlation_id(header: str | None, fallback: str) -> str:
    """The documents' ``X-Correlation-Id``: the caller's if it is harmless text, else the trace id."""
    return header if header is not None and _CORRELATION.fullmatch(header) else fallback
