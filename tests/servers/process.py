"""A server as a child process on a loopback port: start, stop, kill, pause, all by process id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

import psutil

from tests.waiting import wait_until

START_SECONDS = 30.0
STOP_SECONDS = 20.0


class ServerError(RuntimeError):
    """The server could not be started or stopped; the text ends with the last lines of its log."""


class ServerProcess(ABC):
    """One server over one folder of its own, so that it can be stopped and started again with its data.

    The folder lies directly under the system's temporary directory and, when the tests run as root, belongs to
    `nobody`, as does the process: Postgres refuses root, and no test needs it.
    """

    name: str
    start_seconds = START_SECONDS

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"headway-{self.name}-"))
        self.folder.chmod(0o700)
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.port = free_port()
        self.log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command line of the server, staying in the foreground, listening on 127.0.0.1 and `self.port` only."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes requests now."""

    def environment(self) -> dict[str, str]:
        """What the server's environment has besides that of the tests."""
        return {}

    @property
    def pid(self) -> int:
        """The id of the server's main process.

        Raises:
            ServerError: it is not running.
        """
        if self._process is None:
            raise ServerError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server on its folder and port and return when it answers; nothing if it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        with self.log.open("ab") as log:
            self._process = self.spawn(self.command(), stdout=log, stderr=subprocess.STDOUT)
        process = self._process
        try:
            wait_until(
                lambda: process.poll() is not None or self.answers(),
                what=f"{self.name} to answer",
                seconds=self.start_seconds,
            )
        except AssertionError as error:
            self.kill()
            raise ServerError(f"{error}\n{self.last_lines()}") from error
        if process.poll() is not None:
            self._process = None
            raise ServerError(f"{self.name} ended with {process.returncode} at its start\n{self.last_lines()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask the server to end and wait for it; nothing if it does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ServerError(f"{self.name} did not end within {STOP_SECONDS:g} s\n{self.last_lines()}") from error
        self._process = None

    def restart(self) -> None:
        """Stop, then start on the same folder and port."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """kill -9 for the server and its children, as a power cut would end them; its data stays."""
        if self._process is None:
            return
        family = self._family()
        for member in family:
            _signal(member, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        wait_until(lambda: not any(_executes(p) for p in family), what=f"{self.name} to be dead", seconds=STOP_SECONDS)
        self._process = None

    def pause(self) -> None:
        """Stop the server's processes without ending them: connections stay open and nothing answers."""
        for member in self._family():
            _signal(member, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        for member in self._family():
            _signal(member, signal.SIGCONT)

    def remove(self) -> None:
        """End the server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_lines(self) -> str:
        """The end of the server's log."""
        try:
            return self.log.read_text(errors="replace")[-2000:]
        except OSError:
            return "(no log)"

    def spawn(self, command: list[str], *, stdout: object, stderr: object) -> subprocess.Popen[bytes]:
        """Start `command` in the folder as the server's user, to end when the test run dies."""
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC", **self.environment()}
        identity: dict[str, object] = (
            {"user": self.user, "group": self._group(), "extra_groups": []} if self.user else {}
        )
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [*prefix, *command],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            **identity,
        )

    def _group(self) -> int | None:
        return pwd.getpwnam(self.user).pw_gid if self.user else None

    def _family(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        try:
            main = psutil.Process(self._process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _executes(process: psutil.Process) -> bool:
    # An orphan's zombie waits for init, which takes its time in some containers; it holds nothing any more.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
