"""How somebody outside the service process reaches the jobs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import structlog

from headway.config import Settings, load_settings
from headway.model.actor import Actor, Role
from headway.model.errors import DataDirectoryInUse, DataDirectoryMissing
from headway.store.owner import read_owner

if TYPE_CHECKING:
    from headway.bootstrap.database import Opened
    from headway.client.api import JobsApi
    from headway.client.door import RemoteDoor
    from headway.ports.jobdoor import JobDoor
    from headway.service import StoreJobDoor

T = TypeVar("T")
_STARTING_SECONDS: Final = 10.0


def local_actor() -> Actor:
    """The user of this machine who runs this process."""
    return Actor(f"local:{os.getuid()}", Role.ADMIN)


def reach(settings: Settings) -> JobsApi:
    """The verbs of jobs: through the data directory's owner if one lives, else over the store opened here.

    Raises:
        DataDirectoryInUse: the owner does not serve, and did not within some seconds.
    """
    from headway.client import Client

    ends = time.monotonic() + _STARTING_SECONDS
    while True:
        owner = None if settings.on_postgres and not settings.data_dir.exists() else read_owner(settings.data_dir)
        if owner is not None and owner.url is not None:
            return Client(owner.url, owner.token)
        # Only now: with an owner there is no need for the weight of the store.
        from headway.bootstrap.database import open_store, services_of
        from headway.client.local import LocalClient

        try:
            opened = open_store(settings, own=False, upgrade=True)
        except DataDirectoryInUse:
            # Somebody starts up, or has the directory open for a moment.
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
            continue
        where = settings.registry_label if settings.on_postgres else str(settings.data_dir)
        services = replace(services_of(opened, settings, None), serves=False, alone=not settings.on_postgres)
        return LocalClient(services, local_actor(), where=where, close=opened.close, runs_jobs=settings.on_postgres)


def must_be_there(settings: Settings) -> None:
    """Raises ``DataDirectoryMissing`` where there is nothing to read, which opening it would make."""
    file, folder = settings.registry_file, settings.data_dir
    if file is None or file.exists():
        return
    if not folder.exists():
        raise DataDirectoryMissing(f"there is no data directory {folder}")
    # Whoever starts up over it makes the registry in a moment.
    if read_owner(folder) is None:
        raise DataDirectoryMissing(f"nothing was ever stored in the data directory {folder}")


def quiet() -> None:
    """Log no more than warnings in a process that has not set up structlog."""
    # Nobody set up log lines in this process: a script should not be spoken to about every verb.
    if not structlog.is_configured():
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def connect(data_dir: str | os.PathLike[str] | None = None) -> JobsApi:
    """The jobs of a data directory, in this process: its owner if one lives, else the store is opened here.

    It runs no jobs: `headway up` does. Use it as a context manager, or close it, because an opened store is
    nobody else's meanwhile.

    Args:
        data_dir: the data directory; the setting when None.
    """
    quiet()
    options = {"data_dir": os.fspath(data_dir)} if data_dir is not None else {}
    return reach(load_settings(options=options))


def connect_door(settings: Settings | None = None) -> JobDoor:
    """The door for tasks called in a script: to the owner if one lives, else the store is opened for each call."""
    quiet()
    # It has the part of a door that a script needs; begin, beat and finish are an engine's.
    return cast("JobDoor", LooseDoor(settings or load_settings()))


class LooseDoor:
    """A ``JobDoor`` that holds nothing between calls, so that a script never keeps the data directory from others.

    It only submits and reads: begin, beat and finish belong to an engine.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def owner_alive(self) -> bool:
        """Whether somebody will run what is stored."""
        return self._settings.on_postgres or self._remote() is not None

    def _remote(self) -> RemoteDoor | None:
        from headway.client.door import RemoteDoor

        if not self._settings.data_dir.exists():
            return None
        owner = read_owner(self._settings.data_dir)
        return RemoteDoor(owner.url, owner.token) if owner is not None and owner.url is not None else None

    @contextmanager
    def _local(self) -> Iterator[StoreJobDoor]:
        from headway.bootstrap.database import open_store, services_of
        from headway.service import Context, StoreJobDoor

        opened: Opened = open_store(self._settings, own=False, upgrade=True, brief=True)
        try:
            yield StoreJobDoor(Context(services_of(opened, self._settings, None), local_actor()), "script")
        finally:
            opened.close()

    def _call(self, work: Callable[[Any], T]) -> T:
        ends = time.monotonic() + _STARTING_SECONDS
        while True:
            remote = self._remote()
            if remote is not None:
                return work(remote)
            try:
                with self._local() as door:
                    return work(door)
            except DataDirectoryInUse:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.02)

    def submit_many(self, commands: Any, joins: Any = ()) -> Any:
        """See ``JobDoor.submit_many``."""
        return self._call(lambda door: door.submit_many(commands, joins))

    def save_group(self, group_id: str, result_json: str) -> None:
        """See ``JobDoor.save_group``."""
        self._call(lambda door: door.save_group(group_id, result_json))

    def saved_group(self, group_id: str) -> Any:
        """See ``JobDoor.saved_group``."""
        return self._call(lambda door: door.saved_group(group_id))

    def delete_group(self, group_id: str) -> None:
        """See ``JobDoor.delete_group``."""
        self._call(lambda door: door.delete_group(group_id))

    def get(self, job_id: str) -> Any:
        """See ``JobDoor.get``."""
        return self._call(lambda door: door.get(job_id))

    def result_json(self, job_id: str) -> Any:
        """See ``JobDoor.result_json``."""
        return self._call(lambda door: door.result_json(job_id))

    def forget(self, job_id: str) -> None:
        """See ``JobDoor.forget``."""
        self._call(lambda door: door.forget(job_id))

    def cancel(self, job_id: str, reason: str = "") -> Any:
        """Cancel a job (what Celery calls revoke)."""
        return self._call(lambda door: door.cancel(job_id, reason))

    def purge(self, queue: str) -> Any:
        """Cancel what is queued there; how many jobs."""
        return self._call(lambda door: door.purge(queue))

    def wait(self, job_id: str, timeout: float | None) -> Any:
        """See ``JobDoor.wait``: by the owner's stream; without an owner by looking twice a second."""
        from headway.model.states import TERMINAL_STATES

        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            remote = self._remote()
            left = None if ends is None else max(0.0, ends - time.monotonic())
            if remote is not None:
                return remote.wait(job_id, left)
            job = self.get(job_id)
            if job is None or job.state in TERMINAL_STATES or (left is not None and left <= 0):
                return job
            time.sleep(0.5 if left is None else min(0.5, left))
