"""The due loop: everything that waits for a time. Scheduled jobs, retries and expiries; wakes at the next instant."""

from __future__ import annotations

from typing import Final

from headway.service import Context, enqueue_due

NET_SECONDS: Final = 1.0
_SOON_SECONDS: Final = 0.002


class DuePart:
    """See ``Part``. Woken by the topic ``due`` when an earlier time came in."""

    name = "due"
    topic: str | None = "due"
    rest_seconds = 0.0

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def run_once(self) -> float:
        """Queue what is due; seconds to the next due instant, but never more than the net."""
        report = enqueue_due(self._ctx)
        if report.next_at is None:
            return NET_SECONDS
        # Asked of the wall clock each time: a clock that is set, either way, is noticed within the net.
        left = (report.next_at - self._ctx.services.clock.now()) / 1_000_000
        return min(max(left, _SOON_SECONDS), NET_SECONDS)
