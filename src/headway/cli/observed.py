"""`headway sitrep`, `tasks`, `workers`, `queues`: what is observed, in the terminal."""

from __future__ import annotations

import ast
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli import screen
from headway.cli.options import ApiKey, DataDir, Json, Url
from headway.cli.reaching import jobs_api
from headway.cli.values import UsageError, past_of
from headway.model.errors import InvalidRequest
from headway.model.observed import TASK_STATES, ListTasks, task_states
from headway.model.sayings import unnamed
from headway.model.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headway.model.sayings import CeleryState

_CHILDREN = 10
_NOTE_CHARS = 120
_STANDING = {"online": "green", "silent": "yellow", "gone": "red", "offline": "bright_black", "unknown": "bright_black"}


def sitrep(as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None) -> None:
    """The situation: what runs, waits and failed, what wants attention, and how old each figure is.

    Exits 1 unless the health is ok.
    """
    with jobs_api(data_dir, url, api_key, only_reads=True) as api:
        report = api.sitrep()
        where = api.where
    if as_json:
        screen.show_json(report)
    else:
        from headway.cli.situation import show

        show(report, where)
    if report["health_status"] != "ok":
        raise typer.Exit(1)


def tasks(
    task_id: Annotated[
        str | None, typer.Argument(help="One task with everything that was said of it.", show_default=False)
    ] = None,
    state: Annotated[list[str] | None, typer.Option("--state", help="Ours (failed) or Celery's (FAILURE).")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Name of the task.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Name of the queue.")] = None,
    worker: Annotated[str | None, typer.Option("--worker", help="Name of the worker.")] = None,
    root: Annotated[str | None, typer.Option("--root", help="Tasks of this chain, group or chord.")] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="In name, arguments, result or error; or how an id begins.")
    ] = None,
    orphaned: Annotated[bool, typer.Option("--orphaned", help="Only tasks begun by workers that are gone.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="First seen at or after (RFC 3339, or 10m for ten minutes ago).")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="First seen before (RFC 3339, or 10m).")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Tasks on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Next page: the cursor of the page before.")] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Tasks observed and jobs of ours, newest first; or one of them."""
    now = time.time_ns() // 1000
    ours, celerys = _states(state or [])
    query = ListTasks(
        states=ours,
        celery_states=celerys,
        name=task,
        queue=queue,
        worker=worker,
        root=root,
        text=text,
        orphaned=orphaned,
        since=past_of(since, now, "--since") if since else None,
        until=past_of(until, now, "--until") if until else None,
        limit=limit,
        cursor=cursor,
    )
    with jobs_api(data_dir, url, api_key, only_reads=True) as api:
        if task_id is not None:
            found = api.task(task_id)
            _show_one(found, [] if as_json else api.related(task_id), as_json=as_json)
            return
        try:
            page = api.tasks(query)
        except InvalidRequest as error:
            # The query is what was written behind the command.
            raise UsageError(error.message, hint=error.hint) from None
    if as_json:
        screen.show_json(page)
        return
    _show_tasks(page["items"])
    if page["next_cursor"]:
        screen.note(f"More: the same again with --cursor {page['next_cursor']}")


def _states(names: list[str]) -> tuple[tuple[JobState, ...], tuple[CeleryState, ...]]:
    try:
        return task_states(names)
    except ValueError as error:
        raise UsageError(
            f"--state: nobody knows the state {error.args[0]!r}.", hint=f"States are {', '.join(TASK_STATES)}."
        ) from None


def _show_tasks(items: Sequence[dict[str, Any]]) -> None:
    screen.show_table(
        ("ID", "STATE", "TASK", "QUEUE", "WORKER", "TOOK", "FIRST SEEN", ""),
        [
            (
                one["id"],
                one["celery_state"],
                one["name"] or "?",
                one["queue"] or "-",
                one["worker"] or "-",
                screen.span(one["runtime_seconds"]) if one["runtime_seconds"] is not None else "-",
                moment(one["at"]),
                _remark(one),
            )
            for one in items
        ],
        colours=[screen.COLOURS[JobState(one["state"])] for one in items],
    )


def _remark(one: dict[str, Any]) -> str:
    if one["orphaned"]:
        return "orphaned: its worker is gone"
    if one["gap"]:
        return "its end may have been missed"
    return "a job of ours" if one["origin"] == "job" else ""


def moment(text: str | None) -> str:
    """A time of an answer for people: UTC, seconds."""
    return "-" if text is None else text[:19].replace("T", " ") + "Z"


def _show_one(task: dict[str, Any], related: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        screen.show_json(task)
        return
    facts = {
        "id": task["id"],
        "task": task["name"] or _nameless(task),
        "state": f"{task['celery_state']} ({task['state']})",
        "args": task["args"],
        "kwargs": task["kwargs"],
        "result": task["result"],
        "queue": task["queue"],
        "worker": task["worker"],
        "retries": "-" if task["retries"] is None else str(task["retries"]),
        "eta": moment(task["eta"]) if task["eta"] else None,
        "took": screen.span(task["runtime_seconds"]) if task["runtime_seconds"] is not None else None,
        "root": task["root_id"] if task["root_id"] != task["id"] else None,
        "parent": task["parent_id"],
        "children": _children(task["children"]),
        "last seen": moment(task["seen_at"]),
        "remark": _remark(task) or None,
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            screen.say(f"{name.ljust(width)}  {screen.clean(str(value))}")
    if task["trail"]:
        screen.say()
        screen.show_table(
            ("SAID", "AT", "BY", "TRY", ""),
            [
                (
                    one["said"].replace("_", " "),
                    (one["at"] or "-").replace("T", " "),
                    one["worker"] or "result backend",
                    "-" if one["retries"] is None else str(one["retries"]),
                    _one_line(one["note"] or ""),
                )
                for one in task["trail"]
            ],
        )
    if task["error"]:
        lines = (task["traceback"] or "").rstrip().splitlines()
        screen.say()
        screen.say("error:" if ends_with(task["traceback"], task["error"]) else f"error: {screen.clean(task['error'])}")
        for line in lines:
            screen.say(f"  {screen.clean(line)}")
    others = [one for one in related if one["id"] != task["id"]]
    if others:
        screen.say()
        screen.say("of the same chain, group or chord:")
        _show_tasks(others)


def _nameless(task: dict[str, Any]) -> str:
    why = unnamed(one["said"] for one in task["trail"])
    return f"unknown: {why}" if why else "unknown"


def _children(ids: Sequence[str]) -> str | None:
    shown = ", ".join(ids[:_CHILDREN])
    return (f"{shown} and {len(ids) - _CHILDREN} more" if len(ids) > _CHILDREN else shown) or None


def _one_line(note: str) -> str:
    """A note of the trail as a cell of a table: all of it stands below, under the error."""
    text = " ".join(note.split())
    return text if len(text) <= _NOTE_CHARS else text[: _NOTE_CHARS - 1] + "…"


def ends_with(traceback: str | None, error: str) -> bool:
    """Whether a traceback ends with the error: ``Oops('no')`` is ``app.Oops: no`` there."""
    name, opens, rest = error.partition("(")
    ends = [error]
    try:
        given = ast.literal_eval(f"({rest}") if opens else ()
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    else:
        # A KeyError shows its key as it is written.
        ends += [name] if given in ((), "") else [f"{name}: {given}", f"{name}: {given!r}"]
    return (traceback or "").rstrip().endswith(tuple(ends))


def workers(as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None) -> None:
    """Workers: whether they live, what they run, their pool, versions and clocks."""
    with jobs_api(data_dir, url, api_key, only_reads=True) as api:
        items = api.workers()
    if as_json:
        screen.show_json({"items": items})
        return
    show_workers(items)


def show_workers(items: Sequence[dict[str, Any]]) -> None:
    """Workers, one a row."""
    screen.show_table(
        ("WORKER", "STANDING", "ACTIVE", "POOL", "QUEUES", "CELERY", "CLOCK", "LAST SEEN", ""),
        [
            (
                one["name"],
                one["standing"],
                busy(one),
                one["pool"] or "-",
                ",".join(one["queues"] or ()) or "-",
                one["version"] or "-",
                "-" if one["clock_skew_seconds"] is None else f"{one['clock_skew_seconds']:+.1f} s",
                moment(one["seen_at"]),
                _worker_remark(one),
            )
            for one in items
        ],
        colours=[_STANDING[one["standing"]] for one in items],
    )


def busy(worker: dict[str, Any]) -> str:
    """What a worker runs and could: what one was running that nobody hears of any more is not what it runs."""
    active = worker["active"]
    if worker["standing"] in ("online", "silent"):
        return f"{'-' if active is None else active}/{worker['concurrency'] or '?'}"
    return f"was running {active}" if active else "-"


def _worker_remark(one: dict[str, Any]) -> str:
    if one["orphans"]:
        return f"{one['orphans']} orphaned tasks"
    if one["origin"] == "job":
        return "of this server"
    return "sends no task events" if one["events_enabled"] is False else ""


queues = typer.Typer(help="Queues: how much waits, since when; pause and resume.", invoke_without_command=True)
Reason = Annotated[str, typer.Option("--reason", help="Why; for the record.")]
Queue = Annotated[str, typer.Argument(help="Name of the queue.", show_default=False)]


@queues.callback()
def list_queues(
    ctx: typer.Context, as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None
) -> None:
    """Queues: how much waits, since when, and whether it grows."""
    if ctx.invoked_subcommand is not None:
        return
    with jobs_api(data_dir, url, api_key, only_reads=True) as api:
        items = api.queues()
    if as_json:
        screen.show_json({"items": items})
        return
    show_queues(items)


@queues.command("pause")
def pause_queue(
    name: Queue, reason: Reason = "", data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None
) -> None:
    """Let nothing of a queue begin; what runs goes on."""
    with jobs_api(data_dir, url, api_key) as api:
        changed = api.pause_queue(name, reason)
    screen.say(f"{name} is paused." if changed else f"{name} was paused already.")


@queues.command("resume")
def resume_queue(
    name: Queue, reason: Reason = "", data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None
) -> None:
    """Let a queue go on."""
    with jobs_api(data_dir, url, api_key) as api:
        changed = api.resume_queue(name, reason)
    screen.say(f"{name} goes on." if changed else f"{name} was not paused.")


def show_queues(items: Sequence[dict[str, Any]]) -> None:
    """Queues, one a row."""
    screen.show_table(
        ("QUEUE", "WAITING", "JOBS", "OLDEST", "GROWTH", "CONSUMERS", "SEEN", "NOTE"),
        [
            (
                one["name"],
                "no such queue yet" if not one["exists"] else "-" if one["depth"] is None else str(one["depth"]),
                "-" if one["jobs"] is None else f"{one['jobs']['waiting']} waiting, {one['jobs']['running']} running",
                oldest(one),
                "-" if one["growth_per_minute"] is None else f"{one['growth_per_minute']:+.0f}/min",
                "-" if one["consumers"] is None else str(one["consumers"]),
                moment(one["seen_at"]),
                "" if one["paused"] is None else f"paused by {one['paused']['actor']} at {moment(one['paused']['at'])}",
            )
            for one in items
        ],
    )


def oldest(queue: dict[str, Any]) -> str:
    """The age of a queue's oldest message, as well as it is known."""
    if not queue["depth"]:
        return "-"
    if queue["oldest_age_seconds"] is None:
        return "unknown"
    if queue["oldest"] != "exact" and not queue["oldest_age_seconds"]:
        # At least nothing.
        return "unknown"
    age = screen.span(queue["oldest_age_seconds"])
    return age if queue["oldest"] == "exact" else f"at least {age}"
