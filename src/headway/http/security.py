"""Who may come in: peer, Host, Origin, key, cookie. Pure decisions; the door asks them."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from headway.model.actor import Actor, Role
from headway.model.errors import Forbidden, Unauthenticated, UnsupportedMedia

COOKIE: Final = "headway_session"
CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """What the door needs to know.

    Attributes:
        api_key: HEADWAY_API_KEY; without one only loopback peers come in, as the local user.
        owner_token: token of the data directory's lock file, for the command line on this machine.
        hosts: names under which the server is reached, besides the loopback ones.
        max_request_bytes: of one request's body.
        cookie_seconds: how long a sign-in at ``/login`` lasts.
        uid: the user that the local actor stands for.
    """

    api_key: str | None = field(default=None, repr=False)
    owner_token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    max_request_bytes: int = 64 * MEBIBYTE
    cookie_seconds: int = 12 * 3600
    uid: int = field(default_factory=os.getuid)


def is_loopback(host: str | None) -> bool:
    """Whether an address (not a name) is of this machine."""
    if host is None:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def check_peer(peer: str | None, settings: SecuritySettings) -> None:
    """Raise ``Forbidden`` for a peer of another machine while there is no key."""
    if settings.api_key is None and not is_loopback(peer):
        raise Forbidden(
            "Without an API key Headway answers this machine only.",
            hint="Set HEADWAY_API_KEY on the server and send it as `Authorization: Bearer …`.",
        )


def check_host(host: str | None, settings: SecuritySettings) -> None:
    """Raise ``Forbidden`` for a Host that is not ours: a web page may have rebound its own name to us.

    Loopback names and configured ones pass. With a key, plain addresses pass too: no name stands behind
    them that could be rebound, and the key is asked for anyway.
    """
    name = _host_name(host or "")
    if name == "localhost" or is_loopback(name):
        return
    if name in {known.lower() for known in settings.hosts}:
        return
    if settings.api_key is not None and _is_address(name):
        return
    raise Forbidden(
        f"This server does not answer to the host name {(host or '')[:100]!r}.",
        hint="Use the address that `headway up` printed, or name this host in HEADWAY_ALLOWED_HOSTS.",
    )


def check_origin(method: str, scheme: str, headers: Mapping[str, str]) -> None:
    """Raise ``Forbidden`` for a changing request that a page of another origin sent."""
    if method not in CHANGING:
        return
    origin = headers.get("origin")
    if origin is not None:
        parts = urlsplit(origin)
        same = parts.netloc.lower() == headers.get("host", "").lower() and parts.scheme in {scheme, "https"}
        if not same:
            raise Forbidden("A page of another origin may not change anything here.", hint="Send it from our own page.")
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("A page of another site may not change anything here.", hint="Send it from our own page.")


def check_content_type(method: str, headers: Mapping[str, str], *, form_allowed: bool) -> None:
    """Raise ``UnsupportedMedia`` for a changing request whose body does not say that it is JSON.

    A request that sends no body at all needs no type (a cancel, say); a web page cannot send such a one
    across origins without an Origin, which is checked.
    """
    if method not in CHANGING:
        return
    given = headers.get("content-type")
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if given is None and empty:
        return
    kind = (given or "").partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    if form_allowed and kind == "application/x-www-form-urlencoded":
        return
    raise UnsupportedMedia(f"The body is of type {kind[:100] or 'unknown'!r}, which is not read here.")


def identify(peer: str | None, headers: Mapping[str, str], settings: SecuritySettings, now: int) -> Actor:
    """Who asks.

    Args:
        peer: address of the other end.
        headers: of the request, names in lower case.
        settings: of the door.
        now: UTC microseconds.

    Raises:
        Unauthenticated: a key is needed and none, or a wrong one, was given.
    """
    authorization = headers.get("authorization")
    if authorization is not None:
        return _by_token(peer, authorization, settings)
    if settings.api_key is None:
        return _local(settings)
    cookie = _cookie(headers.get("cookie"))
    if cookie is not None and cookie_valid(cookie, settings, now):
        return _by_key(settings.api_key)
    raise Unauthenticated("This server asks for a key.")


def key_matches(given: str, settings: SecuritySettings) -> bool:
    """Whether this is the API key; takes as long for every wrong one."""
    return settings.api_key is not None and _same(given, settings.api_key)


def new_cookie(settings: SecuritySettings, now: int) -> str:
    """Value of the cookie of a new sign-in: when it ends, a nonce, and our signature; nothing of the key."""
    body = f"v1.{now // 1_000_000 + settings.cookie_seconds}.{secrets.token_urlsafe(9)}"
    return f"{body}.{_signature(body, settings)}"


def cookie_valid(value: str, settings: SecuritySettings, now: int) -> bool:
    """Whether we signed this cookie under the present key and it has not ended."""
    body, _, signature = value.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(body, settings).encode()):
        return False
    version, _, rest = body.partition(".")
    ends = rest.partition(".")[0]
    return version == "v1" and ends.isdigit() and int(ends) * 1_000_000 > now


def _signature(body: str, settings: SecuritySettings) -> str:
    # From the key: a changed key ends all sign-ins, a restart ends none.
    secret = hmac.new((settings.api_key or "").encode(), b"headway sign-in cookie", hashlib.sha256).digest()
    return hmac.new(secret, body.encode(), hashlib.sha256).hexdigest()


def _by_token(peer: str | None, authorization: str, settings: SecuritySettings) -> Actor:
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() == "bearer" and token:
        if settings.api_key is not None and _same(token, settings.api_key):
            return _by_key(settings.api_key)
        if settings.owner_token is not None and is_loopback(peer) and _same(token, settings.owner_token):
            return _local(settings)
    raise Unauthenticated("The key in the Authorization header is not valid.")


def _by_key(key: str) -> Actor:
    return Actor(f"key:{key[-4:]}", Role.ADMIN)


def _local(settings: SecuritySettings) -> Actor:
    return Actor(f"local:{settings.uid}", Role.ADMIN)


def _same(given: str, expected: str) -> bool:
    # Digests of equal length: neither the length nor the first wrong character can be timed.
    left, right = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, expected))
    return hmac.compare_digest(left, right)


def _cookie(header: str | None) -> str | None:
    if not header:
        return None
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
