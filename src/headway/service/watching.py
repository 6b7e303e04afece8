"""Whether anybody watches, and until when somebody did: workers are not judged by what nobody listened to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headway.model.observed import ObservedWorker, Observer
from headway.ports.store import Reader
from headway.service.context import Context

_FRESH_MICROSECONDS: Final = 30_000_000


@dataclass(frozen=True, slots=True)
class Watch:
    """Who watches.

    Attributes:
        here: this process does.
        elsewhere: another process over the same database does.
        until: when somebody was last known to watch, UTC microseconds; None where nobody ever was.
        judged_at: the moment of which standings are: now, or the last one at which somebody watched.
    """

    here: bool
    elsewhere: bool
    until: int | None
    judged_at: int

    @property
    def somebody(self) -> bool:
        """Whether anybody watches now."""
        return self.here or self.elsewhere

    def standing(self, worker: ObservedWorker) -> str:
        """As ``ObservedWorker.standing``; ``unknown`` where nobody listens whether it lives."""
        standing = worker.standing(self.judged_at)
        return standing if self.somebody or standing in ("gone", "offline") else "unknown"

    def gone(self, workers: Sequence[ObservedWorker]) -> list[str]:
        """Names of those that are gone or said goodbye."""
        return [one.hostname for one in workers if self.standing(one) in ("gone", "offline")]


def watch_of(ctx: Context, reader: Reader, now: int) -> Watch:
    """Who watches now."""
    services = ctx.services
    if services.cluster is not None:
        return Watch(here=True, elsewhere=False, until=now, judged_at=now)
    observers = reader.observed.observers()
    # Whoever watched over a store that this process has for itself has ended, however lately.
    elsewhere = not services.alone and any(_watches(one, now) for one in observers)
    until = max((one.watermark_at for one in observers), default=None)
    return Watch(here=False, elsewhere=elsewhere, until=until, judged_at=now if elsewhere else min(until or 0, now))


def _watches(observer: Observer, now: int) -> bool:
    return observer.stopped_at is None and now - observer.watermark_at < _FRESH_MICROSECONDS
