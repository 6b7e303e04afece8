"""Running the suite in one way, file by file, each in a process and with a time of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.compat.celery_suite.outcomes import EXCEPTIONS, OUTCOMES
from tests.compat.celery_suite.source import FOLDER, sources, suite
from tests.compat.venvs import ROOT
from tests.faults.serving import Server
from tests.servers.own import running_rabbitmq, running_valkey

_PLUGINS: Final = "tests.compat.celery_suite"
# What a test may take that says nothing itself, and what a whole file may take.
TEST_SECONDS: Final = 300
FILE_SECONDS: Final = 2400
_NOTHING_SELECTED: Final = 5


class Way(StrEnum):
    """How the suite's tasks run."""

    PLAIN = "plain"
    MANAGED = "managed"
    EMBEDDED = "embedded"


@dataclass(frozen=True)
class Outcome:
    """What became of one test: passed, failed, skipped, xfailed or xpassed; or missing, when its file ended before it."""

    outcome: str
    seconds: float = 0.0
    runs: int = 0
    text: str = ""

    @property
    def passed(self) -> bool:
        """Whether it passed, at whichever try."""
        return self.outcome == "passed"


@dataclass(frozen=True)
class Place:
    """Servers of one lane, and what the suite's environment says of them."""

    environment: Mapping[str, str]
    marks: str = ""


@contextmanager
def place(way: Way, broker: str, folder: Path, registry: str | None = None) -> Iterator[Place]:
    """The servers that a way needs, empty.

    Args:
        way: embedded takes no broker; its Valkey is the tests' own scratch pad.
        broker: `valkey` or `rabbitmq`; results go to Valkey with both.
        folder: for what the service process writes.
        registry: the URL of an empty database, for the managed way.
    """
    with ExitStack() as stack:
        valkey = stack.enter_context(running_valkey())
        environment = {
            "REDIS_HOST": "127.0.0.1",
            # As their own continuous integration has it: two tests read what the worker logs.
            "WORKER_LOGLEVEL": "INFO",
            "REDIS_PORT": str(valkey.port),
            "TEST_BACKEND": f"redis://127.0.0.1:{valkey.port}/0",
        }
        if way is Way.EMBEDDED:
            # Never dialled: applications are attached before anything could be sent.
            environment["TEST_BROKER"] = "memory://"
        elif broker == "rabbitmq":
            environment["TEST_BROKER"] = stack.enter_context(running_rabbitmq()).url
        else:
            environment["TEST_BROKER"] = valkey.url
        if way is Way.MANAGED:
            assert registry is not None
            environment["JOB_REGISTRY_PATH"] = registry
            settings = {
                "HEADWAY_HEARTBEAT_SECONDS": "2",
                "HEADWAY_LEASE_SECONDS": "10",
                "CELERY_BROKER_URL": environment["TEST_BROKER"],
            }
            service = Server(folder, None, registry=registry, verb="serve", settings=settings)
            stack.enter_context(service)
            service.start()
        yield Place(environment, "" if broker == "rabbitmq" else "not amqp")


def run(
    way: Way,
    tests: Sequence[str],
    where: Place,
    log: Path,
    *,
    python: Path | None = None,
    expected: Sequence[str] = (),
    seconds: float = FILE_SECONDS,
) -> dict[str, Outcome]:
    """Run files or tests of the suite in one process.

    Args:
        way: see `Way`.
        tests: file names, or `file::class::test`, as they are in the suite's folder.
        where: the servers.
        log: what pytest said; beside it the outcomes are kept.
        python: the interpreter; None is the one that runs us.
        expected: tests that are known to fail: they are tried once.
        seconds: after that the process and all of its children are killed.

    Returns:
        What became of each test that began, by its id without the folder.
    """
    outcomes = log.with_suffix(".jsonl")
    outcomes.unlink(missing_ok=True)
    interpreter = Path(sys.executable) if python is None else python
    environment = {
        **os.environ,
        **where.environment,
        "PATH": f"{interpreter.parent}:{os.environ['PATH']}",
        # The sources first, so that the environment needs no installed Headway.
        "PYTHONPATH": os.pathsep.join([sources(), str(ROOT)]),
        OUTCOMES: str(outcomes),
        EXCEPTIONS: json.dumps([f"{FOLDER}/{name}" for name in expected]),
    }
    with log.open("wb") as said:
        process = subprocess.Popen(
            _command(interpreter, way, tests, where.marks),
            cwd=suite(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        with log.open("ab") as said:
            said.write(f"\nended after {seconds:g} seconds\n".encode())
    finally:
        _end_group(process)
    found = _read(outcomes)
    assert found or process.returncode == _NOTHING_SELECTED, (
        f"the suite did not run:\n{log.read_text(errors='replace')[-3000:]}"
    )
    return found


def _command(interpreter: Path, way: Way, tests: Sequence[str], marks: str) -> list[str]:
    command = [str(interpreter), "-m", "pytest", "-q", "-rN", "--tb=short", f"--timeout={TEST_SECONDS}"]
    # Valkey's wheel brings a plugin with fixtures of its own.
    command += [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:valkey",
        "-p",
        "celery.contrib.pytest",
        "-p",
        f"{_PLUGINS}.outcomes",
    ]
    command += [] if way is Way.PLAIN else ["-p", f"{_PLUGINS}.{way}"]
    command += ["-m", marks] if marks else []
    return [*command, *(f"{FOLDER}/{name}" for name in tests)]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    # Pools' children and workers that the suite started are in its group; they must not outlive it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def _read(outcomes: Path) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for line in outcomes.read_text().splitlines() if outcomes.exists() else []:
        said = json.loads(line)
        name = said.pop("test").removeprefix(f"{FOLDER}/")
        found[name] = Outcome("missing", text="it never ended") if said.pop("started", False) else Outcome(**said)
    return found
