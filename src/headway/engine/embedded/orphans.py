"""Child processes that outlived their owner: found by what they were started with, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import psutil

# Not HEADWAY_…: those names are settings, and unknown ones are refused.
TOKEN_VARIABLE = "CHILD_OF_HEADWAY"  # noqa: S105 - a name that is inherited, not a secret
_GONE_SECONDS = 10.0
# /proc counts start times in ticks of 10 ms, and the boot time they are added to is rounded.
_START_TOLERANCE = 2.0


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """One file under ``children/``: a process, when it started, and the token that all its descendants inherit."""

    path: Path
    pid: int
    started: float
    token: str


def new_token() -> str:
    """A token for one child's environment."""
    return secrets.token_hex(16)


def record_child(folder: Path, pid: int, token: str) -> ChildRecord:
    """Write down a child that was just started, so that the next owner can find it."""
    with contextlib.suppress(psutil.Error):
        started = psutil.Process(pid).create_time()
        record = ChildRecord(folder / f"{pid}.json", pid, started, token)
        record.path.write_text(json.dumps({"pid": pid, "started": started, "token": token}), encoding="utf-8")
        return record
    return ChildRecord(folder / f"{pid}.json", pid, 0.0, token)


def reap_orphans(folder: Path) -> list[int]:
    """End every process that a dead owner's children left behind, and wait until they are gone.

    Call it as the owner of the data directory, before anything is recovered: a job must not begin again while its
    old attempt still computes. A process is only touched when its start time or its inherited token says that it is
    the recorded one, so a reused pid is safe.

    Args:
        folder: ``children/`` of the data directory; may be missing.

    Returns:
        The pids that were killed.
    """
    records = _records(folder)
    if not records:
        return []
    tokens = {record.token for record in records}
    mains = {record.pid: record for record in records}
    found = [process for process in psutil.process_iter() if _belongs(process, tokens, mains)]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=_GONE_SECONDS)
    for record in records:
        record.path.unlink(missing_ok=True)
    return [process.pid for process in found]


def _records(folder: Path) -> list[ChildRecord]:
    records = []
    for path in folder.glob("*.json"):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            records.append(ChildRecord(path, int(data["pid"]), float(data["started"]), str(data["token"])))
        except (ValueError, KeyError, TypeError):
            # Half written when its owner died: the child had not begun anything then, and dies with its pipe.
            path.unlink(missing_ok=True)
    return records


def _belongs(process: psutil.Process, tokens: set[str], mains: dict[int, ChildRecord]) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        if process.uids().real != os.getuid():
            return False
        record = mains.get(process.pid)
        if record is not None and abs(process.create_time() - record.started) <= _START_TOLERANCE:
            return True
        return process.environ().get(TOKEN_VARIABLE) in tokens
    except (psutil.Error, OSError):
        return False
