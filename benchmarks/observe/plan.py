"""What the benchmarks of observing are told, and what they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import plan


@dataclass(frozen=True)
class Plan(plan.Plan):
    """The options of a run.

    Attributes:
        shared: a folder of the whole run.
        brokers: which are used where a figure depends on the broker.
        tasks: how many are "many", observed or as results; None is a million.
        peers_memory: whether Flower, too, is to remember all of them.
    """

    shared: Path = field(default_factory=Path)
    brokers: tuple[str, ...] = ("valkey", "rabbitmq")
    tasks: int | None = None
    peers_memory: bool = False

    @property
    def many(self) -> int:
        """A million tasks, or what was asked for."""
        return self.tasks or self.of(1_000_000, 4_000)

    @property
    def filled(self) -> Path:
        """The data directory with many observed tasks; whoever needs it first makes it."""
        return self.shared / "filled"

    @property
    def is_filled(self) -> Path:
        """A file that is there once ``filled`` is whole."""
        return self.shared / "is-filled"
