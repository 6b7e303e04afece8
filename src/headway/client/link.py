"""One server's connections: requests that are sent again where that is safe, problems as errors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import httpx

from headway.client.problems import error_of
from headway.client.wire import dump
from headway.model.errors import InvalidRequest, ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRIES: Final = 5
_FIRST_PAUSE: Final = 0.1
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Link:
    """Requests to one server. Arguments as of ``Client``; thread-safe.

    Attributes:
        url: of the server, without a slash at its end.
        http: the connections, for streams.
    """

    def __init__(self, url: str, key: str | None, timeout: float, transport: httpx.BaseTransport | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidRequest(
                f"Expected the URL of a server, got {url!r}.", hint="For example http://127.0.0.1:8000."
            )
        self.url = url.rstrip("/")
        self.http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            transport=transport,
            # A proxy of the environment must not be asked for what runs on this machine.
            trust_env=parts.hostname not in _LOOPBACK,
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = False,
    ) -> dict[str, Any]:
        """One request of the API and its JSON object; ``safe`` ones may be sent again after a lost connection."""
        answer = self.request(method, f"/api/v1{path}", body=body, params=params, headers=headers, safe=safe)
        found = json_object(answer)
        if answer.is_error or found is None:
            raise error_of(answer.status_code, found if answer.is_error else None, answer.text)
        return found

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = False,
    ) -> httpx.Response:
        """One request and whatever was answered; ``ServerUnreachable`` if nothing was."""
        content = None if body is None else dump(body)
        sent = {**(headers or {}), **({"Content-Type": "application/json"} if body is not None else {})}
        pause = _FIRST_PAUSE
        for left in reversed(range(_TRIES)):
            try:
                return self.http.request(method, path, content=content, params=params, headers=sent)
            except httpx.TransportError as error:
                # A connection that was never made carried nothing: that may always be tried again.
                if not left or not (safe or isinstance(error, httpx.ConnectError)):
                    self.unreachable(error)
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def unreachable(self, error: Exception) -> NoReturn:
        """Raise what a connection that failed means."""
        raise ServerUnreachable(f"{self.url} did not answer: {str(error) or type(error).__name__}.") from error


def json_object(answer: httpx.Response) -> dict[str, Any] | None:
    """The answer's JSON object; None if it is none."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
