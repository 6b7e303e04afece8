"""The cluster of one machine put together: what runs, and its supervisor."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import structlog

import headway
from headway.bootstrap.managed import needs_shared
from headway.config import ClusterFile, Settings, WorkerGroup
from headway.config.cluster import API
from headway.model.errors import ClusterInUse
from headway.runtime.control import ControlServer
from headway.runtime.fleet import Fleet
from headway.runtime.member import ProcessSpec
from headway.runtime.rotated import RotatedOutput
from headway.store.owner import prepare_directory

SUPERVISOR: Final = "supervisor"
"""The name of the supervisor's own log; no group of workers takes it, as theirs end with a number."""
API_STOP_SECONDS: Final = 15.0
_READY_SECONDS: Final = 60.0
_BEYOND_DRAIN: Final = 10.0
_MIB: Final = 1_048_576
_SERVING: Final = re.compile(r"^Headway is ready at (http\S+)")
_WORKING: Final = re.compile(r"^Headway worker (\S+) is ready")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the supervisor of a data directory keeps what it writes.

    Attributes:
        folder: of its state.
        logs: folder of the logs.
    """

    folder: Path
    logs: Path

    @property
    def socket(self) -> Path:
        """Where it is asked."""
        return self.folder / "control.sock"

    @property
    def state(self) -> Path:
        """The processes that live, with the moments of their start: a number alone may be another's by now."""
        return self.folder / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor while it lives."""
        return self.folder / "lock"

    def log(self, name: str) -> Path:
        """The log of a part."""
        return self.logs / f"{name}.log"


def place_of(settings: Settings, file: ClusterFile) -> Place:
    """Where the cluster of these settings is."""
    data_dir = settings.data_dir.absolute()
    # As all defaults `var/…` do, the default lies under the data directory.
    logs = data_dir / "logs" if file.logs in (None, "var/logs") else Path(str(file.logs)).expanduser().absolute()
    return Place(data_dir / "cluster", logs)


def stop_seconds(settings: Settings) -> float:
    """What a worker gets to end: its drain, and a while to write what it has."""
    return settings.drain_seconds + _BEYOND_DRAIN


def specs_of(settings: Settings, file: ClusterFile, place: Place, descriptor: int) -> list[ProcessSpec]:
    """Every process of the cluster.

    Args:
        settings: already checked.
        file: says what runs.
        place: of logs.
        descriptor: of the listening socket, which outlives each server: while one is replaced, requests wait.
    """
    common = ["--data-dir", str(settings.data_dir.absolute()), *(["-A", file.app] if file.app else [])]
    program = [sys.executable, "-m", "headway"]
    api = ProcessSpec(
        API,
        [*program, "serve", "--fd", str(descriptor), "--host", file.host, *common],
        place.log(API),
        ready=_SERVING,
        ready_seconds=_READY_SECONDS,
        stop_seconds=API_STOP_SECONDS,
        pass_fds=(descriptor,),
        # One process owns the data directory, so its successor cannot run beside it.
        beside=False,
        last=True,
        facts={"kind": "api", "queues": None},
    )
    workers = [
        ProcessSpec(
            name,
            # Two names in turn: a successor must not share its predecessor's mailbox, and names must not grow in number.
            [*program, "worker", "-n", f"{name}{{slot}}", *worker_options(group), *common],
            place.log(name),
            ready=_WORKING,
            ready_seconds=_READY_SECONDS,
            stop_seconds=stop_seconds(settings),
            group=group.name,
            facts={"kind": "worker", "queues": list(group.queues)},
        )
        for group in file.groups
        for name in group.members()
    ]
    return [api, *workers]


def worker_options(group: WorkerGroup) -> list[str]:
    """The options of ``headway worker`` for a group."""
    memory = None if group.max_memory_mb is None else group.max_memory_mb * 1024
    given: Iterable[tuple[str, Any]] = (
        ("-Q", ",".join(group.queues) or None),
        ("-c", group.concurrency),
        ("-P", group.pool),
        ("--max-tasks-per-child", group.max_tasks_per_child),
        ("--max-memory-per-child", memory),
    )
    return [text for option, value in given if value is not None for text in (option, str(value))]


def run_fleet(settings: Settings, file: ClusterFile, *, listener: socket.socket, url: str, detached: bool) -> int:
    """Look after the cluster until a signal or a request ends it; the exit code.

    Args:
        settings: already checked.
        file: says what runs.
        listener: bound and listening.
        url: of it.
        detached: whether its own log goes to a file.

    Raises:
        ClusterInUse: another one does so.
        InvalidSettings: the registry cannot be shared by several processes.
    """
    needs_shared(settings)
    place = place_of(settings, file)
    max_bytes = file.log_max_mb * _MIB
    lock = claim(place)
    listener.set_inheritable(True)
    control = ControlServer(place.socket)
    if detached:
        _log_to(RotatedOutput(place.log(SUPERVISOR), max_bytes, file.log_backups))
    else:
        from headway.bootstrap.logging import set_up_logging

        set_up_logging()
    fleet = Fleet(
        specs_of(settings, file, place, listener.fileno()),
        lambda spec: RotatedOutput(spec.log, max_bytes, file.log_backups),
        control=control,
        changed=lambda parts: write_state(place, parts),
        facts={
            "url": url,
            "version": headway.__version__,
            "file": str(file.source) if file.source else None,
            "described": fleet_described(file),
        },
    )
    try:
        code = fleet.run()
        write_state(place, [])
    finally:
        os.close(lock)
    return code


def fleet_described(file: ClusterFile) -> str:
    """The file's meaning as a text: another one means that it was changed."""
    return repr(file)


def claim(place: Place) -> int:
    """Become the supervisor of this place; the descriptor of the lock, which dies with this process."""
    prepare_directory(place.folder.parent)
    place.folder.mkdir(mode=0o700, exist_ok=True)
    place.logs.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ClusterInUse(f"another supervisor looks after the cluster of {place.folder.parent}") from error
    return descriptor


def write_state(place: Place, parts: list[dict[str, Any]]) -> None:
    """Note which processes live, for the one who ends them when the supervisor cannot."""
    own = {"pid": os.getpid(), "created": psutil.Process().create_time()}
    beside = place.state.with_suffix(".new")
    try:
        beside.write_text(json.dumps({**own, "parts": parts}))
        beside.replace(place.state)
    except OSError as error:
        # A full disk: the processes matter more than the note about them.
        structlog.get_logger("headway.fleet").warning("fleet.state_not_written", error=str(error))


class _Lines:
    """A rotated log as a file that structlog can write to."""

    def __init__(self, output: RotatedOutput) -> None:
        self._output = output

    def write(self, text: str) -> int:
        self._output.feed(text.encode())
        return len(text)

    def flush(self) -> None:
        """Every whole line is written already."""


def _log_to(output: RotatedOutput) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(_Lines(output)),  # type: ignore[arg-type]
    )
