"""The rescuer: takes over the jobs of lost workers, and never in a hurry of its own making."""

from __future__ import annotations

from collections.abc import Callable

from headway.runtime.loop import UnbrokenConnection
from headway.service import Context, rescue_lapsed


class RescuerPart:
    """See ``Part``. It acts only after one lease of unbroken connection, with its own workers renewed first.

    A database that was away, or a machine that slept, leaves every heartbeat old: those of living workers come
    back within a heartbeat, so waiting a lease after the first answer tells the living from the lost.

    Args:
        ctx: the part's context.
        lease_seconds: silence after which a worker is lost.
        renew: beats for this process' own attempts, now.
    """

    name = "rescuer"
    topic: str | None = None
    rest_seconds = 0.0

    def __init__(self, ctx: Context, lease_seconds: float, renew: Callable[[], None]) -> None:
        self._ctx = ctx
        self._lease = lease_seconds
        self._renew = renew
        self._connection = UnbrokenConnection(ctx.services.store.ping, ctx.services.clock.monotonic)

    def run_once(self) -> float:
        """Look for lost workers; seconds until the next look."""
        pause = self._lease / 4
        if self._connection.seconds() < self._lease:
            return pause
        try:
            self._renew()
            rescue_lapsed(self._ctx, silent_for=self._lease)
        except Exception:
            self._connection.broke()
            raise
        return pause
