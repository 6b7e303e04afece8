"""What tasks there are: known by the engine, asked by the service before anything is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from headway.model.job import Backoff


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What a registered task says of itself; None where it leaves the choice to the settings."""

    name: str
    queue: str | None = None
    priority: int | None = None
    timeout_seconds: float | None = None
    max_retries: int | None = None
    backoff: Backoff | None = None
    isolation: str | None = None


class TaskCatalog(Protocol):
    """The registered tasks of the application that runs here."""

    def lookup(self, name: str) -> TaskInfo | None:
        """The task, or None when no task of this name is registered."""
        ...

    def names(self) -> list[str]:
        """All registered names, sorted, without Celery's built-in ones."""
        ...

    def check_arguments(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raise ``BadArguments`` if the task could not be called like that (and typing is on for it)."""
        ...
