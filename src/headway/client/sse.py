"""Server-sent events, parsed as the HTML standard says (section 9.2.6, "Interpreting an event stream")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Message:
    """One dispatched event: its name, its data, and the last id seen in the stream so far."""

    event: str
    data: str
    id: str
    retry_seconds: float | None


def messages(lines: Iterable[str]) -> Iterator[Message]:
    """Messages of a stream of lines (without their ends); an unfinished one at the end is dropped.

    A comment makes no message; neither does an event without data.
    """
    event, data, last_id, retry = "", [""][:0], "", None
    for line in lines:
        if not line:
            if data:
                yield Message(event or "message", "\n".join(data), last_id, retry)
            event, data, retry = "", [], None
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and value.isdigit():
            retry = int(value) / 1000
