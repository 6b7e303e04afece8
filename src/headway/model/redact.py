"""Secrets leave Headway masked: in logs, in error messages and in the log lines of jobs."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"

_NAME = (
    r"(?:[a-z0-9]+[-_.])*"
    r"(?:password|passwd|passphrase|pwd|secret|token|api[-_]?key|apikey|access[-_]?key|secret[-_]?key|private[-_]?key|credentials?)"
    r"(?:[-_](?:key|id|value))?"
)
# name=value, name: value, "name": "value" and 'name': 'value'; a quoted value ends at its own quote.
_PAIR = re.compile(
    rf"""(?P<head>(?<![a-z0-9]){_NAME}\\?["']?\s*(?:=>|[=:])\s*)"""
    r"""(?:(?P<quote>\\?["'])(?P<quoted>.*?)(?P=quote)|(?P<bare>[^\s"'&,;()\[\]{}<>]+))""",
    re.IGNORECASE,
)
# A value in angle brackets is a placeholder in a hint of ours, not a secret.
_AUTHORIZATION = re.compile(
    r"""(?P<head>\b(?:proxy-)?authorization\\?["']?\s*[=:]\s*\\?["']?(?!(?:[a-z][a-z0-9-]*\s+)?<)(?:[a-z][a-z0-9-]*\s+)?)"""
    r"""(?P<value>[^\s"'\\,;]+)""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<head>\b(?:bearer|basic)\s+)(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)
_URL = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>]*:)(?P<value>[^\s/\"'<>]*)(?P<tail>@)", re.IGNORECASE)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Most texts hold none of these words, and there are thousands of them a second: looking for each of them takes a tenth of
# the time of one expression that ignores case.
_HINTS = ("://", "pass", "pwd", "secret", "token", "key", "credential", "authorization", "bearer", "basic")


def mask_secrets(text: str) -> str:
    """The text with what looks like a secret replaced by ``***``.

    Masked are the values of names such as ``token=``, ``secret:``, ``"password": "…"`` and ``api_key=``,
    ``Authorization: Bearer …`` (and other schemes), and the password of a URL with ``user:password@``.
    Masking twice changes nothing more.

    Args:
        text: any text for a person: an error's message, a traceback, a log line.

    Returns:
        The same text, with each secret's value replaced and everything around it kept.
    """
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    text = _URL.sub(rf"\g<head>{MASK}\g<tail>", text)
    text = _AUTHORIZATION.sub(rf"\g<head>{MASK}", text)
    text = _BEARER.sub(rf"\g<head>{MASK}", text)
    return _PAIR.sub(_mask_pair, text)


def storable(text: str) -> str:
    """The text with what no database takes replaced by U+FFFD: NUL characters and halves of surrogate pairs.

    Args:
        text: any text that a task said.

    Returns:
        The text itself where there is nothing to replace.
    """
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def _mask_pair(match: re.Match[str]) -> str:
    quote = match.group("quote")
    if quote is None:
        return f"{match.group('head')}{MASK}"
    return f"{match.group('head')}{quote}{MASK}{quote}"
