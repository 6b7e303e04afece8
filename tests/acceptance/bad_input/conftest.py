"""One server for all bad input, and the proof after each test that it took no harm."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from headway.client import Client
from headway.model.states import JobState
from tests.acceptance.cli.conftest import Folder

TASKS = """
import ctypes, os, re, time
import headway

@headway.task
def add(a, b=0):
    return a + b

@headway.task
def raises(word):
    raise ValueError(f"no {word}; password=hunter2-hunter2")

@headway.task
def returns_an_object():
    return object()

@headway.task
def returns_nan():
    return {"value": float("nan")}

@headway.task
def exits():
    raise SystemExit(3)

@headway.task(timeout=0.5)
def never_ends(path):
    while not os.path.exists(path):
        time.sleep(0.02)

@headway.task(isolation="process")
def ends_its_process(how):
    if how == "_exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "abort":
        os.abort()

@headway.task(isolation="process", memory_limit_mb=300)
def eats_memory():
    hoard = []
    while True:
        hoard.append(bytearray(8_000_000))
        time.sleep(0.005)

@headway.task(isolation="process", timeout=1)
def computes_for_ever():
    while True:
        pass

@headway.task(isolation="process", timeout=1)
def holds_the_interpreter():
    # One call into C that does not let go of the GIL and takes hours: catastrophic backtracking.
    re.match(r"(a*)*b", "a" * 40)

@headway.task(isolation="process")
def object_in_a_child():
    return object()
"""
SETTINGS = {
    "HEADWAY_HEARTBEAT_SECONDS": "0.2",
    "HEADWAY_LEASE_SECONDS": "2",
    "HEADWAY_CANCEL_GRACE_SECONDS": "0.5",
    "HEADWAY_MAX_PAYLOAD_BYTES": "1048576",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Folder, str]]:
    """A folder whose application is served, and the server's URL."""
    folder = Folder(tmp_path_factory.mktemp("bad-input"))
    (folder.path / "bad.py").write_text(TASKS)
    with folder.start("up", "-A", "bad", "--port", "0", "--workers", "4", env=SETTINGS) as running:
        yield folder, running.ready()
        assert running.said.count("Headway is ready at ") == 1, "the service process died of it"


@pytest.fixture
def folder(served: tuple[Folder, str]) -> Folder:
    return served[0]


@pytest.fixture
def client(served: tuple[Folder, str]) -> Iterator[Client]:
    """A client; afterwards the server still does its work."""
    with Client(served[1]) as client:
        yield client
        assert client.wait(client.submit("bad.add", [1, 2]).id, 30).state is JobState.SUCCEEDED


@pytest.fixture
def http(served: tuple[Folder, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served[1], trust_env=False, timeout=60) as http:
        yield http
