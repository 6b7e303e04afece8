"""What goes over the wire of a stream: each event is encoded once, however many read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from headway.model.job import Event, Job, LogLine
from headway.model.states import TERMINAL_STATES, VIEW
from headway.model.times import to_rfc3339

KEEP_ALIVE: Final = b": still here\n\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of a stream, ready to be sent.

    Attributes:
        native: bytes of the stream in our spelling.
        document: bytes of the stream in the documents' spelling.
        job_id: the job it is about; None for what every reader gets.
        pos: position of the transition in the feed; None for what carries no id.
        log_id: the job's log up to this line has been told with this frame or before; None when it says nothing
            of the log.
        log_after: of a frame of log lines: it holds those above this line, up to ``log_id``.
        lines_left_out: whether the reader takes those lines from the store instead.
        to_all: whether readers of all jobs get it too (log lines go to readers of their job only).
        terminal: whether the job's stream ends after it.
    """

    native: bytes
    document: bytes
    job_id: str | None = None
    pos: int | None = None
    log_id: int | None = None
    log_after: int | None = None
    lines_left_out: bool = False
    to_all: bool = True
    terminal: bool = False


def event_frame(event: Event, *, log_id: int | None = None) -> Frame:
    """One transition: named by the state entered, with its position as id.

    Args:
        event: the transition.
        log_id: for a terminal one, the job's log line up to which the readers have been told everything.
    """
    data = {
        "job_id": event.job_id,
        "state": event.state.value,
        "verb": str(event.verb),
        "attempt": event.attempt,
        "fence": event.fence,
        "actor": event.actor,
        "at": to_rfc3339(event.at),
        "task": event.task,
        "data": event.data,
    }
    status = VIEW[event.state].document
    document = {"jobId": event.job_id, "status": status, **data}
    return Frame(
        native=encode(data, name=event.state.value, pos=event.pos),
        document=encode(document, name=event.state.value, pos=event.pos),
        job_id=event.job_id,
        pos=event.pos,
        log_id=log_id,
        terminal=event.state in TERMINAL_STATES,
    )


def progress_frame(job: Job, *, to_all: bool = True) -> Frame | None:
    """The job's progress as it is now; None when it said nothing."""
    if job.progress is None:
        return None
    progress = job.progress
    data = {"job_id": job.id, "done": progress.done, "total": progress.total, "message": progress.message}
    return Frame(
        native=encode(data, name="progress"),
        document=encode({"jobId": job.id, **data}, name="progress"),
        job_id=job.id,
        to_all=to_all,
    )


def log_frame(lines: Iterable[LogLine], *, after: int = 0) -> Frame:
    """Some log lines of one job (at least one), an event each, without ids.

    Args:
        lines: oldest first.
        after: the line before them; 0 is the beginning.
    """
    kept = list(lines)
    native = b"".join(encode(_line(line), name="log") for line in kept)
    last = kept[-1]
    return Frame(native=native, document=native, job_id=last.job_id, log_id=last.id, log_after=after, to_all=False)


def log_notice(job_id: str, *, after: int, up_to: int) -> Frame:
    """There are log lines, which each reader takes from the store at its own pace.

    Args:
        job_id: whose.
        after: above this line.
        up_to: the last of them.
    """
    return Frame(b"", b"", job_id=job_id, log_id=up_to, log_after=after, lines_left_out=True, to_all=False)


def log_pieces(lines: Iterable[LogLine], *, size: int) -> Iterator[list[LogLine]]:
    """The lines in pieces of about so many characters of text each, at least one line in each."""
    piece: list[LogLine] = []
    room = size
    for line in lines:
        if piece and len(line.text) > room:
            yield piece
            piece, room = [], size
        piece.append(line)
        room -= len(line.text)
    if piece:
        yield piece


def reset_frame(body: dict[str, Any] | str, *, pos: int) -> bytes:
    """The cursor is older than what is kept: the state as it is, and the position from which the stream goes on.

    Args:
        body: JSON value, or JSON text, of the snapshot.
        pos: position to resume from after it.
    """
    return encode(body, name="reset", pos=pos)


def encode(data: dict[str, Any] | str, *, name: str, pos: int | None = None) -> bytes:
    """One server-sent event.

    Args:
        data: a JSON value, or JSON text on one line.
        name: the event's name.
        pos: its id, if it has one.
    """
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), default=str)
    identity = "" if pos is None else f"id: {pos}\n"
    # JSON text holds no raw line break, so one `data:` line is enough.
    return f"{identity}event: {name}\ndata: {text}\n\n".encode("utf-8", "backslashreplace")


def _line(line: LogLine) -> dict[str, Any]:
    return {
        "job_id": line.job_id,
        "id": line.id,
        "fence": line.fence,
        "at": to_rfc3339(line.at),
        "stream": line.stream,
        "text": line.text,
    }
