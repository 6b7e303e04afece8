"""Servers that fork after they have sent something: each process has connections of its own, and nothing is mixed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.model.states import JobState
from tests.managed.test_sending import run_sender, stored

# Each child sends and reads while its siblings and its parent do; then it ends as a server's worker does.
FORKS = """
import os, sys, threading
from tests.managed.sender import add, app
{before}
busy = threading.Event()

def keep_sending():
    for number in range(30):
        add.delay(1_000 + number)
        busy.set()

thread = threading.Thread(target=keep_sending)
thread.start()
busy.wait()
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        # Nothing of the parent's connections may be used, closed or collected here.
        results = [add.delay(child, number) for number in range(10)]
        for result in results:
            job = app._headway.door().get(result.id)
            assert job.args == [child, results.index(result)], job
        {end}
    children.append(pid)
thread.join()
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
after = add.delay(7_777)
assert app._headway.door().get(after.id).args == [7_777]
print(codes)
"""


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_children_of_a_server_that_has_sent_something(shared_registry: str, tmp_path: Path, end: str) -> None:
    ended = run_sender(FORKS.format(before="add.delay(0)", end=end), shared_registry, tmp_path)
    assert (ended.returncode, ended.stdout.strip()) == (0, "[0, 0, 0, 0]"), ended.stderr
    jobs = stored(shared_registry, tmp_path)
    mine = sorted(tuple(job.args) for job in jobs[-72:] if len(job.args) == 2)
    assert mine == [(child, number) for child in range(4) for number in range(10)]


LOCKED = """
import os, sys, threading
from tests.managed.sender import add, app
door = app._headway._door
inside = threading.Event()
done = threading.Event()

def opening():
    with door._lock:
        inside.set()
        done.wait()

thread = threading.Thread(target=opening)
thread.start()
inside.wait()
pid = os.fork()
if pid == 0:
    add.delay(1)
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
done.set()
thread.join()
print(code)
"""


def test_a_fork_while_another_thread_opens_the_database(shared_registry: str, tmp_path: Path) -> None:
    ended = run_sender(LOCKED, shared_registry, tmp_path)
    assert ended.stdout.strip() == "0", ended.stderr


POOL = """
import multiprocessing
from tests.managed.sender import add, app

def send(number):
    return add.delay(number, 5).id

def read(job_id):
    return app.AsyncResult(job_id).state

if __name__ == "__main__":
    first = add.delay(99)
    for how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(2) as pool:
            assert pool.map(read, [first.id] * 4) == ["PENDING"] * 4
            print(len(set(pool.map(send, range(10)))))
"""


def test_multiprocessing(shared_registry: str, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(POOL)
    code = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, 'server.py']))"
    ended = run_sender(code, shared_registry, tmp_path)
    assert ended.stdout.split() == ["10", "10"], ended.stderr
    assert all(job.state is JobState.QUEUED for job in stored(shared_registry, tmp_path))


READER = """
import os
from tests.managed.sender import add, app
result = add.delay(1, 1)
pid = os.fork()
if pid == 0:
    # It waits by a signal and a connection of its own.
    try:
        result.get(timeout=0.3)
    except Exception as error:
        os._exit(0 if type(error).__name__ == "TimeoutError" else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert result.state == "PENDING"
result.revoke()
print(result.state)
"""


def test_a_child_that_only_reads(shared_registry: str, tmp_path: Path) -> None:
    ended = run_sender(READER, shared_registry, tmp_path)
    assert ended.stdout.strip() == "REVOKED", ended.stderr
