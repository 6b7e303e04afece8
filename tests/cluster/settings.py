"""Which cluster: the one description that the workers get by their environment and the test by an argument."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

VARIABLE = "CLUSTER_OF_TESTS"
# On Redis, what a killed worker held comes back when another worker starts, if it was taken longer ago than this, or else
# after up to a hundred seconds: kombu asks at the start and then at every tenth of its rounds of ten seconds. Celery's own
# value is an hour. Tasks that run long or wait for a countdown come back as well: for clusters without such.
BACK_SOON = {"broker_transport_options": {"visibility_timeout": 0.2}}


@dataclass(frozen=True)
class Cluster:
    """A Celery cluster of one test.

    Args:
        broker: the URL of the broker.
        folder: where the workers run, write their logs, and where the effects are.
        results: the URL of the result backend; None is none.
        settings: Celery's settings, as `task_send_sent_event`, `task_track_started`, `result_extended`, `task_acks_late`;
            `BACK_SOON` for what a killed worker held.
    """

    broker: str
    folder: Path
    results: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def effects(self) -> Path:
        """The file to which each execution appends a line at its start and at its end."""
        return self.folder / "effects.jsonl"

    def environment(self) -> dict[str, str]:
        """What a worker of this cluster needs in its environment."""
        described = {
            "broker": self.broker,
            "folder": str(self.folder),
            "results": self.results,
            "settings": self.settings,
        }
        return {VARIABLE: json.dumps(described)}

    @classmethod
    def from_environment(cls) -> Self:
        """The cluster of this process; outside of a worker one that reaches nobody."""
        described = json.loads(os.environ.get(VARIABLE, '{"broker": "memory://", "folder": "/nonexistent"}'))
        return cls(**{**described, "folder": Path(described["folder"])})
