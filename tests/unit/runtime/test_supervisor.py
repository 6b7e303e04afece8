"""The supervisor with real children."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until

_SUPERVISE = """
import sys
from headway.runtime.supervisor import Supervisor
sys.exit(Supervisor([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], lambda starts: f"start {starts}".encode(), ()).run())
"""
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a supervisor over a child given as source; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(source: str, *args: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _SUPERVISE, textwrap.dedent(source), *map(str, args)]
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def runs(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


# Each start of the child is a line in the file, with the time.
_NOTE = """
import os, sys, time
with open(sys.argv[1], "a") as file:
    file.write(f"{time.monotonic()}\\n")
"""


def test_a_child_that_ends_well_ends_it(start: Start, tmp_path: Path) -> None:
    process = start(_NOTE, tmp_path / "runs")
    assert process.wait(20) == 0
    assert len(runs(tmp_path / "runs")) == 1


def test_a_child_that_dies_is_started_again_with_growing_pauses(start: Start, tmp_path: Path) -> None:
    process = start(_NOTE + "os.kill(os.getpid(), 9)", tmp_path / "runs")
    times = wait_until(lambda: found if len(found := runs(tmp_path / "runs")) >= 4 else [], what="4 starts", seconds=30)
    pauses = [float(b) - float(a) for a, b in itertools.pairwise(times)]
    assert [pause >= wanted for pause, wanted in zip(pauses, (0.2, 0.4, 0.8), strict=False)] == [True] * 3
    process.terminate()
    # SIGTERM in the pause, or while the child dies by itself.
    assert process.wait(20) in {0, 1}
    assert process.stderr is not None


def test_what_cannot_start_is_not_started_again(start: Start, tmp_path: Path) -> None:
    process = start(_NOTE + "sys.exit(78)", tmp_path / "runs")
    assert process.wait(20) == 1
    assert len(runs(tmp_path / "runs")) == 1


def test_a_child_is_told_how_often_one_was_started_before(start: Start, tmp_path: Path) -> None:
    source = """
        import sys
        with open(sys.argv[1], "a") as file:
            file.write(sys.stdin.readline())
        sys.exit(75 if len(open(sys.argv[1]).readlines()) < 3 else 0)
    """
    assert start(source, tmp_path / "told").wait(30) == 0
    assert (tmp_path / "told").read_text().splitlines() == ["start 0", "start 1", "start 2"]


def test_a_child_that_asks_for_it_is_started_at_once(start: Start, tmp_path: Path) -> None:
    source = _NOTE + "sys.exit(75 if len(open(sys.argv[1]).readlines()) < 3 else 0)"
    process = start(source, tmp_path / "runs")
    assert process.wait(30) == 0
    assert len(runs(tmp_path / "runs")) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_both_in_good_order(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    source = """
        import signal, sys, time
        def drain(*_):
            open(sys.argv[2], "w").write("drained")
            sys.exit(0)
        signal.signal(signal.SIGTERM, drain)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        open(sys.argv[1], "w").write("up")
        while True:
            time.sleep(60)
    """
    process = start(source, tmp_path / "up", tmp_path / "drained")
    wait_until((tmp_path / "up").exists, what="the child", seconds=20)
    process.send_signal(number)
    assert process.wait(20) == 0
    assert (tmp_path / "drained").read_text() == "drained"


def test_a_second_ctrl_c_does_not_wait(start: Start, tmp_path: Path) -> None:
    source = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[2], "a").write("x"))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        open(sys.argv[1], "w").write("up")
        while True:
            time.sleep(60)
    """
    process = start(source, tmp_path / "up", tmp_path / "asked")
    wait_until((tmp_path / "up").exists, what="the child", seconds=20)
    process.send_signal(signal.SIGINT)
    wait_until((tmp_path / "asked").exists, what="the child to be asked", seconds=20)
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        # A second one within half a second is the first one's echo.
        process.send_signal(signal.SIGINT)
        threading.Event().wait(0.1)
    # The last one may come when the child is dead and the handlers are back in place.
    assert process.poll() in {1, -signal.SIGINT}


def test_the_child_is_told_and_notices_the_end_of_its_supervisor(start: Start, tmp_path: Path) -> None:
    source = """
        import sys
        first = sys.stdin.readline()
        open(sys.argv[1], "w").write(first)
        sys.stdin.read()
        open(sys.argv[2], "w").write("alone")
    """
    process = start(source, tmp_path / "message", tmp_path / "alone")
    wait_until(lambda: (tmp_path / "message").exists() and (tmp_path / "message").read_text(), what="it", seconds=20)
    assert (tmp_path / "message").read_text() == "start 0\n"
    os.kill(process.pid, signal.SIGKILL)
    wait_until((tmp_path / "alone").exists, what="the child to notice", seconds=20)
