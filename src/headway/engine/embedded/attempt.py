"""One attempt while it runs: what is asked of it, what it says, and what its finish will carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from headway.model.commands import BeatReport, NewLogLine
from headway.model.job import Progress
from headway.model.redact import mask_secrets, storable

if TYPE_CHECKING:
    from headway.model.commands import Begun, NewJoin, Resend, SubmitJob
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor

StopReason = Literal["cancel", "timeout", "superseded", "drain"]

MAX_LOG_LINE = 8_000
MAX_PROGRESS_MESSAGE = 500


class RunningAttempt:
    """A begun job and everything its body says until it ends. It is what ``current_job()`` returns.

    Written by the thread that runs the task, read by the monitor; single assignments and the popping of one token are
    all they share, so no lock is needed.

    Args:
        begun: what the door handed out.
        door: where log lines go.
        clock: for deadlines (monotonic) and log times (wall).
        on_report: called without arguments when there is progress or a custom state to carry.
    """

    __slots__ = (
        "_end_token",
        "_on_report",
        "awaits_send",
        "begun",
        "begun_clock",
        "body_depth",
        "body_returned",
        "broken",
        "children",
        "clock",
        "custom_meta_json",
        "custom_state",
        "deadline",
        "door",
        "failure",
        "grown",
        "held",
        "in_child",
        "joins",
        "kill",
        "part_json",
        "resend",
        "result_json",
        "saw_stop",
        "sends",
        "started",
        "stop_at",
        "stop_reason",
        "unread_custom",
        "unread_progress",
    )

    def __init__(self, begun: Begun, door: JobDoor, clock: Clock, on_report: Callable[[], None] | None = None) -> None:
        self.begun = begun
        self.door = door
        self.clock = clock
        self._on_report = on_report
        self.begun_clock = clock.monotonic()
        self.started = False
        self.deadline: float | None = None
        self.body_depth = 0
        self.body_returned = False
        self.resend: Resend | None = None
        self.awaits_send = False
        self.sends: list[SubmitJob] = []
        self.joins: list[NewJoin] = []
        # Parts that were promised to a chord and have not been sent: job id and the chord's group.
        self.grown: dict[str, str] = {}
        self.part_json: str | None = None
        self.children: list[Any] = []
        self.broken = False
        self.result_json: str | None = None
        self.failure: tuple[BaseException, str] | None = None
        self.custom_state: str | None = None
        self.custom_meta_json: str | None = None
        self.stop_reason: StopReason | None = None
        self.stop_at: float | None = None
        self.saw_stop = False
        self.held = False
        self.in_child = False
        self.unread_progress: Progress | None = None
        self.unread_custom = False
        self.kill: Callable[[], None] | None = None
        self._end_token = [True]

    def start(self, now: float) -> None:
        """A thread takes the attempt up: its time runs from here."""
        self.started = True
        if self.begun.timeout_seconds:
            self.deadline = now + self.begun.timeout_seconds

    def on_news(self, tell: Callable[[], None]) -> None:
        """Say who is told, without arguments, when there is progress or a custom state to carry."""
        self._on_report = tell

    @property
    def id(self) -> str:
        """The job's id."""
        return self.begun.job_id

    @property
    def attempt(self) -> int:
        """The number of this try; the first is 1."""
        return self.begun.attempt

    @property
    def fence(self) -> int:
        """The number under which this attempt runs."""
        return self.begun.fence

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context that came with the job, or None."""
        return self.begun.traceparent

    @property
    def key(self) -> tuple[str, int]:
        """(job id, fence): what names an attempt."""
        return (self.begun.job_id, self.begun.fence)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the job is; see ``CurrentJob.progress``."""
        units = _finite(done)
        if units is None:
            # Nobody can show it; what was said before stays.
            return
        text = storable(mask_secrets(message))[:MAX_PROGRESS_MESSAGE]
        self.unread_progress = Progress(units, None if total is None else _finite(total), text)
        self.tell_news()

    def set_custom_state(self, state: str, meta_json: str | None) -> None:
        """Keep a state and meta of the task's own (``update_state``) for the next beat."""
        self.custom_state = storable(state)
        self.custom_meta_json = None if meta_json is None else storable(meta_json)
        self.unread_custom = True
        self.tell_news()

    def tell_news(self) -> None:
        """Wake whoever carries progress and custom states."""
        if self._on_report is not None:
            self._on_report()

    def log(self, text: str, stream: str = "log") -> None:
        """Add to the job's log; each line of ``text`` is a line of the log."""
        now = self.clock.now()
        lines = [storable(mask_secrets(line))[:MAX_LOG_LINE] for line in text.splitlines() or [""]]
        self.door.log([NewLogLine(self.id, self.fence, now, stream, line) for line in lines])

    def cancelled(self) -> bool:
        """Whether the job should stop; remembers that the task was told."""
        if self.stop_reason is not None:
            self.saw_stop = True
            return True
        return False

    def ask_to_stop(self, reason: StopReason) -> None:
        """Tell the attempt to stop: ``cancelled()`` is True from now on. The first reason stays."""
        if self.stop_reason is None:
            self.stop_at = self.clock.monotonic()
            self.stop_reason = reason
        if self.kill is not None:
            self.kill()

    def claim_end(self) -> bool:
        """True for exactly one caller: that one reports how the attempt ended."""
        try:
            self._end_token.pop()
        except IndexError:
            return False
        return True

    @property
    def ended(self) -> bool:
        """Whether somebody has claimed the end."""
        return not self._end_token

    def has_news(self) -> bool:
        """Whether progress or a custom state waits for a beat."""
        return self.unread_progress is not None or self.unread_custom

    def beat_report(self) -> BeatReport:
        """The attempt's line of the next beat; takes the news with it."""
        progress, self.unread_progress = self.unread_progress, None
        custom, self.unread_custom = self.unread_custom, False
        return BeatReport(
            self.id,
            self.fence,
            progress,
            self.custom_state if custom else None,
            self.custom_meta_json if custom else None,
        )

    def will_be_retried(self) -> bool:
        """Whether the job's own rule has a retry left for a failure of this attempt."""
        return not self.broken and self.begun.retries_used < self.begun.max_retries


def _finite(value: float) -> float | None:
    """The number as a float that can be stored and compared; None for infinities, NaN and what is beyond a float."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_request_id(value: Any) -> str:
    """A task id of any type (Celery accepts UUID objects) as the text it is stored under."""
    return value if isinstance(value, str) else str(value)
