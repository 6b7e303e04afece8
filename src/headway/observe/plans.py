"""What a configuration of Celery's plans: queues that it sends to, entries of beat, limits of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from celery import Celery

from headway.model.redact import storable
from headway.observe.answers import seconds
from headway.observe.facts import SETTINGS, BeatEntry, TaskRule

# Those that hold what `beat_schedule` says and nothing else.
_PLAIN_SCHEDULERS: Final = frozenset({"celery.beat:PersistentScheduler", "celery.beat.PersistentScheduler", ""})


def own_settings(app: Celery) -> dict[str, Any]:
    """Of the application's own configuration the settings that conclusions are drawn from."""
    return {name: getattr(app.conf, name, None) for name in SETTINGS}


def own_rules(app: Celery) -> dict[str, TaskRule]:
    """What is set for each task of the application, its configuration's limits included."""
    soft, hard = seconds(app.conf.task_soft_time_limit), seconds(app.conf.task_time_limit)
    return {
        str(name): TaskRule(
            seconds(task.time_limit) or hard or seconds(task.soft_time_limit) or soft,
            bool(task.acks_late),
        )
        for name, task in app.tasks.items()
    }


def uses_foreign_scheduler(settings: Mapping[str, Any]) -> str | None:
    """The scheduler of beat that keeps its entries elsewhere; None for Celery's own."""
    name = str(settings.get("beat_scheduler") or "")
    return None if name in _PLAIN_SCHEDULERS else storable(name)[:255]


def beat_entries(settings: Mapping[str, Any], app: Celery | None) -> Iterator[BeatEntry]:
    """The entries of ``beat_schedule``.

    Args:
        settings: of an application or as a worker answered.
        app: the application itself, which knows where it sends a task; None where only settings are known.
    """
    schedule = settings.get("beat_schedule")
    if not isinstance(schedule, Mapping):
        return
    for name, entry in schedule.items():
        task = entry.get("task") if isinstance(entry, Mapping) else getattr(entry, "task", None)
        if not isinstance(task, str):
            continue
        options = entry.get("options") if isinstance(entry, Mapping) else getattr(entry, "options", None)
        given = dict(options) if isinstance(options, Mapping) else {}
        queue = _name(given.get("queue"))
        if queue is None and not given.keys() & {"exchange", "routing_key"}:
            queue = _routed_by(app, task) if app is not None else _routed(settings.get("task_routes"), task)
        yield BeatEntry(storable(str(name))[:255], storable(task)[:255], queue)


def _routed_by(app: Celery, task: str) -> str | None:
    try:
        # A task's own `queue` wins over no route; a router may be a function of the user's, which may raise.
        of_task = _name(getattr(app.tasks.get(task), "queue", None))
        options = {"queue": of_task} if of_task is not None else {}
        router: Any = app.amqp.router
        return _name(router.route(options, task).get("queue"))
    except Exception:  # noqa: BLE001 - then it is not known where it goes
        return None


def _routed(routes: object, task: str) -> str | None:
    found = dict(routed_queues(routes))
    # As Celery does it: a whole name before any pattern.
    return found.get(task) or next((queue for pattern, queue in found.items() if fnmatchcase(task, pattern)), None)


def routed_queues(routes: object) -> Iterator[tuple[str, str]]:
    """The (pattern, queue) pairs of ``task_routes`` that can be read; routers that are code cannot."""
    if isinstance(routes, Mapping):
        for pattern, route in routes.items():
            queue = _name(route.get("queue") if isinstance(route, Mapping) else route)
            if queue is not None:
                yield str(getattr(pattern, "pattern", pattern)), queue
    elif isinstance(routes, list | tuple):
        # Two texts may as well be the paths of two routers.
        pair = len(routes) == 2 and isinstance(routes[0], str) and isinstance(routes[1], Mapping)
        for one in [{routes[0]: routes[1]}] if pair else routes:
            yield from routed_queues(one)


def _name(queue: object) -> str | None:
    """A queue's name: the text, or that of kombu's object."""
    name = queue if isinstance(queue, str) else getattr(queue, "name", None)
    return storable(name)[:255] if isinstance(name, str) and name else None


def named_queues(
    own: Mapping[str, Any] | None,
    workers: Sequence[Mapping[str, Any]],
    beat: Iterable[BeatEntry],
    declared: set[str],
) -> dict[str, str]:
    """Queues that a configuration sends to, with where it says so.

    Args:
        own: settings of the application; None without one.
        workers: settings as workers answered: they send tasks too.
        beat: what beat sends.
        declared: the application's own queues (``task_queues``, else the default one).
    """
    found: dict[str, str] = {}
    for entry in beat:
        if entry.queue is not None:
            found.setdefault(entry.queue, f"the beat entry {entry.name}")
    for settings in ([own] if own is not None else []) + list(workers):
        for _, queue in routed_queues(settings.get("task_routes")):
            found.setdefault(queue, "task_routes")
    for queue in declared:
        found.setdefault(queue, "the application's queues")
    return found
