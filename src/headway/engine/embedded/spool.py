"""Finishes that wait on disk while the database does not answer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.model.commands import Begun, Finish, NewJoin, Resend, SubmitJob
from headway.model.errors import JobNotFound, StoreUnavailable
from headway.model.job import Backoff, ErrorInfo, Progress
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from headway.ports.jobdoor import JobDoor

_log = logging.getLogger(__name__)

_FORMAT = 1


class Spool:
    """A folder of finishes, one file each, complete or absent.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, finish: Finish) -> Path:
        """Write a finish so that it survives a crash; returns its file. Raises ``OSError`` on a full disk."""
        path = self._path(finish.job_id, finish.fence)
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "finish": dataclasses.asdict(finish)}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        # The name lives in the folder: without this the file may be gone after a power cut.
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return path

    def remove(self, finish: Finish) -> None:
        """Forget a finish that was answered."""
        self._path(finish.job_id, finish.fence).unlink(missing_ok=True)

    def waiting(self) -> list[Finish]:
        """All finishes on disk; a file that cannot be read is set aside as ``.bad``."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(read_finish(json.loads(path.read_text(encoding="utf-8"))["finish"]))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                _log.warning("the spooled finish %s cannot be read and is set aside: %s", path.name, error)
                path.replace(path.with_suffix(".bad"))
        return found

    def set_aside(self, finish: Finish) -> Path:
        """Keep a finish that cannot be told as a ``.bad`` file, which nothing reads again; returns that file."""
        path = self._path(finish.job_id, finish.fence)
        return path.replace(path.with_suffix(".bad"))

    def sweep(self) -> None:
        """Remove what a crash left half written; only while nobody else writes here."""
        for path in self._folder.glob("*.part"):
            path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob("*.json"))

    def _path(self, job_id: str, fence: int) -> Path:
        # A caller's id may hold any character, slashes included.
        return self._folder / f"{hashlib.sha256(job_id.encode()).hexdigest()[:40]}-{fence}.json"


def offer_spooled(spool: Spool, door: JobDoor) -> int:
    """Hand finishes that an earlier process left behind to the door; call it before anything is recovered.

    One that the door can never take is set aside with a warning: it must not keep the others, and the start, waiting.

    Returns:
        How many were answered (recorded now, recorded before, or refused because another attempt took over).

    Raises:
        StoreUnavailable: the database does not answer; what is not answered stays on disk.
    """
    answered = 0
    spool.sweep()
    for finish in spool.waiting():
        try:
            door.finish(finish)
        except StoreUnavailable:
            raise
        except JobNotFound:
            # Its job was removed: there is nothing left to record.
            pass
        except Exception:  # noqa: BLE001 - drivers raise what they like about a value
            kept = spool.set_aside(finish)
            _log.warning(
                "the finish of job %s (fence %d) cannot be stored and is set aside as %s",
                finish.job_id, finish.fence, kept.name, exc_info=True,
            )  # fmt: skip
            continue
        answered += 1
        spool.remove(finish)
    return answered


def read_finish(data: dict[str, Any]) -> Finish:
    """A finish from the values of its JSON."""
    data = dict(data)
    data["outcome"] = AttemptOutcome(data["outcome"])
    data["sends"] = tuple(read_submit(one) for one in data["sends"])
    data["joins"] = read_joins(data.get("joins") or ())
    for name, kind in (("error", ErrorInfo), ("resend", Resend), ("begun", Begun), ("progress", Progress)):
        if data.get(name) is not None:
            data[name] = typing.cast("type[Any]", kind)(**data[name])
    return Finish(**data)


def read_joins(data: Sequence[dict[str, Any]]) -> tuple[NewJoin, ...]:
    """Joins from the values of their JSON."""
    return tuple(NewJoin(**one) for one in data)


def read_submit(data: dict[str, Any]) -> SubmitJob:
    """A submit command from the values of its JSON."""
    data = dict(data)
    if data.get("backoff") is not None:
        data["backoff"] = Backoff(**data["backoff"])
    return SubmitJob(**data)
