"""The supervisor of several processes, with real ones."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headway.runtime.control import ask
from headway.runtime.rotated import RotatedOutput
from tests.waiting import wait_until

_FLEET = """
import json, re, sys
from pathlib import Path
from headway.runtime.control import ControlServer
from headway.runtime.fleet import Fleet
from headway.runtime.member import ProcessSpec
from headway.runtime.rotated import RotatedOutput

folder = Path(sys.argv[1])
specs = []
for name, (source, options) in json.loads(sys.argv[2]).items():
    command = [sys.executable, "-c", source, str(folder / name), "{slot}"]
    specs.append(ProcessSpec(name, command, folder / f"{name}.log", ready=re.compile("^ready"), **options))
sys.exit(Fleet(specs, lambda spec: RotatedOutput(spec.log, 1_000_000, 2), control=ControlServer(folder / "s")).run())
"""
# Each start of a process is a line in its file: pid and slot.
_BEGIN = """
import os, signal, sys, time
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()} {sys.argv[2]}\\n")
"""
GOOD = _BEGIN + "print('ready'); time.sleep(60)"
DIES = _BEGIN + "print('oh no'); sys.exit(3)"
DEAF = _BEGIN + "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(60)"
SLOW = _BEGIN + textwrap.dedent("""
    def end(*_):
        time.sleep(0.3)
        print('ended well')
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print('ready')
    time.sleep(60)
    """)
FORKS = _BEGIN + textwrap.dedent("""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(sys.argv[1] + '.child', 'w') as file:
            file.write(str(os.getpid()))
        time.sleep(60)
    while not os.path.exists(sys.argv[1] + '.child'):
        time.sleep(0.01)
    print('ready')
    time.sleep(60)
    """)


class Running:
    """A fleet in a process of its own."""

    def __init__(self, folder: Path, parts: dict[str, tuple[str, dict[str, Any]]]) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", _FLEET, str(folder), json.dumps(parts)], start_new_session=True
        )
        wait_until(self._listens, what="the fleet to listen")

    def _listens(self) -> bool:
        try:
            return bool(list(ask(self.folder / "s", {"do": "status"}, 5)))
        except ConnectionError:
            return False

    def starts(self, name: str) -> list[tuple[int, str]]:
        """Every start of a part: pid and slot."""
        file = self.folder / name
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(line.split()[0]), line.split()[1]) for line in lines]

    def status(self, name: str) -> dict[str, Any]:
        """Of one part."""
        (said,) = list(ask(self.folder / "s", {"do": "status"}, 5))
        return next(part for part in said["answer"]["parts"] if part["name"] == name)

    def ready(self, *names: str) -> None:
        """Wait until these are ready."""
        for name in names:
            wait_until(lambda name=name: self.status(name)["state"] == "ready", what=f"{name} to be ready")  # type: ignore[misc]

    def ask(self, **body: Any) -> tuple[list[str], bool]:
        """A request: what it said, and whether it was carried out."""
        said = list(ask(self.folder / "s", body, 10))
        return [line["say"] for line in said[:-1]], said[-1]["done"]

    def end(self) -> None:
        """SIGTERM; it must end well."""
        self.process.terminate()
        assert self.process.wait(10) == 0


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    """Start a fleet; ended with the test, and nothing of it may be left."""
    made: list[Running] = []

    def start(**parts: Any) -> Running:
        pairs = {name: part if isinstance(part, tuple) else (part, {}) for name, part in parts.items()}
        made.append(Running(tmp_path, pairs))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
    pids = [int(line.split()[0]) for file in tmp_path.glob("p?") for line in file.read_text().splitlines()]
    for pid in pids:
        if psutil.pid_exists(pid):
            wait_until(lambda pid=pid: not psutil.pid_exists(pid), what=f"process {pid} to be gone")  # type: ignore[misc]


def test_what_dies_is_started_again_and_the_others_stay(run: Any) -> None:
    fleet = run(p1=GOOD, p2=GOOD)
    fleet.ready("p1", "p2")
    other = fleet.status("p2")["pid"]
    os.kill(fleet.status("p1")["pid"], signal.SIGKILL)
    wait_until(lambda: len(fleet.starts("p1")) == 2, what="the second start")
    fleet.ready("p1")
    status = fleet.status("p1")
    assert (status["restarts"], status["last_exit"]) == (1, "killed by SIGKILL")
    assert fleet.status("p2")["pid"] == other
    fleet.end()
    assert not (fleet.folder / "s").exists()


def test_what_dies_at_once_is_tried_again_with_growing_pauses(run: Any) -> None:
    fleet = run(p1=DIES)
    wait_until(lambda: len(fleet.starts("p1")) >= 3, what="three starts")
    status = fleet.status("p1")
    assert status["last_exit"] == "exit code 3"
    assert status["unready_exits"] >= 2
    assert "oh no" in (fleet.folder / "p1.log").read_text()
    fleet.end()


def test_a_request_that_nobody_understands_changes_nothing(run: Any) -> None:
    fleet = run(p1=GOOD)
    fleet.ready("p1")
    assert fleet.ask(do="restart", name="nobody")[1] is False
    assert fleet.ask(do="dance")[1] is False
    fleet.end()


def test_the_deaf_is_killed_when_its_time_is_over(run: Any) -> None:
    fleet = run(p1=(DEAF, {"stop_seconds": 0.3}), p2=SLOW)
    fleet.ready("p1", "p2")
    said, done = fleet.ask(do="stop")
    assert done
    assert any("p1" in line and "was killed" in line for line in said)
    assert any("p2" in line and "has ended" in line for line in said)
    assert "ended well" in (fleet.folder / "p2.log").read_text()
    assert fleet.process.wait(10) == 0


def test_nothing_of_a_process_that_died_is_left(run: Any) -> None:
    fleet = run(p1=FORKS)
    fleet.ready("p1")
    child = int((fleet.folder / "p1.child").read_text())
    os.kill(fleet.status("p1")["pid"], signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(child), what="the child to be gone")
    wait_until(lambda: len(fleet.starts("p1")) == 2, what="the second start")
    fleet.ready("p1")
    fleet.end()


def test_children_end_with_a_killed_supervisor(run: Any) -> None:
    fleet = run(p1=GOOD, p2=SLOW)
    fleet.ready("p1", "p2")
    pids = [fleet.status(name)["pid"] for name in ("p1", "p2")]
    fleet.process.kill()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), what="the children to be gone")


def test_a_rolling_restart_has_the_new_one_ready_before_the_old_one_is_asked(run: Any) -> None:
    fleet = run(p1=SLOW, p2=(GOOD, {"beside": False, "last": True}))
    fleet.ready("p1", "p2")
    before = {name: fleet.status(name)["pid"] for name in ("p1", "p2")}
    said, done = fleet.ask(do="restart")
    assert done, said
    assert [line.split(":")[0] for line in said] == ["p1", "p2"]
    assert [slot for _, slot in fleet.starts("p1")] == ["a", "b"]
    assert [slot for _, slot in fleet.starts("p2")] == ["a", "a"]
    after = {name: fleet.status(name) for name in ("p1", "p2")}
    assert all(after[name]["pid"] != before[name] and after[name]["state"] == "ready" for name in before)
    assert all(part["restarts"] == 0 for part in after.values())
    log = (fleet.folder / "p1.log").read_text().split()
    assert log == ["ready", "ready", "ended", "well"]
    fleet.end()


def test_a_successor_that_does_not_start_leaves_the_old_one(run: Any) -> None:
    once = (
        _BEGIN
        + "print('broken' if sys.argv[2] == 'b' else 'ready')\nif sys.argv[2] == 'b': sys.exit(1)\ntime.sleep(60)"
    )
    fleet = run(p1=once)
    fleet.ready("p1")
    pid = fleet.status("p1")["pid"]
    said, done = fleet.ask(do="restart", name="p1")
    assert not done
    assert "the one before stays" in said[0]
    assert any("broken" in line for line in said)
    assert (fleet.status("p1")["pid"], fleet.status("p1")["state"]) == (pid, "ready")
    fleet.end()


def test_only_the_user_may_ask(run: Any) -> None:
    fleet = run(p1=GOOD)
    assert stat.S_IMODE((fleet.folder / "s").stat().st_mode) == 0o600
    fleet.end()


def test_output_is_rotated_by_its_size(tmp_path: Path) -> None:
    output = RotatedOutput(tmp_path / "out.log", 100, 2)
    assert output.feed(b"half") == []
    assert output.feed(b" and half\nrest") == ["half and half"]
    for number in range(20):
        output.feed(b"%020d\n" % number)
    assert output.flush() == []
    output.feed(b"unended")
    assert output.flush() == ["unended"]
    output.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["out.log", "out.log.1", "out.log.2"]
    assert all((tmp_path / name).stat().st_size <= 100 for name in files)
    assert (tmp_path / "out.log").read_text().endswith("unended\n")
