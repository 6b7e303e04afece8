"""What the embedded engine is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of one engine.

    Attributes:
        spool_dir: where finishes wait on disk while the database does not answer.
        children_dir: where the pid of each child process is kept, for the next owner to look for.
        threads: how many attempts run at once (JOB_WORKER_THREADS), in threads and children together.
        heartbeat_seconds: between two beats of all attempts.
        cancel_grace_seconds: what a cancelled attempt gets before it is killed, or its thread given up.
        poll_seconds: how often an idle slot looks for work that no signal announced.
        max_lost_slots: that many threads that do not return make ``on_exhausted`` be called; half of the threads,
            and at least one, when None.
        app_spec: what ``-A`` named, for the children; None is Headway's own application.
        imports: further modules that define tasks, for the children.
        workdir: the folder the children start in; the current one when None.
        environment: set for the children, over what they inherit: so that they know the settings of their parent,
            options of its command line included.
        child_max_tasks: a child is replaced after that many attempts; 0 is never.
        memory_limit_mb: resident memory of a child for tasks that set no limit; None is no limit.
        hostname: what ``self.request.hostname`` says.
        beats_idle: whether it beats while nothing runs: others judge by that whether this worker lives.
    """

    spool_dir: Path
    children_dir: Path
    threads: int = 4
    heartbeat_seconds: float = 2.0
    cancel_grace_seconds: float = 10.0
    poll_seconds: float = 1.0
    max_lost_slots: int | None = None
    app_spec: str | None = None
    imports: tuple[str, ...] = field(default=())
    workdir: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    child_max_tasks: int = 0
    memory_limit_mb: int | None = None
    hostname: str = "headway"
    beats_idle: bool = False

    @property
    def exhausted_at(self) -> int:
        """The number of lost slots at which the engine asks to be restarted."""
        return self.max_lost_slots if self.max_lost_slots is not None else max(1, self.threads // 2)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine says of itself: ``lost_slots`` are threads given up that have not returned."""

    running: int
    idle_slots: int
    lost_slots: int
    children: int
    spooled: int
    draining: bool
    store_ok: bool
    finished: int
