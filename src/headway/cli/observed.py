"""`headway sitrep`, `tasks`, `workers`, `queues`: what is observed, in the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli import screen
from headway.cli.options import ApiKey, DataDir, Json, Url
from headway.cli.reaching import jobs_api
from headway.cli.values import UsageError, moment_of
from headway.model.evidence import OUR_STATE, CeleryState
from headway.model.observed import ListTasks
from headway.model.states import JobState, states_named

if TYPE_CHECKING:
    from collections.abc import Sequence

_STANDING = {"online": "green", "silent": "yellow", "gone": "red", "offline": "bright_black"}


def sitrep(as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None) -> None:
    """The situation: what runs, waits and failed, what wants attention, and how old each figure is.

    Exits 1 unless the health is ok.
    """
    with jobs_api(data_dir, url, api_key) as api:
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
    since: Annotated[str | None, typer.Option("--since", help="First seen at or after (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option("--until", help="First seen before (RFC 3339).")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Tasks on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Next page: the cursor of the page before.")] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Tasks observed and jobs of ours, newest first; or one of them."""
    now = time.time_ns() // 1000
    query = ListTasks(
        states=_states(state or []),
        name=task,
        queue=queue,
        worker=worker,
        root=root,
        text=text,
        orphaned=orphaned,
        since=moment_of(since, now, "--since") if since else None,
        until=moment_of(until, now, "--until") if until else None,
        limit=limit,
        cursor=cursor,
    )
    with jobs_api(data_dir, url, api_key) as api:
        if task_id is not None:
            found = api.task(task_id)
            _show_one(found, [] if as_json else api.related(task_id), as_json=as_json)
            return
        page = api.tasks(query)
    if as_json:
        screen.show_json(page)
        return
    _show_tasks(page["items"])
    if page["next_cursor"]:
        screen.note(f"More: headway tasks --cursor {page['next_cursor']}")


def _states(names: list[str]) -> tuple[JobState, ...]:
    found: dict[JobState, None] = {}
    for name in names:
        meant = states_named(name)
        if not meant and name.upper() in CeleryState.__members__:
            meant = (OUR_STATE[CeleryState(name.upper())],)
        if not meant:
            known = ", ".join([*JobState, *CeleryState])
            raise UsageError(f"--state: nobody knows the state {name!r}.", hint=f"States are {known}.")
        found.update(dict.fromkeys(meant))
    return tuple(found)


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
        "task": task["name"] or "unknown: only its end was found",
        "state": f"{task['celery_state']} ({task['state']})",
        "args": task["args"],
        "kwargs": task["kwargs"],
        "result": task["result"],
        "queue": task["queue"],
        "worker": task["worker"],
        "retries": str(task["retries"]) if task["retries"] else None,
        "eta": moment(task["eta"]) if task["eta"] else None,
        "took": screen.span(task["runtime_seconds"]) if task["runtime_seconds"] is not None else None,
        "root": task["root_id"] if task["root_id"] != task["id"] else None,
        "parent": task["parent_id"],
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
                    one["note"] or "",
                )
                for one in task["trail"]
            ],
        )
    if task["error"]:
        screen.say()
        screen.say(f"error: {screen.clean(task['error'])}")
        for line in (task["traceback"] or "").rstrip().splitlines():
            screen.say(f"  {screen.clean(line)}")
    others = [one for one in related if one["id"] != task["id"]]
    if others:
        screen.say()
        screen.say("of the same chain, group or chord:")
        _show_tasks(others)


def workers(as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None) -> None:
    """Workers: whether they live, what they run, their pool, versions and clocks."""
    with jobs_api(data_dir, url, api_key) as api:
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
                f"{'-' if one['active'] is None else one['active']}/{one['concurrency'] or '?'}",
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


def _worker_remark(one: dict[str, Any]) -> str:
    if one["orphans"]:
        return f"{one['orphans']} orphaned tasks"
    if one["origin"] == "job":
        return "of this server"
    return "sends no task events" if one["events_enabled"] is False else ""


def queues(as_json: Json = False, data_dir: DataDir = None, url: Url = None, api_key: ApiKey = None) -> None:
    """Queues of the broker: how much waits, since when, and whether it grows."""
    with jobs_api(data_dir, url, api_key) as api:
        items = api.queues()
    if as_json:
        screen.show_json({"items": items})
        return
    show_queues(items)


def show_queues(items: Sequence[dict[str, Any]]) -> None:
    """Queues, one a row."""
    screen.show_table(
        ("QUEUE", "WAITING", "OLDEST", "GROWTH", "CONSUMERS", "SEEN"),
        [
            (
                one["name"],
                "no such queue yet" if not one["exists"] else str(one["depth"]),
                oldest(one),
                "-" if one["growth_per_minute"] is None else f"{one['growth_per_minute']:+.0f}/min",
                "-" if one["consumers"] is None else str(one["consumers"]),
                moment(one["seen_at"]),
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
    age = screen.span(queue["oldest_age_seconds"])
    return age if queue["oldest"] == "exact" else f"at least {age}"
