"""Situation reports in the making: each in a thread of its own, and what is said when the database says nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final, NamedTuple

from headway.model.errors import HeadwayError, StoreUnavailable
from headway.model.situation import Attention, Figure, Health, Situation, SourceView, TaskMetrics
from headway.ports.clock import Clock
from headway.service.figures import known_before

# More than there are threads that answer requests: half of them may be left behind by a database that is frozen.
_MOST: Final = 64


class Known(NamedTuple):
    """What is kept of a report."""

    at: int
    metrics: TaskMetrics
    figures: Mapping[str, Figure]


class Reports:
    """Makes reports, bounds how many are being made at once, and keeps the figures of the last.

    Args:
        clock: of the process.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._places = threading.BoundedSemaphore(_MOST)
        self._lock = threading.Lock()
        self._begun = 0
        self._last: tuple[int, Known] | None = None

    def begin(self, make: Callable[[], Situation]) -> Future[Situation]:
        """Begin a report; a database that is away is no error, but what the report says.

        Args:
            make: reads the situation; it may raise ``StoreUnavailable``, and may never return.
        """
        answered: Future[Situation] = Future()
        # Who no longer waits may not take the place away from under the thread that fills it.
        answered.set_running_or_notify_cancel()
        if not self._places.acquire(blocking=False):
            answered.set_result(self.away(StoreUnavailable("those who asked before still wait for it")))
            return answered

        with self._lock:
            self._begun += 1
            number = self._begun

        def ask() -> None:
            try:
                report = make()
                self._keep(number, Known(report.at, report.metrics, report.figures))
                answered.set_result(report)
            except StoreUnavailable as error:
                answered.set_result(self.away(error))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                answered.set_exception(error)
            finally:
                self._places.release()

        try:
            threading.Thread(target=ask, name="headway-report", daemon=True).start()
        except RuntimeError:
            self._places.release()
            raise
        return answered

    def away(self, error: HeadwayError) -> Situation:
        """The report while the database does not answer, with the figures of the last report that was made here."""
        return away(error, self._clock.now(), self._last[1] if self._last is not None else None)

    def _keep(self, number: int, known: Known) -> None:
        with self._lock:
            # One that was asked for earlier may be done later; and the clock may be set back between two.
            if self._last is None or number > self._last[0]:
                self._last = number, known


def away(error: HeadwayError, at: int, last: Known | None = None) -> Situation:
    """The report while our own database does not answer: nothing is known of now, and that is what it says.

    Args:
        error: what the database said.
        at: now, UTC microseconds.
        last: of the report before; None where there was none: then the figures are of no known age.
    """
    says = f"Headway's own database does not answer: {error.message.removeprefix(_ALREADY_SAID)}"
    metrics, figures = _NOTHING if last is None else known_before(last.metrics, last.figures)
    return Situation(
        at=at,
        health=Health.UNKNOWN,
        metrics=metrics,
        figures=figures,
        recent=(),
        queues=(),
        workers=(),
        upcoming=(),
        attention=(Attention("database_away", "error", says, error.hint or "Start the database again."),),
        sources=(SourceView("jobs", None if last is None else last.at, complete=False, ok=False, says=says),),
    )


_ALREADY_SAID: Final = "the database did not answer: "
_NAMES: Final = (
    "total_tasks", "active_tasks", "completed_tasks", "failed_tasks", "pending_tasks", "cancelled_tasks",
    "success_rate", "orphaned_tasks", "unresolved_tasks",
)  # fmt: skip
_NOTHING: Final = (
    TaskMetrics(0, 0, 0, 0, 0, 0, None),
    dict.fromkeys(_NAMES, Figure(None, complete=False)),
)
