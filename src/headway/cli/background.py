"""A Headway to talk to for the length of a command: the one that runs, or one started for it."""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from headway.cli import screen
from headway.model.errors import ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headway.client import Client
    from headway.config import Settings

_PR_SET_PDEATHSIG: Final = 1
_READY: Final = re.compile(r"Headway is ready at (http\S+)")
_READY_WITHIN: Final = 60.0
_ENDS_WITHIN: Final = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running Headway.

    Attributes:
        url: where it serves.
        key: what to show it.
        process: the one started here, None if it ran before.
    """

    url: str
    key: str | None
    process: subprocess.Popen[str] | None = None

    @property
    def started_here(self) -> bool:
        """Whether it ends with this command."""
        return self.process is not None

    def client(self) -> Client:
        """A client of it."""
        from headway.client import Client

        return Client(self.url, self.key)

    def wait(self) -> None:
        """Until the process started here ends."""
        if self.process is not None:
            self.process.wait()


@contextmanager
def serving(settings: Settings) -> Iterator[Server]:
    """The owner of the data directory if one lives and serves; else a ``headway up`` that ends with the block."""
    from headway.bootstrap import read_owner

    owner = read_owner(settings.data_dir)
    if owner is not None and owner.url:
        yield Server(owner.url, owner.token)
        return
    process = _start([sys.executable, "-m", "headway", "up", "--data-dir", str(settings.data_dir)])
    # A SIGTERM would end this process without its `finally`, and leave the server behind.
    previous = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        url = _ready(process)
        screen.say(f"Headway is ready at {url}")
        owner = read_owner(settings.data_dir)
        yield Server(url, owner.token if owner else settings.api_key, process)
    finally:
        _end(process)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _start(command: list[str]) -> subprocess.Popen[str]:
    """Start a server that is ended by us alone: Ctrl-C does not reach it, and it does not outlive us."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs yet, and it does one system call
    )


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _leave(number: int, _: object) -> None:
    sys.exit(1)


def _ready(process: subprocess.Popen[str]) -> str:
    """The URL of the ready line; the last lines as the error when it does not come."""
    lines: deque[str] = deque(maxlen=20)
    found: list[str] = []
    seen = threading.Event()
    assert process.stdout is not None
    threading.Thread(target=_drain, args=(process.stdout, lines, found, seen), daemon=True).start()
    deadline = time.monotonic() + _READY_WITHIN
    while not seen.wait(0.1):
        if time.monotonic() > deadline:
            break
    if not found:
        said = "".join(lines).rstrip()
        raise ServerUnreachable(f"`headway up` was not ready:\n{said}", hint="`headway doctor` says what is wrong.")
    return found[0]


def _drain(stream: IO[str], lines: deque[str], found: list[str], seen: threading.Event) -> None:
    """Read what the server says to its end, so that it never blocks on a full pipe."""
    for line in stream:
        lines.append(line)
        if not found and (match := _READY.search(line)):
            found.append(match.group(1))
            seen.set()
    seen.set()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
