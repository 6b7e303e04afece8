"""A child process with its pipe and its outputs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil

from headway.engine.embedded.orphans import TOKEN_VARIABLE, new_token, record_child
from headway.engine.embedded.wire import Wire
from headway.model.redact import mask_secrets, storable

if TYPE_CHECKING:
    from headway.engine.embedded.settings import EngineSettings

_EXIT_SECONDS = 2.0
_MAX_LINE = 8_000
_CHUNK = 1 << 16


class ChildProcess:
    """A child process with its pipe and its outputs."""

    def __init__(self, settings: EngineSettings) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        token = new_token()
        command = [sys.executable, "-m", "headway.engine.embedded.child"]
        command += ["--fd", str(theirs.fileno()), "--parent", str(os.getpid()), "--hostname", settings.hostname]
        if settings.app_spec is not None:
            command += ["--app", settings.app_spec]
        command += [part for name in settings.imports for part in ("--import", name)]
        try:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                cwd=settings.workdir,
                env={**os.environ, **settings.environment, TOKEN_VARIABLE: token},
                # A group of its own: what its tasks start can be ended with it, and Ctrl-C goes to the parent alone.
                start_new_session=True,
            )
        except BaseException:
            mine.close()
            raise
        finally:
            theirs.close()
        self.wire = Wire(mine)
        self.pid = self.popen.pid
        self.record = record_child(settings.children_dir, self.pid, token)
        self.outputs = {"stdout": OutputLines(self.popen.stdout), "stderr": OutputLines(self.popen.stderr)}
        self.wake_end, self._waker = os.pipe()
        os.set_blocking(self.wake_end, False)
        os.set_blocking(self._waker, False)
        self.ready = False
        self.done = 0
        self._closing = threading.Lock()
        self._closed = False

    def wake(self) -> None:
        """Make the slot's thread look at its attempt's stop reason; called from other threads."""
        with self._closing:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._waker, b"!")

    def kill(self) -> None:
        """End the process and everything in its group, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self, *, kill: bool) -> None:
        """End the process: by closing its pipe first, unless it must be killed; then collect it."""
        self.wire.close()
        if not kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(_EXIT_SECONDS)
        # Also after a kind end: what its tasks started must not compute on.
        self.kill()
        self.popen.wait()
        for lines in self.outputs.values():
            lines.close()
        with self._closing:
            self._closed = True
            os.close(self.wake_end)
            os.close(self._waker)
        self.record.path.unlink(missing_ok=True)

    def resident_mb(self) -> float:
        """Resident memory in MB; 0 when the process is gone."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 1_048_576
        except psutil.Error:
            return 0.0


class _Readable(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class OutputLines:
    """One output of a child, cut into lines."""

    def __init__(self, pipe: _Readable | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._rest = b""
        self.ended = False
        os.set_blocking(pipe.fileno(), False)

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self._pipe.fileno()

    def close(self) -> None:
        """Let go of the pipe."""
        self._pipe.close()

    def read(self) -> list[str]:
        """The lines that are complete, from one read."""
        try:
            data = os.read(self.fileno(), _CHUNK)
        except BlockingIOError:
            return []
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _MAX_LINE:
            lines.append(self._rest[:_MAX_LINE])
            self._rest = self._rest[_MAX_LINE:]
        return [_text(line) for line in lines]

    def drain(self) -> list[str]:
        """Everything that is in the pipe now, an unfinished last line included."""
        found: list[str] = []
        while not self.ended:
            before = len(found), self._rest
            found += self.read()
            if (len(found), self._rest) == before:
                break
        if self._rest:
            found.append(_text(self._rest))
            self._rest = b""
        return found


def _text(line: bytes) -> str:
    return storable(mask_secrets(line.rstrip(b"\r").decode("utf-8", "backslashreplace")))[:_MAX_LINE]


def children_folder(path: Path) -> Path:
    """The folder of the children's records, made if it is not there."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
