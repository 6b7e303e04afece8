"""A managed worker as a process of its own: what ``headway worker`` runs."""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Sequence
from typing import Any

from headway.bootstrap.managed import House, attached_or_attach, needs_shared, node_name
from headway.bootstrap.service import load_managed
from headway.config import Settings
from headway.engine.celery.starting import run_worker
from headway.model.errors import InvalidSettings


def work(
    settings: Settings,
    *,
    app_spec: str | None,
    queues: str | None,
    concurrency: int | None,
    pool: str | None,
    name: str | None,
    loglevel: str | None,
    max_tasks_per_child: int | None,
    max_memory_per_child: int | None,
    more: Sequence[str] = (),
) -> int:
    """Run one worker until a signal ends it; the exit code.

    Args:
        settings: already checked.
        app_spec: the value of ``-A``; None is Headway's own application.
        queues: comma-separated; the application's own if None.
        concurrency: attempts at once; the setting if None.
        pool: ``prefork``, ``threads`` or ``solo``.
        name: of the worker; one of its own if None.
        loglevel: of Celery's log; the setting if None.
        max_tasks_per_child: a child is replaced after that many.
        max_memory_per_child: in KiB: a child above it is replaced after its attempt.
        more: further arguments for ``celery worker``.
    """
    needs_shared(settings)
    settings = settings.model_copy(update={"job_backend": "celery"})
    # What it was told on the command line holds in its children too, and where the application reads settings itself.
    os.environ["JOB_BACKEND"] = "celery"
    os.environ["HEADWAY_DATA_DIR"] = str(settings.data_dir.absolute())
    app: Any = load_managed(app_spec, settings)
    if app.conf.task_always_eager:
        raise InvalidSettings(
            "the application runs its tasks inline (task_always_eager), so a worker would never be given one",
            hint="Unset CELERY_TASK_ALWAYS_EAGER, or task_always_eager of the application.",
            problems=["CELERY_TASK_ALWAYS_EAGER"],
        )
    attachment = attached_or_attach(app, settings)
    assert isinstance(attachment.house, House)
    attachment.house.drain_seconds = settings.drain_seconds
    hostname = node_name(name, queues)
    options = ["--hostname", hostname, "--concurrency", str(concurrency or settings.celery_worker_concurrency)]
    for option, value in (
        ("--queues", queues),
        ("--pool", pool),
        ("--max-tasks-per-child", max_tasks_per_child),
        ("--max-memory-per-child", max_memory_per_child),
    ):
        if value is not None:
            options += [option, str(value)]
    # What workers tell each other at their start and in between is about revoked ids; a cancelled job never begins.
    options += ["--without-mingle", "--without-gossip"]
    options += ["--loglevel", loglevel or settings.celery_log_level, *more]

    def ready() -> None:
        # Celery has taken `sys.stdout` for its log.
        assert sys.__stdout__ is not None
        sys.__stdout__.write(f"Headway worker {hostname} is ready\n")
        sys.__stdout__.flush()

    _outlive_the_reader()
    return run_worker(app, options, ready)


def _outlive_the_reader() -> None:
    """Stay able to end when nobody reads the output any more.

    Celery's handler of SIGTERM writes a line before it does anything: into a pipe without a reader that raises, and the
    worker is deaf from then on. The reader is often the supervisor, whose death is just what the signal tells.
    """
    parent = os.getppid()
    pipes = [number for number in (1, 2) if _is_pipe(number)]
    if not pipes:
        return

    def watch() -> None:
        poll = select.poll()
        for number in pipes:
            poll.register(number, 0)
        poll.poll()  # returns with an error of a pipe: its reader is gone
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in pipes:
            os.dup2(nowhere, number)
        os.close(nowhere)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="headway-output-watch", daemon=True).start()


def _is_pipe(number: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False
