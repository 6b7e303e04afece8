"""Warm child processes: each slot has at most one, and one that dies takes one attempt with it and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headway.engine.embedded.conversation import ChildFailed, Conversation
from headway.engine.embedded.processes import ChildProcess
from headway.engine.embedded.tracer import stopped
from headway.model.commands import Finish
from headway.model.job import ErrorInfo
from headway.model.states import AttemptOutcome

if TYPE_CHECKING:
    from headway.engine.embedded.attempt import RunningAttempt
    from headway.engine.embedded.settings import EngineSettings
    from headway.ports.clock import Clock
    from headway.ports.jobdoor import JobDoor


class ChildSlot:
    """The child of one slot: started at its first process job, kept warm, replaced when it dies.

    Only the slot's own thread calls it. That thread also started the child, which the kernel ends with that thread.

    Args:
        door: answers what tasks in the child ask.
        clock: for deadlines and log times.
        settings: the engine's.
        memory_limit: the limit of a task in MB, by its name; None where it sets none.
        lost: gives a finish that the child did not live to report what its errbacks send.
        log: a structlog logger.
    """

    def __init__(
        self,
        door: JobDoor,
        clock: Clock,
        settings: EngineSettings,
        memory_limit: Callable[[str], int | None],
        lost: Callable[[RunningAttempt, Finish], Finish],
        log: Any,
    ) -> None:
        self._door = door
        self._clock = clock
        self._settings = settings
        self._memory_limit = memory_limit
        self._lost = lost
        self._log = log
        self._process: ChildProcess | None = None

    @property
    def alive(self) -> bool:
        """Whether a child is up."""
        return self._process is not None

    def run(self, run: RunningAttempt) -> Finish:
        """Run an attempt in the child, to its end or the child's."""
        run.in_child = True
        try:
            was_warm = self._process is not None
            try:
                finish = self._hold(run)
            except ChildFailed as failed:
                if failed.began or not was_warm or run.stop_reason is not None:
                    raise
                # It died while it waited, out of memory say: that is not the next attempt's failure.
                self._end(kill=True)
                finish = self._hold(run)
        except ChildFailed as failed:
            self._end(kill=True)
            return self._lost(run, _ended(run, failed.error))
        except OSError as error:
            # No process could be started, or its pipe broke between two jobs.
            self._end(kill=True)
            info = ErrorInfo(code="child_not_started", message=f"No child process could be used: {error}.")
            return self._lost(run, _ended(run, info))
        except BaseException:
            # The child may still run the task: its next words would be taken for the next attempt's.
            self._end(kill=True)
            raise
        finally:
            run.kill = None
        process = self._process
        if process is not None:
            process.done += 1
            if self._settings.child_max_tasks and process.done >= self._settings.child_max_tasks:
                self._end(kill=False)
        return finish

    def _hold(self, run: RunningAttempt) -> Finish:
        process = self._process
        if process is None:
            process = self._process = ChildProcess(self._settings)
        run.kill = process.wake
        return Conversation(process, run, self._door, self._clock, self._settings, self._limit(run)).hold()

    def close(self) -> None:
        """End the child, kindly first."""
        self._end(kill=False)

    def _limit(self, run: RunningAttempt) -> int | None:
        own = self._memory_limit(run.begun.task)
        return own if own is not None else self._settings.memory_limit_mb

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end(kill=kill)


def _ended(run: RunningAttempt, error: ErrorInfo) -> Finish:
    if run.stop_reason in {"cancel", "timeout", "drain"}:
        return stopped(run)
    begun = run.begun
    return Finish(begun.job_id, begun.fence, AttemptOutcome.FAILED, error=error, begun=begun)
