"""What a verb is given: the adapters behind their ports, the limits, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.model.actor import Actor, Role
from headway.ports.blobs import BlobStore
from headway.ports.catalog import TaskCatalog
from headway.ports.clock import Clock, Ids
from headway.ports.cluster import ClusterView
from headway.ports.codec import Codec
from headway.ports.signal import Signal
from headway.ports.store import Store
from headway.service.endings import Endings
from headway.service.reports import Reports
from headway.service.totals import JobTotals


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and defaults, from the settings. ``default_timeout`` 0 is no timeout."""

    max_payload_bytes: int = 1_048_576
    max_request_bytes: int = 67_108_864
    max_batch: int = 10_000
    max_attempts: int = 100
    max_rescues: int = 3
    default_timeout: float = 0.0
    default_max_retries: int = 0
    default_isolation: str = "thread"
    inline_result_bytes: int = 65_536
    job_retention_seconds: float = 604_800.0
    observed_retention_seconds: float = 604_800.0
    lease_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Services:
    """The adapters that the verbs work with.

    Attributes:
        catalog: None where no application is loaded.
        cluster: the observer of this process; None where none runs.
        runs_jobs: False where this server only watches, and refuses to submit, cancel and run again.
        serves: False where a command reads the store for a moment: what goes on is only known from what is stored.
        alone: such a command has the store for itself: nobody runs jobs or watches now.
    """

    store: Store
    blobs: BlobStore
    signal: Signal
    clock: Clock
    ids: Ids
    codec: Codec
    catalog: TaskCatalog | None = None
    limits: Limits = field(default_factory=Limits)
    endings: Endings = field(default_factory=Endings)
    cluster: ClusterView | None = None
    runs_jobs: bool = True
    serves: bool = True
    alone: bool = False
    job_totals: JobTotals = field(init=False)
    reports: Reports = field(init=False)

    def __post_init__(self) -> None:
        # Frozen: this is the way to set what follows from the rest.
        object.__setattr__(self, "job_totals", JobTotals(self.store, self.clock))
        object.__setattr__(self, "reports", Reports(self.clock))


@dataclass(frozen=True, slots=True)
class Context:
    """One caller of the verbs: who, and under which W3C trace context."""

    services: Services
    actor: Actor
    traceparent: str | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace id of the trace context: 32 hexadecimal digits."""
        return trace_id_of(self.traceparent)


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id inside a ``traceparent`` header (W3C Trace Context), None if it has none."""
    parts = traceparent.split("-") if traceparent else []
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


def system_context(services: Services, part: str) -> Context:
    """The context of one of the long-running parts."""
    return Context(services, Actor(f"system:{part}", Role.ADMIN))
