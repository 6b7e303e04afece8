"""Figures: what was measured, how often, and what it should be."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# The first jobs of a run pay for connections, caches and imports.
_START_UP = 0.03


@dataclass(frozen=True)
class Goal:
    """A bound on a figure's median; one of the two is given."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Whether ``value`` keeps the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Figure:
    """One row of a report.

    Attributes:
        name: what was measured.
        unit: of the values.
        values: one per run.
        goal: for the median, where there is one.
        others: CPU cores that processes other than ours used meanwhile, one per run.
        note: what a reader must know beside it.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    goal: Goal | None = None
    others: tuple[float, ...] = ()
    note: str = ""

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the goal; None without one."""
        return None if self.goal is None else self.goal.met(self.median)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of all values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values: nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slope(samples: Sequence[tuple[float, int]], total: int) -> float:
    """Jobs per second of a queue that was filled before.

    Args:
        samples: (seconds, jobs done so far), oldest first.
        total: how many jobs there were.

    Returns:
        The slope from the first sample with 3 % done to the first one with all done.

    Raises:
        ValueError: the samples do not reach the end, or too few of them lie between.
    """
    begun = next((sample for sample in samples if sample[1] >= _START_UP * total), None)
    ended = next((sample for sample in samples if sample[1] >= total), None)
    if begun is None or ended is None:
        raise ValueError(f"only {samples[-1][1] if samples else 0} of {total} jobs were seen to end")
    if ended[0] <= begun[0]:
        raise ValueError("the jobs ended between two looks: take more of them")
    return (ended[1] - begun[1]) / (ended[0] - begun[0])
