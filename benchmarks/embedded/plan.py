"""What the benchmarks of the embedded engine are told."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import plan


@dataclass(frozen=True)
class Plan(plan.Plan):
    """The options of a run.

    Attributes:
        long: also what takes many minutes.
        postgres: also on Postgres, where a benchmark can.
    """

    long: bool = False
    postgres: bool = False
