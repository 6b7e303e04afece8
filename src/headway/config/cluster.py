"""The processes of `headway cluster`: the table ``[cluster]`` of ``headway.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from headway.config.sources import CLUSTER_TABLE, TOML_FILE
from headway.model.errors import InvalidSettings

API: Final = "api"
"""The name of the part that serves; no group of workers has it."""
POOLS: Final = ("prefork", "threads", "solo")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
_QUEUE = re.compile(r"[^\s,]+")
Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Workers that are alike.

    Attributes:
        name: of the group; its processes are ``NAME-1``, ``NAME-2`` and so on.
        queues: that they take jobs from; empty: all of the application.
        concurrency: attempts at a time of each; None takes CELERY_WORKER_CONCURRENCY.
        pool: how attempts run; None is the application's choice.
        processes: how many workers.
        max_tasks_per_child: attempts after which a child is replaced; None: never.
        max_memory_mb: MiB above which a child is replaced after its attempt; None: never.
    """

    name: str
    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    pool: str | None = None
    processes: int = 1
    max_tasks_per_child: int | None = None
    max_memory_mb: int | None = None

    def members(self) -> tuple[str, ...]:
        """The names of its workers."""
        return tuple(f"{self.name}-{number + 1}" for number in range(self.processes))


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """What runs on this machine.

    Attributes:
        source: the file that says so; None where none does.
        groups: of workers.
        app: value of ``-A``; None is Headway's own application.
        host: to serve at.
        port: to serve at; 0 lets the system choose, None is 8000 or the next free one.
        logs: folder of the logs; None is ``logs`` in the data directory.
        log_max_mb: MiB after which a log is rotated.
        log_backups: rotated parts that are kept of each.
    """

    source: Path | None
    groups: tuple[WorkerGroup, ...] = (WorkerGroup("worker"),)
    app: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    logs: str | None = None
    log_max_mb: int = 10
    log_backups: int = 5


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _queues(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) and _QUEUE.fullmatch(name) for name in value)
    )


_TOP: Final[dict[str, tuple[str, Check]]] = {
    "app": ("a module as for `celery -A`", _text),
    "host": ("a host name or address", _text),
    "port": ("a whole number from 0 to 65535", _whole(0, 65_535)),
    "logs": ("a folder", _text),
    "log_max_mb": ("a whole number of MiB from 1 to 10240", _whole(1, 10_240)),
    "log_backups": ("a whole number from 1 to 1000", _whole(1, 1000)),
}
_GROUP: Final[dict[str, tuple[str, Check]]] = {
    "queues": ("a list of queue names without spaces and commas", _queues),
    "concurrency": ("a whole number from 1 to 1024", _whole(1, 1024)),
    "pool": (f"one of {', '.join(POOLS)}", lambda value: value in POOLS),
    "processes": ("a whole number from 1 to 256", _whole(1, 256)),
    "max_tasks_per_child": ("a whole number, 1 or more", _whole(1, 2**31)),
    "max_memory_mb": ("a whole number of MiB, 1 or more", _whole(1, 2**31)),
}


def load_cluster(folder: Path | None = None) -> ClusterFile:
    """Read ``[cluster]`` of the folder's ``headway.toml``.

    Args:
        folder: the current one when None.

    Returns:
        What runs; without the table a server and one worker of all queues, with ``source`` None.

    Raises:
        InvalidSettings: unknown names and wrong values; the message lists all of them.
    """
    path = (folder or Path.cwd()) / TOML_FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get(CLUSTER_TABLE)
    except FileNotFoundError:
        table = None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong([f"{path} cannot be understood: {' '.join(str(error).split())}"]) from error
    if table is None:
        return ClusterFile(None)
    problems: list[str] = []
    if not isinstance(table, Mapping):
        raise _wrong([f"{CLUSTER_TABLE} ({path}): expected a table, got {table!r}"])
    top = {name: value for name, value in table.items() if name != "workers"}
    values = _checked(top, _TOP, f"[{CLUSTER_TABLE}]", path, problems, beside=("workers",))
    groups = _groups(table.get("workers"), path, problems)
    if problems:
        raise _wrong(problems)
    if groups is not None:
        values["groups"] = groups
    return ClusterFile(path, **values)


def _groups(tables: Any, path: Path, problems: list[str]) -> tuple[WorkerGroup, ...] | None:
    if tables is None:
        return None
    if not isinstance(tables, Mapping) or not all(isinstance(one, Mapping) for one in tables.values()):
        problems.append(f"[{CLUSTER_TABLE}.workers] ({path}): expected a table for each group, got {tables!r}")
        return None
    groups = []
    for name, table in tables.items():
        where = f"[{CLUSTER_TABLE}.workers.{name}]"
        if not _NAME.fullmatch(name) or name == API:
            problems.append(
                f"{where} ({path}): expected a name of up to 32 small letters, digits, - and _, other than {API}"
            )
        values = _checked(table, _GROUP, where, path, problems)
        problems += [
            f"{where} {only} ({path}): expected with pool prefork, got pool {values['pool']}"
            for only in ("max_tasks_per_child", "max_memory_mb")
            if only in values and values.get("pool", "prefork") != "prefork"
        ]
        values["queues"] = tuple(dict.fromkeys(values.get("queues", ())))
        groups.append(WorkerGroup(name, **values))
    # `mail-2` may be the second worker of `mail`, or a group of that name: a request could mean both.
    owner: dict[str, str] = {}
    names = [(group.name, one) for group in groups for one in (group.name, *group.members())]
    problems += [
        f"[{CLUSTER_TABLE}.workers] ({path}): two groups would have a worker called {one}"
        for group_name, one in names
        if owner.setdefault(one, group_name) != group_name
    ]
    return tuple(groups)


def _checked(
    table: Mapping[str, Any],
    known: Mapping[str, tuple[str, Check]],
    where: str,
    path: Path,
    problems: list[str],
    *,
    beside: tuple[str, ...] = (),
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            near = get_close_matches(name, [*known, *beside], n=1)
            problems.append(f"{where} {name} ({path}) is not known" + (f"; did you mean {near[0]}?" if near else ""))
        elif not known[name][1](value):
            problems.append(f"{where} {name} ({path}): expected {known[name][0]}, got {value!r}")
        else:
            values[name] = value
    return values


def _wrong(problems: list[str]) -> InvalidSettings:
    return InvalidSettings(
        "The cluster's file is wrong:\n" + "\n".join(f"  - {problem}" for problem in problems),
        hint="Correct it and try again; docs/how-to/run-a-cluster.md shows a whole one.",
        problems=problems,
    )
