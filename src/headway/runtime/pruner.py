"""The pruner: retention at the start and after terminal transitions, no oftener than it makes sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from headway.service import Context, run_retention

_AT_MOST_EVERY: Final = 60.0
_NET_SECONDS: Final = 3600.0

Sweep = Callable[[], object]


class PrunerPart:
    """See ``Part``. Woken by the topic ``ended``; a burst of endings is one sweep a minute.

    Args:
        ctx: the part's context.
        sweeps: further things that grow old (files of populations).
    """

    name = "pruner"
    topic: str | None = "ended"
    rest_seconds = _AT_MOST_EVERY

    def __init__(self, ctx: Context, sweeps: Sequence[Sweep] = ()) -> None:
        self._ctx = ctx
        self._sweeps = tuple(sweeps)
        self._last: float | None = None

    def run_once(self) -> float:
        """Remove what is old; seconds until the next sweep."""
        now = self._ctx.services.clock.monotonic()
        if self._last is not None and now - self._last < _AT_MOST_EVERY:
            return _AT_MOST_EVERY - (now - self._last)
        self._last = now
        run_retention(self._ctx)
        for sweep in self._sweeps:
            sweep()
        return _NET_SECONDS
