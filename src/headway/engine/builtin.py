"""The task that comes with Headway: real work for a first look, without any extra."""

from __future__ import annotations

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
