"""Time grids of simulations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from headway.pbpk import errors
from headway.pbpk.checks import is_integer, is_number

#: Most points of one grid: keeps a request from asking for more memory than the machine has.
MAX_POINTS = 100_000


def check_end(end: float) -> None:
    """Refuse a last time that no grid can have.

    Raises:
        InvalidSimulation: it is not a finite number above 0.
    """
    if not is_number(end) or end <= 0:
        raise errors.InvalidSimulation(f"The end of a simulation must be a finite time above 0, got {end!r}.")


def check_points(points: int) -> None:
    """Refuse a number of points that no grid can have.

    Raises:
        InvalidSimulation: it is not an integer from 2 to ``MAX_POINTS``.
    """
    if not is_integer(points, 2, MAX_POINTS):
        raise errors.InvalidSimulation(f"A simulation has 2 to {MAX_POINTS} points, got {points!r}.")


def time_grid(end: float, points: int = 500) -> tuple[float, ...]:
    """Evenly spaced times from 0 to ``end``, both included.

    Args:
        end: last time, in the model's time unit, above 0.
        points: how many, at least 2.

    Raises:
        InvalidSimulation: an argument is out of range.
    """
    check_end(end)
    check_points(points)
    return tuple(end * i / (points - 1) for i in range(points))


def dosing_grid(end: float, points: int = 500) -> tuple[float, ...]:
    """Times from 0 to ``end`` that lie closer together at the start, where a dose is absorbed.

    The i-th of n times is ``end * (i / (n - 1)) ** 2``: with 241 points over 48 h, twenty of them lie in the
    first 20 minutes, so that the peak is not cut off, and the tail still has points enough for a half-life.

    Raises:
        InvalidSimulation: an argument is out of range.
    """
    even = time_grid(end, points)
    return (*(end * (time / end) ** 2 for time in even[:-1]), float(end))


def checked_times(times: Sequence[float]) -> list[float]:
    """``times`` as a list, if they are finite, increasing and begin at 0.

    Raises:
        InvalidSimulation: they are not, or there are fewer than 2 or more than ``MAX_POINTS``.
    """
    if not 2 <= len(times) <= MAX_POINTS:
        raise errors.InvalidSimulation(f"A simulation has 2 to {MAX_POINTS} points, got {len(times)}.")
    values = [float(time) for time in times]
    increasing = all(later > earlier for earlier, later in pairwise(values))
    if values[0] != 0 or not math.isfinite(values[-1]) or not increasing:
        raise errors.InvalidSimulation("The times must be finite, increase from one to the next, and begin at 0.")
    return values
