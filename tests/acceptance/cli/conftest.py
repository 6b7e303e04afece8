"""The command line as a person uses it: real processes in a folder of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.waiting import wait_until

HEADWAY = [sys.executable, "-m", "headway"]
READY = re.compile(r"^Headway is ready at (http://\S+)$", re.MULTILINE)

TASKS = '''
import os, time
from pathlib import Path
import headway

@headway.task
def add(a, b=0):
    headway.current_job().log(f"adding {a} and {b}")
    return a + b

@headway.task
def fail(word):
    raise ValueError(f"no {word}")

@headway.task
def gate(path):
    """Runs until the file is there, saying how far it is."""
    job = headway.current_job()
    job.log("at the gate")
    count = 0
    while not Path(path).exists():
        if job.cancelled():
            return "cancelled"
        count += 1
        job.progress(min(count, 99), 100, "waiting")
        time.sleep(0.02)
    job.log("through")
    return count > 0
'''


class Folder:
    """A folder in which commands are run, with an application ``proj`` in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "proj.py").write_text(TASKS)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "200", **(extra or {})}

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HEADWAY, *arguments],
            cwd=self.path,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def ok(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """The output of a command that succeeds."""
        ran = self.run(*arguments, env=env)
        assert ran.returncode == 0, f"{arguments}: exit {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran.stdout

    def fails(self, *arguments: str, code: str, exits: int = 1, env: Mapping[str, str] | None = None) -> str:
        """What a command says on stderr that fails with this code, as every error: code, message, hint."""
        ran = self.run(*arguments, env=env)
        assert ran.returncode == exits, f"{arguments}: exit {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert f"error [{code}]: " in ran.stderr
        assert "\nhint: " in ran.stderr
        assert "Traceback" not in ran.stderr + ran.stdout
        return ran.stderr

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
        return Running(self, arguments, env)


class Running:
    """A command that runs on; everything it says is kept."""

    def __init__(self, folder: Folder, arguments: tuple[str, ...], env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*HEADWAY, *arguments],
            cwd=folder.path,
            env=folder.environment({"PYTHONUNBUFFERED": "1", **(env or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.ends()

    def says(self, text: str, seconds: float = 30) -> None:
        wait_until(
            lambda: text in self.said or self.process.poll() is not None, what=f"{text!r} of a command", seconds=seconds
        )
        wait_until(lambda: text in self.said, what=f"{text!r} in what it said:\n{self.said}", seconds=1)

    def ready(self) -> str:
        """The URL of the ready line."""
        self.says("Headway is ready at ", 60)
        found = wait_until(lambda: READY.search(self.said), what="the whole ready line", seconds=5)
        assert found is not None
        return found.group(1)

    def interrupt(self) -> None:
        """What Ctrl-C does to this process."""
        self.process.send_signal(signal.SIGINT)

    def ends(self, seconds: float = 30) -> int:
        """Its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end; it said:\n{self.said}") from None
        finally:
            self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Folder, str]]:
    """A folder whose application is served, and the server's URL; the tests of a module share it."""
    folder = Folder(tmp_path_factory.mktemp("served"))
    with folder.start("up", "-A", "proj", "--port", "0", "--workers", "4") as running:
        yield folder, running.ready()
