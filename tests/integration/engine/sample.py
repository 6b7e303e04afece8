"""The application under test: ordinary Celery tasks, most of them misbehaving on request."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from celery import Celery, shared_task

import headway

app = Celery("sample", set_as_current=False)
OPEN = threading.Event()
"""What `wait_open` waits for, in thread isolation."""
STARTED = threading.Event()


@app.task(name="noop")
def noop():
    return None


@app.task(name="add")
def add(x, y):
    return x + y


@app.task(name="boom")
def boom(text="boom"):
    raise ValueError(text)


@app.task(name="counted", bind=True, max_retries=3)
def counted(self, needed):
    if self.request.retries < needed:
        raise self.retry(countdown=0, exc=ValueError("not yet"))
    return self.request.retries


@app.task(name="automatic", bind=True, autoretry_for=(KeyError,), max_retries=2, default_retry_delay=0)
def automatic(self):
    raise KeyError("missing")


@app.task(name="replaced", bind=True)
def replaced(self, x):
    return self.replace(add.s(x, 100))


@app.task(name="replaced_by_chain", bind=True)
def replaced_by_chain(self):
    return self.replace(add.s(1, 2) | add.s(3))


@app.task(name="submits", bind=True)
def submits(self, n):
    return [add.delay(i, i).id for i in range(n)]


@app.task(name="asks")
def asks(x):
    return add.delay(x, 1).get(timeout=20, disable_sync_subtasks=False)


@app.task(name="failed_for")
def failed_for(job_id):
    return f"errback of {job_id}"


@app.task(name="leaves")
def leaves():
    raise SystemExit(7)


@app.task(name="unstorable")
def unstorable():
    return object()


@app.task(name="states", bind=True)
def states(self):
    self.update_state(state="HALFWAY", meta={"percent": 50})
    STARTED.set()
    OPEN.wait(20)
    return "done"


@app.task(name="wait_open")
def wait_open():
    STARTED.set()
    OPEN.wait(30)
    return "opened"


@app.task(name="until_cancelled")
def until_cancelled(limit=30.0):
    STARTED.set()
    job = headway.current_job()
    ends = time.monotonic() + limit
    while not job.cancelled():
        if time.monotonic() > ends:
            return "never asked"
        time.sleep(0.005)
    return "saw it"


@app.task(name="who", bind=True)
def who(self):
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
def shared_add(x, y):
    return x + y


@app.task(name="pid", isolation="process")
def pid():
    return os.getpid()


@app.task(name="segfaults", isolation="process")
def segfaults():
    ctypes.string_at(0)


@app.task(name="os_exit", isolation="process")
def os_exit(code):
    print("about to leave", flush=True)
    os._exit(code)


@app.task(name="eats", isolation="process", memory_limit_mb=300)
def eats(megabytes):
    kept = [bytearray(os.urandom(1 << 20)) for _ in range(megabytes)]
    time.sleep(30)
    return len(kept)


@app.task(name="sleeps")
def sleeps(seconds):
    headway.current_job().progress(0, 1, "asleep")
    time.sleep(seconds)
    return "awake"


@app.task(name="holds_gil")
def holds_gil(seconds):
    headway.current_job().progress(0, 1, "holding")
    # PyDLL keeps the GIL during the call, as a badly written extension does.
    ctypes.PyDLL(None).sleep(seconds)
    return "let go"


@app.task(name="ignores_sigterm")
def ignores_sigterm(seconds):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    headway.current_job().progress(0, 1, "deaf")
    time.sleep(seconds)


@app.task(name="grandchild")
def grandchild(seconds):
    started = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
    headway.current_job().progress(started.pid, None, "started")
    started.wait()
