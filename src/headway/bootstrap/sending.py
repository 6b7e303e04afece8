"""The door of a process that only sends: opened at its first send, and anew in every process that is forked from it."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from headway.bootstrap.reaching import LooseDoor

if TYPE_CHECKING:
    from headway.bootstrap.managed import House


class _Sender:
    """What a process has opened to send: one for all applications with the same settings."""

    def __init__(self, house: House) -> None:
        self.config = house.config
        self.opened, self.door = house.open_sender()
        self.users = 0


class _Senders:
    """Those of this process.

    Attributes:
        inherited: those of the process that this one was forked from. They are its parent's: closing them here, or
            letting them be collected, would speak on the parent's connections.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: list[_Sender] = []
        self.inherited: list[_Sender] = []

    def forked(self) -> None:
        """This process is a forked one: another thread of its parent may hold the lock for ever."""
        self.lock = threading.Lock()
        self.inherited += self.open
        self.open = []

    def take(self, house: House) -> _Sender:
        """The one for these settings, opened if nobody has."""
        with self.lock:
            found = next((one for one in self.open if one.config == house.config), None)
            if found is None:
                found = _Sender(house)
                self.open.append(found)
            found.users += 1
            return found

    def let_go(self, sender: _Sender) -> None:
        """Close it if nobody else uses it."""
        with self.lock:
            sender.users -= 1
            if sender.users or sender not in self.open:
                return
            self.open.remove(sender)
        sender.opened.close()


_senders = _Senders()
os.register_at_fork(after_in_child=_senders.forked)


class ProducerDoor:
    """The part of a ``JobDoor`` that a sending process needs.

    Where the registry is no Postgres, it is the door of a script: its owner by loopback, or the file for a moment.

    Args:
        house: knows the settings.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()
        self._pid = 0
        self._real: Any = None
        self._sender: _Sender | None = None
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _after_fork(me()))

    def after_fork(self) -> None:
        """This process is a forked one: what is here is its parent's."""
        self._lock = threading.Lock()
        self._sender = self._real = None
        self._pid = 0

    def close(self) -> None:
        """Let go of what this process opened; the next call opens it again."""
        with self._lock:
            sender, self._sender = self._sender, None
            self._pid = 0
            if sender is not None:
                _senders.let_go(sender)

    def _door(self) -> Any:
        # A server that forks its workers after it has sent something must not share one connection among them.
        if self._pid == os.getpid():
            return self._real
        with self._lock:
            if self._pid != os.getpid():
                config = self._house.config
                if config.on_postgres:
                    self._sender = _senders.take(self._house)
                    self._real = self._sender.door
                else:
                    self._real = LooseDoor(config)
                self._pid = os.getpid()
        return self._real

    def submit_many(self, commands: Any, joins: Any = ()) -> Any:
        """See ``JobDoor.submit_many``."""
        return self._door().submit_many(commands, joins)

    def save_group(self, group_id: str, result_json: str) -> None:
        """See ``JobDoor.save_group``."""
        self._door().save_group(group_id, result_json)

    def saved_group(self, group_id: str) -> Any:
        """See ``JobDoor.saved_group``."""
        return self._door().saved_group(group_id)

    def delete_group(self, group_id: str) -> None:
        """See ``JobDoor.delete_group``."""
        self._door().delete_group(group_id)

    def get(self, job_id: str) -> Any:
        """See ``JobDoor.get``."""
        return self._door().get(job_id)

    def result_json(self, job_id: str) -> Any:
        """See ``JobDoor.result_json``."""
        return self._door().result_json(job_id)

    def forget(self, job_id: str) -> None:
        """See ``JobDoor.forget``."""
        self._door().forget(job_id)

    def cancel(self, job_id: str, reason: str = "") -> Any:
        """Cancel a job (what Celery calls revoke)."""
        return self._door().cancel(job_id, reason)

    def purge(self, queue: str) -> Any:
        """Cancel what is queued there; how many jobs."""
        return self._door().purge(queue)

    def wait(self, job_id: str, timeout: float | None) -> Any:
        """See ``JobDoor.wait``."""
        return self._door().wait(job_id, timeout)


def _after_fork(door: ProducerDoor | None) -> None:
    if door is not None:
        door.after_fork()
