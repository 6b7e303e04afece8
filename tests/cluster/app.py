"""The Celery application of the tests: `celery -A tests.cluster.app worker`, configured only by its environment.

Each execution of each task appends one line of JSON to the effects file at its start and one at its end, so that a test
knows what truly happened without asking Celery.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry

from tests.cluster.settings import Cluster

RETRY_SECONDS = 0.05
FOREVER_SECONDS = 600.0


class Recorded(Task):  # type: ignore[type-arg]  # Celery's class takes none at run time
    """A task whose executions are written down, by the process that executes and not by anything of Celery's."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body, with a line before it and a line after it; a killed one has only the first."""
        self._append("start")
        try:
            # Not Task.__call__, which would put an empty request over the one that has the id.
            answer = self.run(*args, **kwargs)
        except Retry:
            self._append("retry")
            raise
        except Reject:
            self._append("reject")
            raise
        except Ignore:
            self._append("ignore")
            raise
        except Exception:
            self._append("failure")
            raise
        self._append("success")
        return answer

    def _append(self, what: str) -> None:
        request = self.request
        line = {
            "id": request.id,
            "name": self.name,
            "what": what,
            "retries": request.retries,
            "root_id": request.root_id,
            "parent_id": request.parent_id,
            "worker": request.hostname,
            "pid": os.getpid(),
            "time": time.time(),
        }
        file = os.open(Cluster.from_environment().effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # One write, so that lines of several processes never mix.
            os.write(file, json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)


def add(self: Task[Any, Any], x: int, y: int) -> int:
    """Succeeds at once."""
    return x + y


def sleepy(self: Task[Any, Any], seconds: float) -> float:
    """Succeeds after so many seconds."""
    time.sleep(seconds)
    return seconds


def fail(self: Task[Any, Any], message: str) -> None:
    """Fails at once."""
    raise ValueError(message)


def flaky(self: Task[Any, Any], times: int) -> int:
    """Is retried so many times and then succeeds."""
    if self.request.retries < times:
        raise self.retry(countdown=RETRY_SECONDS, max_retries=times)
    return self.request.retries


def hopeless(self: Task[Any, Any], times: int) -> None:
    """Is retried so many times and then fails."""
    raise self.retry(exc=ValueError("hopeless"), countdown=RETRY_SECONDS, max_retries=times)


def reject(self: Task[Any, Any]) -> None:
    """Gives its message back to nobody."""
    raise Reject("not for me", requeue=False)


def ignored(self: Task[Any, Any]) -> None:
    """Ends without any state."""
    raise Ignore


def total(self: Task[Any, Any], parts: list[int]) -> int:
    """The body of a chord."""
    return sum(parts)


def forever(self: Task[Any, Any]) -> None:
    """Runs until it is ended from outside."""
    until = time.monotonic() + FOREVER_SECONDS
    while time.monotonic() < until:
        time.sleep(0.05)


def secret(self: Task[Any, Any], *, password: str, token: str) -> int:
    """Has arguments that nobody may see."""
    return len(password) + len(token)


def unicode_huge(self: Task[Any, Any], text: str) -> str:
    """Has a long argument and gives it back."""
    return text


TASKS: tuple[Callable[..., Any], ...] = (
    add,
    sleepy,
    fail,
    flaky,
    hopeless,
    reject,
    ignored,
    total,
    forever,
    secret,
    unicode_huge,
)
# Only a task that acknowledges late can reject: another one has nothing left to reject.
LATE = (reject,)


def make_app(cluster: Cluster) -> Celery:
    """The application for a cluster: in a worker, and in a test that sends tasks to it."""
    app = Celery("cluster", broker=cluster.broker, backend=cluster.results, set_as_current=False)
    app.conf.update({"broker_connection_retry_on_startup": True, **cluster.settings})
    for function in TASKS:
        late: dict[str, Any] = {"acks_late": True} if function in LATE else {}
        register: Any = app.task(name=f"cluster.{function.__name__}", bind=True, base=Recorded, **late)
        register(function)
    return app


app = make_app(Cluster.from_environment())
