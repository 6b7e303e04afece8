"""What is printed: rich tables and colours on a terminal only, plain aligned text and JSON otherwise."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from headway.model.canvas import AWAITS_SEND
from headway.model.states import JobState
from headway.model.times import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headway.model.errors import HeadwayError
    from headway.model.job import Attempt, ErrorInfo, Job, Progress, Workflow

SHOWN_WORKFLOW: Final = 100
"""How many jobs of a workflow a page of the command line shows."""

COLOURS: Final = {
    JobState.SCHEDULED: "blue",
    JobState.QUEUED: "cyan",
    JobState.RUNNING: "yellow",
    JobState.RETRY_SCHEDULED: "magenta",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.TIMEOUT: "red",
    JobState.CANCELLED: "bright_black",
}


def on_terminal() -> bool:
    """Whether a person looks at the output."""
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """One line of output, at once (a pipe shows it when it happens)."""
    print(text, flush=True)


def note(text: str) -> None:
    """One line for the person, beside the output (stderr)."""
    print(text, file=sys.stderr, flush=True)


def show_error(error: HeadwayError) -> None:
    """An error as every command prints it."""
    note(f"error [{error.code}]: {error.message}")
    if error.hint:
        note(f"hint: {error.hint}")


def show_json(value: Any) -> None:
    """A value as one indented JSON document."""
    say(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def show_json_line(value: Any) -> None:
    """A value as one line of JSON, for streams."""
    say(json.dumps(value, ensure_ascii=False, default=str))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, colours: Sequence[str] | None = None) -> None:
    """A table.

    Args:
        columns: headings.
        rows: cells as text.
        colours: one per row, used on a terminal.
    """
    cells = [[_one_line(cell) for cell in row] for row in rows]
    if on_terminal():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for index, row in enumerate(cells):
            table.add_row(*(Text(cell) for cell in row), style=colours[index] if colours else None)
        Console(highlight=False).print(table)
        return
    widths = [max(len(line[place]) for line in [list(columns), *cells]) for place in range(len(columns))]
    for line in [list(columns), *cells]:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _one_line(text: str) -> str:
    # A task's own words may hold anything: control characters would drive the terminal.
    return "".join(letter if letter.isprintable() else " " for letter in text)


def clean(text: str) -> str:
    """A line of somebody else's text without what would drive the terminal (tabs stay)."""
    if not on_terminal():
        return text
    return "".join(letter if letter.isprintable() or letter == "\t" else "�" for letter in text)


def moment(at: int | None) -> str:
    """A time for people: UTC, seconds."""
    return "-" if at is None else to_rfc3339(at)[:19].replace("T", " ") + "Z"


def span(seconds: float) -> str:
    """A duration for people: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def took(job: Job) -> str:
    """How long a job has been running, or ran."""
    if job.started_at is None or job.finished_at is None:
        return "-"
    return span((job.finished_at - job.started_at) / 1_000_000)


def progress_words(progress: Progress | None) -> str:
    """A progress for people: ``40/100 solving``."""
    if progress is None:
        return "-"
    share = f"{progress.done:g}" if progress.total is None else f"{progress.done:g}/{progress.total:g}"
    return f"{share} {progress.message}".strip()


def show_jobs(jobs: Sequence[Job]) -> None:
    """Jobs, one a row."""
    show_table(
        ("ID", "STATE", "TASK", "PROGRESS", "SUBMITTED", "TOOK"),
        [
            (job.id, job.state.value, job.task, progress_words(job.progress), moment(job.submitted_at), took(job))
            for job in jobs
        ],
        colours=[COLOURS[job.state] for job in jobs],
    )


def show_job(job: Job, attempts: Sequence[Attempt], workflow: Workflow | None = None) -> None:
    """One job with its attempts, and the workflow that it belongs to."""
    facts = {
        "id": job.id,
        "task": job.task,
        "state": job.state.value,
        "args": json.dumps(job.args, ensure_ascii=False, default=str),
        "kwargs": json.dumps(job.kwargs, ensure_ascii=False, default=str),
        "queue": f"{job.queue}, priority {job.priority}",
        "submitted": f"{moment(job.submitted_at)} by {job.actor or '-'}",
        "due": moment(job.run_at) if job.run_at else None,
        "started": moment(job.started_at),
        "finished": f"{moment(job.finished_at)} after {took(job)}" if job.finished_at else "-",
        "progress": progress_words(job.progress),
        "attempts": f"{job.attempts}, retries allowed {job.max_retries}, rescues {job.rescues}",
        "limit": f"{span(job.timeout_seconds)} an attempt" if job.timeout_seconds else None,
        "cancel": f"asked for at {moment(job.cancel_requested_at)}" if job.cancel_requested_at else None,
        "waits for": _awaited(job),
        "retry of": job.retry_of,
        "labels": ", ".join(f"{name}={value}" for name, value in job.labels.items()) or None,
        "trace": job.traceparent,
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            say(f"{name.ljust(width)}  {_one_line(value)}")
    if attempts:
        say()
        show_table(
            ("ATTEMPT", "FENCE", "WORKER", "BEGAN", "ENDED", "OUTCOME"),
            [
                (
                    str(one.number),
                    str(one.fence),
                    one.worker_id,
                    moment(one.begun_at),
                    moment(one.finished_at),
                    one.outcome.value if one.outcome else "-",
                )
                for one in attempts
            ],
        )
    if workflow is not None and len(workflow.jobs) > 1:
        say()
        _show_workflow(workflow, job.id)
    if job.error is not None:
        say()
        show_job_error(job.error)


def _awaited(job: Job) -> str | None:
    if job.waits_for is None or job.state is not JobState.SCHEDULED:
        return None
    if job.waits_for.startswith(AWAITS_SEND):
        return "the chain that replaced it"
    return f"the jobs of group {job.waits_for}"


def _show_workflow(workflow: Workflow, shown: str) -> None:
    """The jobs of a workflow as a tree: each below the one that sent it."""
    known = {job.id for job in workflow.jobs}
    below: dict[str | None, list[Job]] = {}
    for job in workflow.jobs:
        parent = job.parent_id if job.parent_id in known and job.parent_id != job.id else None
        below.setdefault(parent, []).append(job)
    rows: list[tuple[Job, int]] = []
    # A stack, not recursion: a chain is as deep as it is long.
    stack = [(job, 0) for job in reversed(below.get(None, []))]
    seen: set[str] = set()
    while stack:
        job, depth = stack.pop()
        if job.id not in seen:
            seen.add(job.id)
            rows.append((job, depth))
            stack += [(child, depth + 1) for child in reversed(below.get(job.id, []))]
    show_table(
        ("WORKFLOW", "STATE", "TASK", "TOOK"),
        [
            (f"{'  ' * min(depth, 20)}{'> ' if job.id == shown else ''}{job.id}", job.state.value, job.task, took(job))
            for job, depth in rows
        ],
        colours=[COLOURS[job.state] for job, _ in rows],
    )
    if not workflow.complete:
        say(f"… and more: GET /api/v1/jobs/{shown}/workflow has up to 1,000.")


def show_job_error(error: ErrorInfo) -> None:
    """Why a job failed, with what to do and the traceback of the task."""
    say(f"error [{error.code}]: {clean(error.message)}")
    if error.hint:
        say(f"hint: {clean(error.hint)}")
    if error.traceback:
        for line in error.traceback.rstrip().splitlines():
            say(f"  {clean(line)}")
