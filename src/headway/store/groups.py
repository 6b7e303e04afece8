"""Group commit: one writer at a time, which commits for everybody who waits.

A thread that wants to write puts its work in a queue. If nobody is writing, it takes the writer's place, runs all
that has queued in one transaction and commits once; otherwise it waits, and its work goes with the next group, as
soon as the running commit returns. There is no timer, and with one caller no other thread is involved at all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from headway.model.errors import HeadwayError, StoreUnavailable
from headway.ports.store import Tx
from headway.store.tx import SqlTx

log = structlog.get_logger("headway.store")

MAX_GROUP = 256
MAX_RIDING = 128
_ROOM_SECONDS = 0.5
RIDE_ALONG_SECONDS = 0.02
_TRIES_ALONE = 4


class RetryAlone(Exception):
    """The group's transaction must be given up; each work may be tried again by itself.

    Args:
        message: what the database said.
        at_last: the error of a work that is refused every time; ``StoreUnavailable`` when None.
    """

    def __init__(self, message: str, at_last: HeadwayError | None = None) -> None:
        super().__init__(message)
        self.at_last = at_last


class Ride:
    """A work that waits for a transaction which makes a job ready, and is committed with it.

    Args:
        group: the writer's place where it waits.
        work: run in that transaction, after what made the job ready.
    """

    __slots__ = ("_group", "landed", "leaving", "result", "work")

    def __init__(self, group: GroupCommit, work: Callable[[Tx], Any]) -> None:
        self._group = group
        self.work = work
        self.result: Any = None
        self.landed = False
        self.leaving: threading.Lock | None = None

    def leave(self) -> Any:
        """Wait no longer; what the work returned if it was committed, None if no transaction took it along."""
        return self._group.leave(self)


class Unit(Protocol):
    """One transaction of an adapter, made by its opener."""

    tx: SqlTx

    def commit(self) -> int:
        """Number the events, commit, and say how many events became visible."""
        ...

    def rollback(self) -> None:
        """Give the transaction up; never raises."""
        ...


class _Item:
    __slots__ = ("error", "finished", "result", "wake", "work")

    def __init__(self, work: Callable[[Tx], Any], *, waits: bool) -> None:
        self.work = work
        self.wake: threading.Lock | None = None
        if waits:
            self.wake = threading.Lock()
            self.wake.acquire()
        self.finished = False
        self.result: Any = None
        self.error: BaseException | None = None

    def finish(self) -> None:
        self.finished = True
        if self.wake is not None:
            self.wake.release()
        elif self.error is not None:
            log.warning("store.deferred_write_failed", error=str(self.error))


class GroupCommit:
    """Runs work in group transactions.

    Args:
        open_unit: begins a transaction. Raises ``StoreUnavailable`` when the database does not answer.
        translate: turns an exception of the driver into one of ours, or into ``RetryAlone``.
        committed: called after each commit with its transaction and the number of events that became visible.
    """

    def __init__(
        self,
        open_unit: Callable[[], Unit],
        translate: Callable[[BaseException], BaseException],
        committed: Callable[[SqlTx, int], None],
    ) -> None:
        self._open_unit = open_unit
        self._translate = translate
        self._committed = committed
        self._mutex = threading.Lock()
        self._waiting: deque[_Item] = deque()
        self._riding: deque[_Item] = deque()
        self._standing_by: deque[Ride] = deque()
        self._aboard: Ride | None = None
        self._room = threading.Event()
        self._room.set()
        self._busy = False
        self._later = threading.Event()
        self._closed = False
        self._flusher = threading.Thread(target=self._flush_later, name="headway-store-flusher", daemon=True)
        self._flusher.start()

    def write(self, work: Callable[[Tx], Any]) -> Any:
        """Run ``work`` and return its value once it is durable."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        item = _Item(work, waits=True)
        assert item.wake is not None
        with self._mutex:
            self._waiting.append(item)
            leads, self._busy = not self._busy, True
        if not leads:
            item.wake.acquire()
        if not item.finished:
            self._lead(item)
        if item.error is not None:
            raise item.error
        return item.result

    def write_later(self, work: Callable[[Tx], None]) -> None:
        """Let ``work`` ride along with the next group; waits while too much of that is queued.

        All that rides is in the next group, before what waits: the lines that an attempt logged are there when
        its finish is. One that logs faster than the disk takes it is slowed down, and nobody else.
        """
        while not self._room.wait(_ROOM_SECONDS) and not self._closed:
            self._later.set()
        with self._mutex:
            self._riding.append(_Item(work, waits=False))
            if len(self._riding) >= MAX_RIDING:
                self._room.clear()
        self._later.set()

    def stand_by(self, work: Callable[[Tx], Any]) -> Ride:
        """Let ``work`` be committed with the next transaction that makes a job ready; whoever called it must leave.

        So an idle worker begins a job in the commit that stores it: one commit and one wake-up less on its way.
        """
        ride = Ride(self, work)
        with self._mutex:
            self._standing_by.append(ride)
        return ride

    def leave(self, ride: Ride) -> Any:
        """See ``Ride.leave``."""
        with self._mutex:
            if ride in self._standing_by:
                self._standing_by.remove(ride)
                return None
            if not ride.landed:
                ride.leaving = threading.Lock()
                ride.leaving.acquire()
        if ride.leaving is not None:
            # Its transaction is being committed at this moment.
            ride.leaving.acquire()
        return ride.result

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is being committed: log lines, say, that must be there before something else is."""
        return not (self._busy or self._riding or self._waiting)

    def close(self) -> None:
        """Commit what is queued and refuse what comes."""
        self._closed = True
        self._later.set()
        self._flusher.join(timeout=10)

    def _flush_later(self) -> None:
        while True:
            self._later.wait()
            self._later.clear()
            if not self._closed:
                # A little patience lets beats and log lines share the commit of a job that waits for one.
                time.sleep(RIDE_ALONG_SECONDS)
            with self._mutex:
                leads, self._busy = not self._busy, True
            if leads:
                self._lead(None)
            if self._closed and not self._waiting and not self._riding:
                return

    def _lead(self, own: _Item | None) -> None:
        """Hold the writer's place until the own work is done, then hand it to somebody who waits."""
        try:
            while own is None or not own.finished:
                group = self._take_group()
                if not group:
                    break
                try:
                    self._run_group(group)
                finally:
                    for item in group:
                        item.finish()
        finally:
            self._hand_over()

    def _take_group(self) -> list[_Item]:
        with self._mutex:
            riding = len(self._riding)
            group = list(self._riding)
            self._riding.clear()
            group += [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP))]
        if riding:
            self._room.set()
        return group

    def _hand_over(self) -> None:
        with self._mutex:
            if self._waiting:
                heir = self._waiting[0].wake
                assert heir is not None
                heir.release()
                return
            self._busy = False
            if self._riding:
                self._later.set()

    def _run_group(self, group: Sequence[_Item]) -> None:
        if len(group) > 1 and self._try_together(group):
            return
        away: HeadwayError | None = None
        for item in group:
            item.result, item.error = None, away
            if away is None:
                # Once the database is away, each would wait for it anew.
                away = self._run_alone(item)

    def _try_together(self, group: Sequence[_Item]) -> bool:
        try:
            unit = self._open_unit()
        except HeadwayError as error:
            for item in group:
                item.error = error
            return True
        try:
            for item in group:
                writes = unit.tx.writes
                try:
                    item.result = item.work(unit.tx)
                except HeadwayError as error:
                    # It refused before it wrote: its neighbours need not suffer.
                    if unit.tx.writes != writes:
                        raise
                    item.error = error
            self._commit(unit, takes_along=True)
        except BaseException as error:
            self._give_up(unit)
            if not isinstance(error, Exception):
                for item in group:
                    item.error = StoreUnavailable("the writing thread was interrupted")
                raise
            gone = self._translate(error)
            if not isinstance(gone, StoreUnavailable):
                return False
            # The database is away: trying each by itself would wait for it once per work.
            for item in group:
                item.error = gone
        return True

    def _run_alone(self, item: _Item) -> HeadwayError | None:
        """Run one work by itself; the error if no transaction could be opened."""
        for turn in range(_TRIES_ALONE):
            try:
                unit = self._open_unit()
            except HeadwayError as error:
                item.error = error
                return error
            try:
                item.result = item.work(unit.tx)
                self._commit(unit, takes_along=turn == 0)
            except BaseException as error:
                self._give_up(unit)
                item.error = self._translate(error)
                if not isinstance(error, Exception):
                    raise
                if isinstance(item.error, RetryAlone):
                    refused = f"the database refused the transaction {turn + 1} times: {error}"
                    item.error = item.error.at_last or StoreUnavailable(refused)
                    continue
                return None
            item.error = None
            return None
        return None

    def _commit(self, unit: Unit, *, takes_along: bool) -> None:
        if takes_along and unit.tx.made_ready:
            with self._mutex:
                ride = self._aboard = self._standing_by.popleft() if self._standing_by else None
            if ride is not None:
                try:
                    ride.result = ride.work(unit.tx)
                except Exception as error:
                    # Whoever made the job ready must not pay for it: again, without it.
                    raise RetryAlone(f"what rode along was refused: {error}") from error
        count = unit.commit()
        ride, self._aboard = self._aboard, None
        if ride is not None:
            self._land(ride)
        self._committed(unit.tx, count)

    def _give_up(self, unit: Unit) -> None:
        unit.rollback()
        ride, self._aboard = self._aboard, None
        if ride is None:
            return
        ride.result = None
        with self._mutex:
            if ride.leaving is None:
                self._standing_by.appendleft(ride)
                return
        self._land(ride)

    def _land(self, ride: Ride) -> None:
        with self._mutex:
            ride.landed = True
            if ride.leaving is not None:
                ride.leaving.release()
