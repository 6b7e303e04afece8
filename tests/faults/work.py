"""The tasks of the fault tests. Copied into the folder of a run and loaded with `-A work`.

Every body writes to an append-only file when it begins and when it ends: what really happened, apart from what the
registry says.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import chain, chord, group

import headway


def effect(what: str, **more: Any) -> None:
    """One line in one write, so that attempts of several processes do not mix."""
    job = headway.current_job()
    line = {"what": what, "job": job.id, "fence": job.fence, "pid": os.getpid(), "at": time.time(), **more}
    descriptor = os.open(os.environ["FAULT_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


@headway.task
def quick(number: int) -> int:
    effect("begin")
    effect("end")
    return number * 2


@headway.task
def patient(seconds: float) -> str:
    """Works for a while, and stops when it is asked to."""
    effect("begin")
    job = headway.current_job()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        job.progress(seconds - (ends - time.monotonic()), seconds, "working")
        if job.cancelled():
            effect("stopped")
            return "stopped"
        time.sleep(0.02)
    effect("end")
    return "done"


@headway.task(isolation="process")
def computing(seconds: float) -> str:
    """Computes without a pause, in a child."""
    effect("begin")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sum(range(1000))
    effect("end")
    return "computed"


@headway.task(isolation="process")
def with_a_helper(seconds: float) -> str:
    """Starts a process of its own and waits for it."""
    import subprocess

    effect("begin")
    subprocess.run(["sleep", str(seconds)], check=True)
    effect("end")
    return "helped"


@headway.task(bind=True, max_retries=5)
def flaky(self: Any, times: int) -> int:
    """Asks Celery for another try so many times."""
    effect("begin")
    if self.request.retries < times:
        effect("end")
        raise self.retry(countdown=0.05)
    effect("end")
    return int(self.request.retries)


@headway.task
def failing(text: str) -> None:
    """Fails every time; the job's own rule may try again."""
    effect("begin")
    effect("end")
    raise RuntimeError(text)


@headway.task
def step(number: int) -> int:
    effect("begin")
    effect("end")
    return number + 1


@headway.task
def pipeline(number: int) -> str:
    """Sends a chain of three from its body."""
    effect("begin")
    sent = chain(step.s(number), step.s(), step.s()).delay()
    effect("end")
    return str(sent.id)


@headway.task
def part(number: int, path: str) -> int:
    """The even ones are quick, the odd ones work until a file is there."""
    effect("begin")
    while number % 2 and not Path(path).exists():
        time.sleep(0.02)
    effect("end")
    return number


@headway.task(isolation="process")
def part_in_a_child(number: int, path: str) -> int:
    """The same in a child."""
    effect("begin")
    while number % 2 and not Path(path).exists():
        time.sleep(0.02)
    effect("end")
    return number


@headway.task
def total(numbers: list[Any]) -> int:
    """The sum of numbers and of lists of them."""
    effect("begin")
    effect("end")
    return sum(sum(one) if isinstance(one, list) else one for one in numbers)


@headway.task(bind=True)
def fan(self: Any, size: int, path: str) -> Any:
    """Is replaced by two chords, one after the other, with parts in threads and in children."""
    effect("begin")
    effect("end")
    inner = chord([part_in_a_child.s(number, path) for number in range(3)], total.s())
    first = group([*(part.s(number, path) for number in range(size)), inner])
    return self.replace(first | total.s() | group(step.s(), step.s()) | total.s())


@headway.task
def until(path: str) -> str:
    """Works until a file is there."""
    effect("begin")
    job = headway.current_job()
    while not Path(path).exists():
        if job.cancelled():
            effect("stopped")
            return "stopped"
        time.sleep(0.02)
    effect("end")
    return "through"


@headway.task(isolation="process")
def until_in_a_child(path: str) -> str:
    """The same in a child."""
    effect("begin")
    while not Path(path).exists():
        time.sleep(0.02)
    effect("end")
    return "through"


@headway.task(isolation="process")
def crash_in_a_child(how: str) -> None:
    """Ends its process in one of several ways."""
    effect("begin")
    end_process(how)


@headway.task
def crash_in_a_thread(how: str, times: int = 1) -> str:
    """Takes the service process down so many times, then works."""
    effect("begin")
    if headway.current_job().fence <= times:
        end_process(how)
    effect("end")
    return "survived"


def end_process(how: str) -> None:
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
