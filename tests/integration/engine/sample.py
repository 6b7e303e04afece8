"""The application under test: ordinary Celery tasks, most of them misbehaving on request."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from celery import Celery, chain, chord, group, shared_task, signature

import headway

app = Celery("sample", set_as_current=False)
OPEN = threading.Event()
"""What `wait_open` waits for, in thread isolation."""
STARTED = threading.Event()


@app.task(name="noop")
def noop() -> Any:
    return None


@app.task(name="add")
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="boom")
def boom(text: Any = "boom") -> Any:
    raise ValueError(text)


@app.task(name="counted", bind=True, max_retries=3)
def counted(self: Any, needed: Any) -> Any:
    if self.request.retries < needed:
        raise self.retry(countdown=0, exc=ValueError("not yet"))
    return self.request.retries


@app.task(name="automatic", bind=True, autoretry_for=(KeyError,), max_retries=2, default_retry_delay=0)
def automatic(self: Any) -> Any:
    raise KeyError("missing")


@app.task(name="replaced", bind=True)
def replaced(self: Any, x: Any) -> Any:
    return self.replace(add.s(x, 100))


@app.task(name="replaced_by_chain", bind=True)
def replaced_by_chain(self: Any) -> Any:
    return self.replace(add.s(1, 2) | add.s(3))


@app.task(name="replaced_by_chain_of", bind=True)
def replaced_by_chain_of(self: Any, *steps: Any) -> Any:
    return self.replace(chain(*[signature(step, app=app) for step in steps]))


@app.task(name="replaced_by_group", bind=True)
def replaced_by_group(self: Any, numbers: Any) -> Any:
    return self.replace(group(add.s(number, 1) for number in numbers))


@app.task(name="xsum")
def xsum(numbers: Any) -> Any:
    return sum(xsum(one) if isinstance(one, list) else one for one in numbers)


@app.task(name="add_up")
def add_up(given: Any, number: Any) -> Any:
    return xsum([given, number])


@app.task(name="replaced_by", bind=True)
def replaced_by(self: Any, given: Any, steps: Any) -> Any:
    return self.replace(chain(as_given.s(given), *[signature(step, app=app) for step in steps]))


@app.task(name="as_given")
def as_given(value: Any) -> Any:
    return value


@app.task(name="headway_retries", job_retries=3)
def headway_retries(value: Any) -> Any:
    return value


@app.task(name="silent", ignore_result=True)
def silent(value: Any) -> Any:
    return value


@app.task(name="adds_to_its_chord", bind=True)
def adds_to_its_chord(self: Any, numbers: Any, lazy: Any = False) -> Any:
    for number in numbers:
        self.add_to_chord(add.s(number, 0), lazy=lazy)
    return 0


@app.task(name="adds_from_a_child", bind=True, isolation="process")
def adds_from_a_child(self: Any, numbers: Any) -> Any:
    # Promised here, and sent by the body's own callback.
    self.add_to_chord(add.s(numbers[0], 0))
    sig = self.add_to_chord(add.s(numbers[1], 0), lazy=True)
    return dict(sig)


@app.task(name="send_it")
def send_it(value: Any) -> Any:
    signature(value, app=app).delay()
    return 0


@app.task(name="xsum_in_child", isolation="process")
def xsum_in_child(numbers: Any) -> Any:
    return sum(numbers)


@app.task(name="sends_a_chord", isolation="process")
def sends_a_chord(numbers: Any) -> Any:
    sent: Any = chord([add_in_child.s(number, 1) for number in numbers], xsum_in_child.s()).delay()
    sent.parent.save()
    return sent.parent.id


@app.task(name="add_in_child", isolation="process")
def add_in_child(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="child_replaced_by_group", bind=True, isolation="process")
def child_replaced_by_group(self: Any, numbers: Any) -> Any:
    return self.replace(group(add_in_child.s(number, 1) for number in numbers))


@app.task(name="submits", bind=True)
def submits(self: Any, n: Any) -> Any:
    return [add.delay(i, i).id for i in range(n)]


@app.task(name="asks")
def asks(x: Any) -> Any:
    return add.delay(x, 1).get(timeout=20, disable_sync_subtasks=False)


@app.task(name="failed_for")
def failed_for(job_id: Any) -> Any:
    return f"errback of {job_id}"


@app.task(name="leaves")
def leaves() -> Any:
    raise SystemExit(7)


@app.task(name="unstorable")
def unstorable() -> Any:
    return object()


@app.task(name="states", bind=True)
def states(self: Any) -> Any:
    self.update_state(state="HALFWAY", meta={"percent": 50})
    STARTED.set()
    OPEN.wait(20)
    return "done"


@app.task(name="wait_open")
def wait_open() -> Any:
    STARTED.set()
    OPEN.wait(30)
    return "opened"


@app.task(name="until_cancelled")
def until_cancelled(limit: Any = 30.0) -> Any:
    STARTED.set()
    job = headway.current_job()
    ends = time.monotonic() + limit
    while not job.cancelled():
        if time.monotonic() > ends:
            return "never asked"
        time.sleep(0.005)
    return "saw it"


@app.task(name="steps")
def steps(count: int) -> int:
    """Say every step and return at once after the last."""
    for step in range(1, count + 1):
        headway.current_job().progress(step, count, f"step {step}")
    return count


@app.task(name="says_odd_things")
def says_odd_things() -> None:
    """Say what no database takes, and fail with it."""
    job = headway.current_job()
    job.progress(1, float("inf"), "one \0\ud800")
    job.progress(float("nan"))
    job.progress(10**400)
    job.log("line \0\ud800")
    raise ValueError("bad \0\ud800")


@app.task(name="misconfigured", isolation="process", memory_limit_mb="lots")
def misconfigured() -> None:
    """Its memory limit is no number, which is seen only when it is about to run."""


@app.task(name="who", bind=True)
def who(self: Any) -> Any:
    job = headway.current_job()
    job.progress(1, 2, "half")
    job.log("first line\nsecond line")
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return {
        "id": job.id,
        "attempt": job.attempt,
        "fence": job.fence,
        "trace": job.traceparent,
        "pid": os.getpid(),
        "parent": self.request.parent_id,
        "retries": self.request.retries,
    }


@shared_task(name="shared_add")
def shared_add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="pid", isolation="process")
def pid() -> Any:
    return os.getpid()


@app.task(name="segfaults", isolation="process")
def segfaults() -> Any:
    ctypes.string_at(0)


@app.task(name="os_exit", isolation="process")
def os_exit(code: Any) -> Any:
    print("about to leave", flush=True)
    os._exit(code)


@app.task(name="eats", isolation="process", memory_limit_mb=300)
def eats(megabytes: Any) -> Any:
    kept = [bytearray(os.urandom(1 << 20)) for _ in range(megabytes)]
    time.sleep(30)
    return len(kept)


@app.task(name="sleeps")
def sleeps(seconds: Any) -> Any:
    headway.current_job().progress(0, 1, "asleep")
    time.sleep(seconds)
    return "awake"


@app.task(name="holds_gil")
def holds_gil(seconds: Any) -> Any:
    headway.current_job().progress(0, 1, "holding")
    # PyDLL keeps the GIL during the call, as a badly written extension does.
    ctypes.PyDLL(None).sleep(seconds)
    return "let go"


@app.task(name="ignores_sigterm")
def ignores_sigterm(seconds: Any) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    headway.current_job().progress(0, 1, "deaf")
    time.sleep(seconds)


@app.task(name="grandchild")
def grandchild(seconds: Any) -> Any:
    started = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
    headway.current_job().progress(started.pid, None, "started")
    started.wait()
