"""Senders under gevent: what waits for the database lets other greenlets run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.managed.test_sending import run_sender, stored
from tests.required import skip_or_fail

SENDERS = """
from gevent import monkey
monkey.patch_all()
import gevent, time
from tests.managed.sender import add, app

add.delay(0)
counted = [0]
stop = []

def count():
    while not stop:
        counted[0] += 1
        gevent.sleep(0)

counter = gevent.spawn(count)
senders = [gevent.spawn(lambda n=n: [add.delay(n, m).id for m in range(4)]) for n in range(25)]
gevent.joinall(senders, raise_error=True)
ids = [one for sender in senders for one in sender.value]
states = {app._headway.door().get(one).state for one in ids}
stop.append(1)
print(len(set(ids)), *states, counted[0] > len(ids))
"""


@pytest.fixture(autouse=True)
def _needs_gevent() -> None:
    if importlib.util.find_spec("gevent") is None:
        skip_or_fail("no gevent: it is among the development dependencies")


def test_many_greenlets_send_at_once(shared_registry: str, tmp_path: Path) -> None:
    ended = run_sender(SENDERS, shared_registry, tmp_path)
    assert ended.stdout.split() == ["100", "queued", "True"], ended.stderr
    assert len(stored(shared_registry, tmp_path)) == 101


# A lock holds the commit of one greenlet and the look-up of another: the hub goes on.
HELD = """
from gevent import monkey
monkey.patch_all()
import gevent, os, psycopg, time
from tests.managed.sender import add

add.delay(0)
holder = psycopg.connect(os.environ["JOB_REGISTRY_PATH"])
holder.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
sender = gevent.spawn(add.delay, 1)
waiter = gevent.spawn(lambda: add.AsyncResult("nobody").state)
turns, ends = 0, time.monotonic() + 0.5
while time.monotonic() < ends:
    gevent.sleep(0.01)
    turns += 1
waiting = not sender.ready() and not waiter.ready()
holder.rollback()
gevent.joinall([sender, waiter], timeout=20, raise_error=True)
holder.close()
print(waiting, turns > 5, waiter.value)
"""


def test_a_commit_that_waits_holds_nobody_else(shared_registry: str, tmp_path: Path) -> None:
    ended = run_sender(HELD, shared_registry, tmp_path)
    assert ended.stdout.split() == ["True", "True", "PENDING"], ended.stderr
