"""The ``Store`` port over SQLAlchemy: what SQLite and Postgres share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from sqlalchemy.engine import Engine

from headway.model.commands import Begun
from headway.model.errors import HeadwayError, StoreUnavailable
from headway.model.states import TERMINAL_STATES
from headway.ports.clock import Clock
from headway.ports.signal import Signal
from headway.ports.store import Reader, Ride, Tx
from headway.store.access import Access, LookUps
from headway.store.dialects import DialectFacts
from headway.store.groups import GroupCommit
from headway.store.link import Link
from headway.store.reader import SqlReader
from headway.store.sequencer import number_committed, number_within
from headway.store.statements import Statements, statements_for
from headway.store.tx import SqlTx

T = TypeVar("T")

_LOOK_UPS = 8


class SqlUnit:
    """One transaction on the writer's connection."""

    def __init__(
        self, link: Link, statements: Statements, now: int, broken: Callable[[], None], *, delivers: bool
    ) -> None:
        self._link = link
        self._statements = statements
        self._broken = broken
        self.tx = SqlTx(link.cursor, statements, now, delivers=delivers)

    def commit(self) -> int:
        """Write the events (numbered, where holding the transaction is the sequencer's lock) and commit."""
        link = self._link
        if not self._statements.facts.round_trips:
            return self._commit(link)
        with link.together():
            return self._commit(link)

    def _commit(self, link: Link) -> int:
        count = number_within(link, self._statements, self.tx)
        link.cursor.execute("COMMIT")
        return count

    def rollback(self) -> None:
        """Give up; a broken connection is thrown away."""
        try:
            self._link.rollback()
        except Exception:  # noqa: BLE001 whatever the driver says, the connection is of no use any more
            self._broken()


class SqlStore:
    """Transactions over one database.

    Args:
        writer: engine with the one connection that writes.
        readers: engine with a pool of connections that only read.
        facts: how the dialect is spoken.
        translate: a driver's exception in our words.
        delivers: whether jobs that become ready are sent to a broker: their deliveries are written with them.
    """

    def __init__(
        self,
        writer: Engine,
        readers: Engine,
        facts: DialectFacts,
        *,
        clock: Clock,
        signal: Signal,
        translate: Callable[[BaseException], BaseException],
        delivers: bool = False,
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._facts = facts
        self._clock = clock
        self._signal = signal
        self._translate = translate
        self._look_ups = LookUps(readers, _LOOK_UPS)
        self._statements = statements_for(writer.dialect, facts)
        self._link: Link | None = None
        self._delivers = delivers
        self._sequencer: Link | None = None
        self._numbering = threading.Lock()
        # For single statements, of one thread at a time; whoever finds it taken goes the way of all.
        self._single: Link | None = None
        self._singly = threading.Lock()
        self._group = GroupCommit(self._open_unit, translate, self._committed)

    @property
    def kind(self) -> str:
        """See ``Store.kind``."""
        return self._facts.name

    @property
    def shared(self) -> bool:
        """See ``Store.shared``."""
        return self._facts.sequencer_lock is not None

    def write(self, work: Callable[[Tx], T]) -> T:
        """See ``Store.write``."""
        answer: T = self._group.write(work)
        return answer

    def write_later(self, work: Callable[[Tx], None]) -> None:
        """See ``Store.write_later``."""
        self._group.write_later(work)

    def stand_by(self, work: Callable[[Tx], T]) -> Ride[T]:
        """See ``Store.stand_by``."""
        return cast("Ride[T]", self._group.stand_by(work))

    def begin_job(self, worker_id: str, job_id: str, actor: str) -> Begun | None:
        """See ``Store.begin_job``."""
        steps = self._statements.steps
        if steps is not None and self._singly.acquire(blocking=False):
            begun = self._in_one(lambda connection: steps.begin(connection, worker_id, job_id, actor))
            if begun is not None:
                self._signal.notify("unnumbered")
            return begun
        return self.write(lambda tx: tx.begin_job(worker_id, job_id, actor))

    def succeed_job(self, job_id: str, fence: int, result: str | None, actor: str) -> bool | None:
        """See ``Store.succeed_job``."""
        steps = self._statements.steps
        # What the attempt logged is there when its end is.
        if steps is None or not self._group.idle or not self._singly.acquire(blocking=False):
            return None
        done = self._in_one(lambda connection: steps.succeed(connection, job_id, fence, result, actor))
        if done:
            self._signal.notify("unnumbered")
        return done

    def _in_one(self, work: Callable[[Any], T]) -> T:
        """Run one statement that commits itself; the lock is held, and let go here."""
        try:
            with self._translated():
                # A connection may have been lost while it was idle: asked once more. If the statement did happen, its
                # repetition says so: the job is not queued any more, or has ended as it was told.
                for last in (self._single is None, True):
                    link = self._single = self._single or Link(self._writer, self._facts)
                    try:
                        return work(link.driver)
                    except Exception as error:
                        self._single = None
                        link.drop()
                        if last or not self._was_lost(error):
                            raise
                raise AssertionError("the loop returns or raises")
        finally:
            self._singly.release()

    def _was_lost(self, error: Exception) -> bool:
        return isinstance(self._translate(error), StoreUnavailable)

    def read(self, work: Callable[[Reader], T]) -> T:
        """See ``Store.read``."""
        with self._translated(), Access(self._readers, self._look_ups) as access:
            return work(SqlReader(access, self._statements, self._clock.now))

    def number_events(self) -> int:
        """See ``Store.number_events``."""
        if self._facts.sequencer_lock is None:
            return 0
        with self._numbering, self._translated():
            link = self._sequencer or Link(self._writer, self._facts)
            self._sequencer = None
            try:
                link.begin()
                numbered = number_committed(link.cursor, self._statements)
                link.cursor.execute("COMMIT")
            except BaseException:
                link.drop()
                raise
            self._sequencer = link
        if not numbered:
            return 0
        self._signal.notify("feed")
        for job_id, state in numbered:
            if state in TERMINAL_STATES:
                self._signal.notify(f"ended:{job_id}")
        return len(numbered)

    def ping(self) -> float:
        """See ``Store.ping``."""
        start = time.perf_counter()
        with self._translated(), self._readers.connect() as connection:
            connection.exec_driver_sql("SELECT 1").scalar()
        return time.perf_counter() - start

    def close(self) -> None:
        """See ``Store.close``."""
        self._group.close()
        self._drop_link()
        for link in (self._sequencer, self._single):
            if link is not None:
                link.drop()
        self._look_ups.close()
        self._writer.dispose()
        self._readers.dispose()

    def _open_unit(self) -> SqlUnit:
        with self._translated():
            now = self._begin()
            assert self._link is not None
            at = self._clock.now() if now is None else now
            return SqlUnit(self._link, self._statements, at, self._drop_link, delivers=self._delivers)

    def _begin(self) -> int | None:
        if self._link is not None:
            try:
                return self._link.begin()
            except Exception:  # noqa: BLE001 it is asked again, and what it says then counts
                # Nothing has happened yet. The database may have been away and be back: it is asked once anew.
                self._drop_link()
        self._link = Link(self._writer, self._facts)
        try:
            return self._link.begin()
        except Exception:
            self._drop_link()
            raise

    def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()

    def _committed(self, tx: SqlTx, count: int) -> None:
        if tx.made_ready:
            self._signal.notify("work")
        # With a sequencer of its own the store only says that there is something to number.
        if count:
            self._signal.notify("feed" if self._facts.sequencer_lock is None else "unnumbered")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except HeadwayError:
            raise
        except Exception as error:
            translated = self._translate(error)
            if translated is error:
                # None of the driver's: a fault of ours must not read as a database that is away.
                raise
            if not isinstance(translated, HeadwayError):
                raise StoreUnavailable(f"the database did not answer: {error}") from error
            raise translated from error
