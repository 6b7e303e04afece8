"""Following one job to its end: its transitions, progress and log, as they come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from headway.cli import screen
from headway.model.errors import ServerUnreachable
from headway.model.states import TERMINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headway.client.api import JobsApi
    from headway.model.job import Job

_STATES: Final = frozenset(state.value for state in TERMINAL_STATES)
_PROGRESS_PAUSE: Final = 2.0


class _Show(Protocol):
    """How what happens is shown."""

    def state(self, data: Mapping[str, Any]) -> None: ...

    def progress(self, data: Mapping[str, Any]) -> None: ...

    def line(self, data: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class _Plain:
    """Lines of text; a progress now and then, so that a file does not fill with it."""

    def __init__(self) -> None:
        self._said = 0.0
        self._pending: str | None = None

    def state(self, data: Mapping[str, Any]) -> None:
        self._flush()
        attempt = f" (attempt {data['attempt']})" if data.get("state") == "running" and data.get("attempt") else ""
        screen.say(f"{data.get('at', '')}  {data.get('state', '')}{attempt}".strip())

    def progress(self, data: Mapping[str, Any]) -> None:
        self._pending = progress_text(data)
        if time.monotonic() - self._said >= _PROGRESS_PAUSE:
            self._flush()

    def line(self, data: Mapping[str, Any]) -> None:
        self._flush()
        screen.say(f"  | {screen.clean(str(data.get('text', '')))}")

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._pending is not None:
            screen.say(f"progress {self._pending}")
            self._pending, self._said = None, time.monotonic()


class _Bar:
    """A bar that stays at the bottom while the log runs above it."""

    def __init__(self, title: str) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
        )
        self._title = title
        self._bar = self._progress.add_task(title, total=None, words="")
        self._progress.start()

    def state(self, data: Mapping[str, Any]) -> None:
        self._progress.update(self._bar, description=f"{self._title} {data.get('state', '')}")

    def progress(self, data: Mapping[str, Any]) -> None:
        self._progress.update(
            self._bar, completed=float(data.get("done") or 0), total=data.get("total"), words=progress_text(data)
        )

    def line(self, data: Mapping[str, Any]) -> None:
        text = screen.clean(str(data.get("text", "")))
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class _JsonLines:
    """One line of JSON an event."""

    def state(self, data: Mapping[str, Any]) -> None:
        screen.show_json_line({"event": data.get("state", "reset"), **data})

    def progress(self, data: Mapping[str, Any]) -> None:
        screen.show_json_line({"event": "progress", **data})

    def line(self, data: Mapping[str, Any]) -> None:
        screen.show_json_line({"event": "log", **data})

    def close(self) -> None:
        return


class _Silent:
    """Nothing: only the end is of interest."""

    def state(self, data: Mapping[str, Any]) -> None:
        return

    progress = line = state

    def close(self) -> None:
        return


def progress_text(data: Mapping[str, Any]) -> str:
    """The data of a progress event for people."""
    done, total = data.get("done") or 0, data.get("total")
    share = f"{done:g}" if total is None else f"{done:g}/{total:g}"
    return screen.clean(f"{share} {data.get('message') or ''}".strip())


def follow(api: JobsApi, job: Job, *, json_lines: bool = False, silent: bool = False) -> Job:
    """Show what happens to a job until it ends.

    Args:
        api: where the job is.
        job: which one.
        json_lines: one JSON line an event instead of text.
        silent: show nothing.

    Returns:
        The job as it ended.

    Raises:
        ServerUnreachable: nothing here would ever run it.
        KeyboardInterrupt: after saying that the job goes on.
    """
    if not api.runs_jobs and job.state not in TERMINAL_STATES:
        raise ServerUnreachable(
            f"Job {job.id} is stored and {job.state}, but no Headway runs for {api.where}, so nobody would run it.",
            hint="Start it with `headway up` (with -A for your own tasks): the job is run then.",
        )
    show: _Show
    if silent:
        show = _Silent()
    elif json_lines:
        show = _JsonLines()
    elif screen.on_terminal():
        show = _Bar(job.task)
    else:
        show = _Plain()
    try:
        _run(api, job.id, show)
    except KeyboardInterrupt:
        show.close()
        screen.note(
            f"\nJob {job.id} goes on. See it again: headway jobs watch {job.id}; stop it: headway jobs cancel {job.id}"
        )
        raise
    finally:
        show.close()
    return api.get(job.id)


def _run(api: JobsApi, job_id: str, show: _Show) -> None:
    last_line = 0
    for event in api.events(job_id):
        if event.event == "log":
            # The stream sends what is new since it was opened; what was lost with a connection is read here.
            if int(event.data.get("id") or 0) > last_line:
                last_line = _lines(api, job_id, last_line, show)
        elif event.event == "progress":
            show.progress(event.data)
        else:
            if event.event in _STATES or event.event == "reset":
                last_line = _lines(api, job_id, last_line, show)
            show.state(event.data)
    _lines(api, job_id, last_line, show)


def _lines(api: JobsApi, job_id: str, after: int, show: _Show) -> int:
    from headway.client.wire import line_json

    while lines := api.logs(job_id, after):
        for line in lines:
            show.line(line_json(line))
        after = lines[-1].id
    return after
