"""Postgres: many processes may share it; the database's own clock decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL, Engine, make_url

from headway.model.errors import InvalidRequest, JobIdTaken, StorageFull, StoreUnavailable
from headway.ports.clock import Clock
from headway.ports.signal import Signal
from headway.store.dialects import POSTGRES
from headway.store.groups import RetryAlone
from headway.store.sqlstore import SqlStore

RV = TypeVar("RV")

_READERS = 8
# A frozen server answers nothing and refuses nothing: its kernel still acknowledges what is sent, so no timeout of TCP
# ends the wait. After this silence another connection is asked for; a server that is only slow accepts it.
SILENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_REACH_SECONDS = 5
_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "headway",
    # A lock held by a frozen process must not freeze this one: the transaction is given up and tried again.
    "options": "-c statement_timeout=60000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000 -c jit=off",
}
# Every statement of the writer finds its rows by a key. Tables that grow from empty to thousands of rows before they
# are first analysed, and a JSON array that is guessed at a hundred rows, lead the planner to read whole tables.
_BY_KEY = {
    **_CONNECT,
    "options": f"{_CONNECT['options']} -c plan_cache_mode=force_generic_plan -c enable_seqscan=off"
    " -c enable_hashjoin=off -c enable_mergejoin=off",
}
# deadlock_detected, serialization_failure, lock_not_available, unique_violation
_TRY_AGAIN = {"40P01", "40001", "55P03", "23505"}
_TAKEN = "23505"
_FULL = {"53100"}


def open_postgres(url: str, *, clock: Clock, signal: Signal, delivers: bool = False) -> SqlStore:
    """Open the database at the URL. The caller has checked the schema.

    Args:
        url: ``postgresql://…``.
        clock: for what is not the database's to say.
        signal: wakes who waits.
        delivers: see ``SqlStore``.
    """
    return SqlStore(
        sa.create_engine(
            # One connection for the group commit, one for the sequencer, one for single statements.
            driver_url(url),
            creator=Connection.opener(url, _BY_KEY),
            pool_size=3,
            max_overflow=0,
            isolation_level="AUTOCOMMIT",
        ),
        postgres_engine(url, read_only=True),
        POSTGRES,
        clock=clock,
        signal=signal,
        translate=translate,
        delivers=delivers,
    )


class Connection(psycopg.Connection[Any]):
    """A connection that is given up when the server neither answers it nor accepts another one."""

    _reach: Callable[[], object] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.direct: set[bytes] = set()
        """Names of the statements that ``DirectStatement`` has prepared on it."""

    @classmethod
    def opener(cls, url: str, options: Mapping[str, Any]) -> Callable[[], Connection]:
        """What opens one: for SQLAlchemy's pools."""
        text = conninfo(url)

        def reach() -> None:
            psycopg.connect(text, **{**options, "connect_timeout": _REACH_SECONDS}).close()

        def open_() -> Connection:
            connection = cls.connect(text, **options)
            connection._reach = reach  # noqa: SLF001 its own
            return connection

        return open_

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_SECONDS, *more: Any, **options: Any) -> RV:
        """See ``psycopg.Connection``. Raises ``OperationalError`` when the server is as good as gone."""
        return super().wait(self._heard(gen), interval, *more, **options)

    def _heard(self, gen: PQGen[RV]) -> PQGen[RV]:
        """The same steps, looked at: each time with nothing to read or write, the wait may be over."""
        ends = time.monotonic() + SILENCE_SECONDS
        try:
            step = next(gen)
            while True:
                ready = yield step
                if not ready and time.monotonic() > ends:
                    self.ask_another()
                if ready or time.monotonic() > ends:
                    ends = time.monotonic() + SILENCE_SECONDS
                step = gen.send(ready)
        except StopIteration as stop:
            value: RV = stop.value
            return value

    def ask_another(self) -> None:
        """Ask for another connection, and give this one up if none is to be had. Raises ``OperationalError`` then."""
        if self._reach is None:
            return
        try:
            self._reach()
        except psycopg.errors.ConnectionTimeout:
            self.close()
            raise psycopg.OperationalError(
                f"it has said nothing for {SILENCE_SECONDS:g} seconds, and accepts no other connection"
            ) from None
        except psycopg.Error:
            # Refused (too many connections, say) is an answer: the server lives.
            return


def driver_url(url: str) -> URL:
    """The URL with our driver named."""
    return make_url(url).set(drivername="postgresql+psycopg")


def conninfo(url: str) -> str:
    """The URL as libpq takes it. Not as a URL: SQLAlchemy writes a space in a password in a way that libpq refuses."""
    given = driver_url(url)
    _, options = given.get_dialect()().create_connect_args(given)
    return make_conninfo("", **options)


def postgres_engine(url: str, *, read_only: bool) -> Engine:
    """An engine; readers commit by themselves, so that a read is one round trip."""
    if read_only:
        return sa.create_engine(
            driver_url(url),
            creator=Connection.opener(url, _CONNECT),
            pool_size=_READERS,
            max_overflow=4,
            pool_pre_ping=True,
            pool_recycle=300,
            isolation_level="AUTOCOMMIT",
        )
    return sa.create_engine(driver_url(url), connect_args=_CONNECT, pool_size=1, max_overflow=0)


def translate(error: BaseException) -> BaseException:
    """What Postgres' exceptions mean for a caller."""
    if isinstance(error, sa.exc.TimeoutError):
        return StoreUnavailable(f"no connection to the database is free: {error}")
    # The way of a job uses the driver's own cursor, the rest comes wrapped by SQLAlchemy.
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if not isinstance(original, psycopg.Error):
        return error
    state = original.sqlstate
    if state in _TRY_AGAIN:
        taken = JobIdTaken(f"the id or key stands for another job ({original})") if state == _TAKEN else None
        return RetryAlone(str(original), taken)
    if isinstance(original, psycopg.DataError):
        return InvalidRequest(
            f"the database cannot store this value ({str(original).strip()})", hint="Text may not hold NUL characters."
        )
    if state in _FULL:
        return StorageFull(f"the disk of the database is full ({original})")
    if isinstance(original, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)):
        # One line: libpq writes a second one, with a tab, for people who read nothing else.
        return StoreUnavailable(f"the database did not answer: {' '.join(str(original).split())}")
    return error
