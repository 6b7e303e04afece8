"""Managed Celery put together: an attached application, its workers' house, and the door of processes that only send."""

from __future__ import annotations

import itertools
import os
import platform
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

import headway
from headway.bootstrap.logging import log_through_celery
from headway.bootstrap.reaching import local_actor, quiet
from headway.bootstrap.sending import ProducerDoor
from headway.config import Settings, load_settings
from headway.engine.celery.attach import ManagedAttachment, attach_managed
from headway.engine.celery.runner import WorkerSettings
from headway.model.actor import Actor, Role
from headway.model.errors import InvalidSettings
from headway.system import SystemClock

if TYPE_CHECKING:
    from headway.bootstrap.database import Opened
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor
    from headway.ports.signal import Signal
    from headway.ports.workerdoor import WorkerDoor
    from headway.service import StoreJobDoor

log = structlog.get_logger("headway.managed")
_WORDS_SECONDS: Final = 0.01
_workers = itertools.count(1)


def release(celery_app: Any) -> None:
    """Close what an attached application has opened in this process to send; it opens it again when it needs it.

    For tests, and for programs that go on for long after their last send.
    """
    from headway.engine.embedded.attach import attachment_of, real_app

    door = getattr(attachment_of(real_app(celery_app)), "_door", None)
    if isinstance(door, ProducerDoor):
        door.close()


def attach(celery_app: Any, settings: Settings | None = None) -> Any:
    """Make a Celery application a managed one: what it sends is recorded, what its workers run is fenced and looked after.

    One line after the application is made, in the module that ``celery -A`` names. Nothing is opened or read yet; the
    settings are read at the first use, from the environment and the working folder.

    Args:
        celery_app: the application.
        settings: instead of what the environment says.

    Returns:
        The application.
    """
    house = House(settings)
    attachment = attach_managed(celery_app, cast("JobDoor", ProducerDoor(house)))
    if attachment.house is None or settings is not None:
        attachment.house = house
    return celery_app


def needs_shared(settings: Settings) -> None:
    """Raise ``InvalidSettings`` where several processes could not share the registry."""
    if not settings.on_postgres:
        raise InvalidSettings(
            f"managed workers are processes of their own, and only one process can use the registry "
            f"{settings.registry_label}",
            hint="Set JOB_REGISTRY_PATH=postgresql://USER:PASSWORD@HOST/DATABASE for the server, the workers and every "
            "process that sends; `headway up` without Celery needs no Postgres.",
            problems=["JOB_REGISTRY_PATH"],
        )


class House:
    """See ``WorkerHouse``.

    Args:
        settings: read when they are first needed if None.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._opened: Opened | None = None
        self._inherited: Opened | None = None
        self._clock = SystemClock()
        self._ends = threading.Event()
        self._pipe: tuple[int, int] | None = None
        self.drain_seconds: float | None = None

    @property
    def config(self) -> Settings:
        """The settings of this process."""
        if self._settings is None:
            self._settings = load_settings()
        return self._settings

    @property
    def clock(self) -> Clock:
        """See ``WorkerHouse.clock``."""
        return self._clock

    def check(self) -> None:
        """See ``WorkerHouse.check``."""
        needs_shared(self.config)

    def settings(self, hostname: str, facts: dict[str, object]) -> WorkerSettings:
        """See ``WorkerHouse.settings``."""
        config = self.config
        # A node name may come back after a crash, with attempts of its last life still running under it.
        # A process may run several workers, of several applications, under one name.
        number = next(_workers)
        again = f"-{number}" if number > 1 else ""
        worker_id = f"{hostname}-{os.getpid()}{again}"
        own = {"host": socket.gethostname(), "pid": os.getpid(), "version": headway.__version__}
        return WorkerSettings(
            worker_id=worker_id[-255:],
            spool_dir=Path(config.data_dir) / "spool",
            heartbeat_seconds=config.heartbeat_seconds,
            cancel_grace_seconds=config.cancel_grace_seconds,
            drain_seconds=self.drain_seconds,
            facts={**own, **facts},
        )

    def open(self, worker_id: str, on_cancel: Callable[[], None]) -> WorkerDoor:
        """See ``WorkerHouse.open``."""
        log_through_celery()
        opened = self._open_store(None)
        self._opened = opened
        # A process may run one worker after another.
        ends = self._ends = threading.Event()
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        self._pipe = (read_end, write_end)
        signal = opened.signal
        for name, body in (
            ("cancels", lambda: _watch_cancels(ends, signal, on_cancel)),
            ("words", lambda: _pass_on(ends, read_end, signal)),
        ):
            threading.Thread(target=body, name=f"headway-{name}", daemon=True).start()
        return self._door(opened, worker_id)

    def open_child(self, worker_id: str) -> WorkerDoor:
        """See ``WorkerHouse.open_child``."""
        from headway.store.word_pipe import PipeSignal

        assert self._pipe is not None
        # What the parent had open is the parent's: never closed here, nor collected, which might speak on its connections.
        self._inherited = self._opened
        self._opened = self._open_store(PipeSignal(self._pipe[1], self._conninfo()))
        return self._door(self._opened, worker_id)

    def close(self) -> None:
        """See ``WorkerHouse.close``."""
        self._ends.set()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def open_sender(self) -> tuple[Opened, StoreJobDoor]:
        """A store for a process that sends, with its door."""
        from headway.service import Context, StoreJobDoor

        quiet()
        opened = self._open_store(None)
        services = replace(_services(opened, self.config), serves=False)
        return opened, StoreJobDoor(Context(services, local_actor()), "sender")

    def _conninfo(self) -> str:
        from headway.store.postgres import conninfo

        return conninfo(self.config.registry_url)

    def _open_store(self, signal: Signal | None) -> Opened:
        from headway.bootstrap.database import open_store

        needs_shared(self.config)
        # In a child the main process has looked at the schema a moment ago.
        checked = signal is not None
        return open_store(self.config, own=False, upgrade=True, delivers=True, signal=signal, checked=checked)

    def _door(self, opened: Opened, worker_id: str) -> WorkerDoor:
        from headway.service import Context
        from headway.service.workerdoor import StoreWorkerDoor

        services = _services(opened, self.config)
        # A message that somebody else sent may be as large as their broker allows.
        services = replace(services, limits=replace(services.limits, max_payload_bytes=self.config.max_request_bytes))
        return StoreWorkerDoor(Context(services, Actor(f"worker:{worker_id}", Role.OPERATOR)), worker_id)


def _watch_cancels(ends: threading.Event, signal: Signal, on_cancel: Callable[[], None]) -> None:
    while not ends.is_set():
        ticket = signal.ticket("cancel")
        if signal.wait("cancel", ticket, 5.0):
            on_cancel()


def _pass_on(ends: threading.Event, read_end: int, signal: Signal) -> None:
    """Say to others what the children said, many words at a time."""
    rest = b""
    while not ends.is_set():
        try:
            data = os.read(read_end, 65_536)
        except OSError:
            return
        if not data:
            return
        *words, rest = (rest + data).split(b"\n")
        for word in set(words):
            signal.notify(word.decode())
        # This process is its worker's bottleneck: it is not woken for every word.
        ends.wait(_WORDS_SECONDS)


def _services(opened: Opened, settings: Settings) -> Any:
    from headway.bootstrap.database import services_of

    # No catalog: an application may send tasks that only another one knows.
    return services_of(opened, settings, None)


def attached_or_attach(app: Any, settings: Settings) -> ManagedAttachment:
    """The attachment of an application, attached now if its own module has not done so."""
    from headway.engine.embedded.attach import attachment_of, real_app

    real = real_app(app)
    found = attachment_of(real)
    if not isinstance(found, ManagedAttachment):
        attach(real, settings)
        found = attachment_of(real)
    assert isinstance(found, ManagedAttachment)
    house = House(settings)
    found.house = house
    found.use(cast("JobDoor", ProducerDoor(house)))
    return found


def node_name(name: str | None, queues: str | None) -> str:
    """A worker's node name: its own on this machine, and telling."""
    if name:
        return name if "@" in name else f"{name}@{platform.node() or 'host'}"
    part = (queues or "worker").replace(",", "-")
    return f"{part}-{os.getpid()}@{platform.node() or 'host'}"
