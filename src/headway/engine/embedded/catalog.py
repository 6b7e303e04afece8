"""The registered tasks of an application, as the service asks for them."""

from __future__ import annotations

import inspect
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from headway.model.errors import BadArguments
from headway.model.job import Backoff
from headway.ports.catalog import TaskInfo

if TYPE_CHECKING:
    from celery import Celery


# Celery's own, for backends without joins: messages of producers that are not attached.
_POLLING = frozenset({"celery.chord", "celery.chord_unlock"})


class AppCatalog:
    """The ``TaskCatalog`` port over ``app.tasks``. Reads are cached by task object, so late registrations count.

    Args:
        app: the application whose tasks may be submitted.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._infos: dict[str, tuple[Any, TaskInfo]] = {}
        self._calls: dict[str, tuple[Any, _Call | None]] = {}

    def lookup(self, name: str) -> TaskInfo | None:
        """The task, or None when no task of this name is registered (or it polls a chord, which nothing here does)."""
        task = self._app.tasks.get(name)
        if task is None or name in _POLLING:
            return None
        known = self._infos.get(name)
        if known is None or known[0] is not task:
            known = self._infos[name] = (task, self._describe(name, task))
        return known[1]

    def names(self) -> list[str]:
        """All registered names, sorted, without Celery's built-in ones."""
        return sorted(name for name in self._app.tasks if not name.startswith("celery."))

    def check_arguments(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raise ``BadArguments`` if the task could not be called like that (and typing is on for it)."""
        task = self._app.tasks.get(name)
        call = None if task is None else self._call(name, task)
        if call is None or (not kwargs and call.least <= len(args) <= call.most):
            return
        signature = call.signature
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(
                f"{name} cannot be called with these arguments: {error}.", signature=f"{name}{signature}"
            ) from None

    def _call(self, name: str, task: Any) -> _Call | None:
        known = self._calls.get(name)
        if known is None or known[0] is not task:
            known = self._calls[name] = (task, _call_of(task))
        return known[1]

    def _describe(self, name: str, task: Any) -> TaskInfo:
        timeout = getattr(task, "timeout", None)
        if timeout is None:
            timeout = task.time_limit
        if timeout is None:
            timeout = self._app.conf.task_time_limit
        retries, backoff = getattr(task, "job_retries", None), getattr(task, "job_backoff", None)
        return TaskInfo(
            name=name,
            queue=self._queue(name, task),
            priority=task.priority,
            timeout_seconds=None if timeout is None else float(timeout),
            max_retries=None if retries is None else int(retries),
            backoff=Backoff(**backoff) if isinstance(backoff, dict) else backoff,
            isolation=getattr(task, "isolation", None),
        )

    def _queue(self, name: str, task: Any) -> str | None:
        options = {"queue": task.queue} if getattr(task, "queue", None) else {}
        routed = self._app.amqp.router.route(options, name, (), {}, task)
        queue = routed.get("queue")
        return getattr(queue, "name", queue)


class _Call(NamedTuple):
    """How a task may be called; with ``least`` to ``most`` positional arguments and nothing else it certainly may."""

    signature: inspect.Signature
    least: float
    most: float


def _call_of(task: Any) -> _Call | None:
    if not task.typing:
        return None
    try:
        signature = inspect.signature(task.run)
    except (TypeError, ValueError):
        # A body written in C may have no signature; Celery would not check it either.
        return None
    least = most = 0.0
    for parameter in signature.parameters.values():
        needed = parameter.default is inspect.Parameter.empty
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            least, most = least + needed, most + 1
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            most = inf
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and needed:
            least = inf
    return _Call(signature, least, most)
