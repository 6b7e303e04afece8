"""The tasks that come with Headway: real work for a first look, and the question whether a worker works."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any, Final

from headway.engine.current import current_job
from headway.engine.task import task
from headway.model.errors import InvalidRequest

_NUMBERS_PER_STEP: Final = 10_000
MAX_STEPS: Final = 1_000


@task(name="headway.demo")
def demo(steps: int = 100) -> dict[str, Any] | None:
    """Count primes, ten thousand numbers per step.

    Args:
        steps: 1 to 1,000.

    Returns:
        ``up_to`` (exclusive), the number of ``primes`` below it, and the ``largest`` one.
    """
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:  # JSON may bring anything; True is no number
        raise InvalidRequest(f"expected steps to be a whole number from 1 to {MAX_STEPS}, got: {steps!r}")
    job = current_job()
    primes: list[int] = []
    for step in range(steps):
        if job.cancelled():
            return None
        start = step * _NUMBERS_PER_STEP
        _extend(primes, start, start + _NUMBERS_PER_STEP)
        job.progress(step + 1, steps, f"{len(primes):,} primes below {start + _NUMBERS_PER_STEP:,}")
    return {"up_to": steps * _NUMBERS_PER_STEP, "primes": len(primes), "largest": primes[-1]}


@task(name="headway.health_check", bind=True)
def health_check(self: Any) -> dict[str, Any]:
    """Answer from a worker: proof that a queue is consumed and that results come back.

    Returns:
        ``status`` (``healthy``), ``worker`` (True), ``hostname`` of the worker, the ``queue`` that the job came by
        (None where it came by none), and Headway's ``version``.
    """
    request = self.request
    return {
        "status": "healthy",
        "worker": True,
        "hostname": request.hostname or platform.node(),
        "queue": (request.delivery_info or {}).get("routing_key"),
        "version": version("headway"),
    }


def _extend(primes: list[int], start: int, stop: int) -> None:
    """Append the primes of ``start`` to ``stop`` (exclusive) to all smaller ones: a segment of the sieve."""
    sieve = bytearray([1]) * (stop - start)
    if start == 0:
        sieve[0:2] = b"\0\0"
    known = iter(primes) if primes else iter(range(2, int(stop**0.5) + 1))
    for prime in known:
        square = prime * prime
        if square >= stop:
            break
        first = max(square, -(-start // prime) * prime)
        sieve[first - start :: prime] = bytes(len(range(first, stop, prime)))
    primes.extend(start + index for index, is_prime in enumerate(sieve) if is_prime)
