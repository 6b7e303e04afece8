"""The door of the web: every request passes it once, before any handler; plain ASGI, because it is the hot path."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import structlog
from anyio import CapacityLimiter
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.http import problems, security
from headway.http.calls import Caller
from headway.http.trace import accept_correlation_id, accept_traceparent, trace_id
from headway.model.actor import Actor, Role
from headway.model.errors import HeadwayError, MalformedRequest, PayloadTooLarge, Unauthenticated
from headway.model.redact import mask_secrets
from headway.service import Services

_access = structlog.stdlib.get_logger("headway.access")
_log = structlog.stdlib.get_logger("headway.http")

_CONTENT_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = (
    (b"content-security-policy", _CONTENT_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not no-referrer: it would make the Origin of our own forms "null".
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NOBODY: Final = Actor("anonymous", Role.VIEWER)
_QUIET: Final = ("/static/", "/health", "/ready", "/favicon")


@dataclass(frozen=True, slots=True)
class Paths:
    """Which paths are special.

    Attributes:
        public: answered without a key.
        forms: changing requests may be HTML forms there.
        documents: the documents' own paths, as patterns: their errors have the documents' body.
    """

    public: re.Pattern[str]
    forms: frozenset[str]
    documents: re.Pattern[str]

    @classmethod
    def of(cls, documents: Iterable[str]) -> Paths:
        """From the route templates of the documents' paths, for example ``/jobs/{job_id}/events``."""
        # What ``{name:path}`` stands for may hold anything, a slash and a line's end, too.
        whole = [re.sub(r"\\\{\w+:path\\\}", "(?s:.*)", re.escape(template)) for template in documents]
        patterns = [re.sub(r"\\\{.*?\\\}", "[^/]+", template) for template in whole]
        return cls(
            public=re.compile(r"/(health|ready|login|logout|favicon\.ico|mcp/capabilities|static/.*)"),
            forms=frozenset({"/login", "/logout"}),
            documents=re.compile("|".join(patterns) if patterns else r"(?!)"),
        )


class Door:
    """Checks peer, Host, Origin, content type, size and key; names actor and trace; logs one line per request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        services: Services,
        settings: security.SecuritySettings,
        paths: Paths,
        limiter: CapacityLimiter,
    ) -> None:
        self._app = app
        self._services = services
        self._settings = settings
        self._paths = paths
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is not one."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        visit = _Visit(scope, send, document=self._paths.documents.fullmatch(scope["path"]) is not None)
        try:
            try:
                body = await self._admit(scope, receive, visit)
            except HeadwayError as error:
                await self._refuse(error, visit, scope, receive)
            else:
                await self._app(scope, body, visit.send)
        except Exception as error:
            _log.exception(
                "request_failed", path=scope["path"], trace_id=visit.trace_id, error=mask_secrets(repr(error))
            )
            if visit.status is not None:
                raise
            await problems.surprise(visit.trace_id, document=visit.document)(scope, receive, visit.send)
        finally:
            visit.log()

    async def _admit(self, scope: Scope, receive: Receive, visit: _Visit) -> Receive:
        method, path, headers = scope["method"], scope["path"], visit.headers
        peer = scope["client"][0] if scope.get("client") else None
        public = self._paths.public.fullmatch(path) is not None
        security.check_peer(peer, self._settings)
        security.check_host(headers.get("host"), self._settings)
        security.check_origin(method, scope.get("scheme", "http"), headers)
        try:
            visit.actor = security.identify(peer, headers, self._settings, self._services.clock.now())
        except Unauthenticated:
            if not public:
                raise
        security.check_content_type(method, headers, form_allowed=path in self._paths.forms)
        state = scope["state"]
        state["actor"] = visit.actor
        state["security"] = self._settings
        state["call"] = Caller(self._services, visit.actor, visit.traceparent, self._limiter)
        if method not in security.CHANGING:
            return receive
        return await _whole_body(headers, receive, self._settings.max_request_bytes)

    async def _refuse(self, error: HeadwayError, visit: _Visit, scope: Scope, receive: Receive) -> None:
        wants_page = scope["method"] == "GET" and "text/html" in visit.headers.get("accept", "")
        if isinstance(error, Unauthenticated) and wants_page:
            query = scope.get("query_string", b"").decode("latin-1")
            target = quote(scope["path"] + (f"?{query}" if query else ""), safe="/")
            await RedirectResponse(f"/login?next={target}", 303)(scope, receive, visit.send)
            return
        answer = problems.problem(error, correlation_id=visit.correlation_id, document=visit.document)
        # The body was not read, so what follows on this connection could be mistaken for a request.
        answer.headers["Connection"] = "close"
        await answer(scope, receive, visit.send)


class _Visit:
    """One request on its way through: what is known of it, and its answer's headers."""

    __slots__ = (
        "_method", "_path", "_send", "_started", "actor", "correlation_id", "document", "headers", "status",
        "trace_id", "traceparent",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, *, document: bool) -> None:
        self._send = send
        self._started = time.perf_counter()
        self._method, self._path = scope["method"], scope["path"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.traceparent = accept_traceparent(self.headers.get("traceparent"))
        self.trace_id = trace_id(self.traceparent)
        self.correlation_id = self.trace_id
        self.document = document
        if document:
            self.correlation_id = accept_correlation_id(self.headers.get("x-correlation-id"), self.trace_id)
        self.actor = _NOBODY
        self.status: int | None = None
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["trace_id"] = self.correlation_id
        state["document"] = document

    async def send(self, message: Message) -> None:
        """Pass the answer on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            # What an answer says itself stays: a picture, say, needs a policy of its own.
            headers += [header for header in SECURITY_HEADERS if header[0] not in names]
            headers.append((b"traceparent", self.traceparent.encode("ascii")))
            if b"cache-control" not in names:
                headers.append((b"cache-control", b"no-store"))
            if self.document and b"x-correlation-id" not in names:
                headers.append((b"x-correlation-id", self.correlation_id.encode("latin-1")))
            message = {**message, "headers": headers}
        await self._send(message)

    def log(self) -> None:
        """One line: who asked what, how it was answered, how long it took, and under which trace."""
        # Reads that went well are many (a page asks all the time) and change nothing.
        quiet = (self._method in {"GET", "HEAD"} or self._path.startswith(_QUIET)) and (self.status or 500) < 400
        (_access.debug if quiet else _access.info)(
            "request",
            method=self._method,
            path=mask_secrets(self._path),
            status=self.status,
            milliseconds=round((time.perf_counter() - self._started) * 1000, 2),
            actor=self.actor.name,
            trace_id=self.trace_id,
        )


async def _whole_body(headers: dict[str, str], receive: Receive, limit: int) -> Receive:
    """Read the body, counting, before any handler sees it; afterwards the connection can still be listened to."""
    declared = headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise MalformedRequest("The client went away before its request was complete.")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            break
    waiting = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request is larger than {limit} bytes.", hint="Send fewer jobs at once, or references to the data."
    )
