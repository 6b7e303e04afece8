"""A problem that a server answered, as the error of the tree that has its code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headway.model.errors import HeadwayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OF_THE_PROBLEM = frozenset({"type", "title", "status", "detail", "instance", "code", "hint", "message"})


def _tree(root: type[HeadwayError]) -> Iterator[type[HeadwayError]]:
    for child in root.__subclasses__():
        yield child
        yield from _tree(child)


def error_class(code: str) -> type[HeadwayError]:
    """The class of a code; one made for it when this Headway does not know the code (a newer server, a workload)."""
    for known in _tree(HeadwayError):
        # Only a class that sets its code itself: a subclass without one would hide its parent.
        if known.__dict__.get("code") == code:
            return known
    return type("RemoteError", (HeadwayError,), {"code": code, "__doc__": "A problem this Headway has no class for."})


def error_of(status: int, body: Mapping[str, Any] | None, text: str = "") -> HeadwayError:
    """The error for an answer that is not a success.

    Args:
        status: HTTP status.
        body: the problem (RFC 9457) if the answer was a JSON object.
        text: the answer as text, for servers that are not ours (a proxy in between).
    """
    if body is None or "code" not in body:
        said = " ".join(text.split())[:200]
        return error_class("unexpected_answer")(
            f"The server answered {status} without a problem of Headway's{': ' + said if said else '.'}",
            hint="Check that the URL is that of a Headway server and that no proxy stands in between.",
            status=status,
        )
    message = str(body.get("detail") or body.get("message") or body.get("title") or f"status {status}")
    extra = {name: value for name, value in body.items() if name not in _OF_THE_PROBLEM}
    return error_class(str(body["code"]))(message, hint=str(body.get("hint") or ""), **extra)
