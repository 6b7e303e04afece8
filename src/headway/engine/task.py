"""``headway.task``: Celery's decorator under our name, and the application it uses where nobody configured one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import celery
import celery._state

from headway.engine.embedded.attach import attach
from headway.model.errors import EngineNotAvailable

if TYPE_CHECKING:
    from headway.model.job import Backoff
    from headway.ports.jobdoor import JobDoor

DEFAULT_APP_NAME = "headway"


class _Defaults:
    """The default application of this process and the way to its door; both are made at the first use."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.app: celery.Celery | None = None
        self.open_door: Callable[[], JobDoor] | None = None


_defaults = _Defaults()


def set_default_door_factory(open_door: Callable[[], JobDoor]) -> None:
    """Say how the default application reaches its jobs; asked once, at the first ``.delay()`` or ``.get()``."""
    _defaults.open_door = open_door


def default_app() -> celery.Celery:
    """The application of tasks that belong to no other: it records jobs and never dials a broker."""
    with _defaults.lock:
        if _defaults.app is None:
            # Not current: an application that the user makes, before or after, is the one Celery should find.
            state: Any = celery._state  # noqa: SLF001 - Celery has no public way to ask without making an application
            earlier, current = state.default_app, state._tls.current_app  # noqa: SLF001
            app = celery.Celery(DEFAULT_APP_NAME, set_as_current=False)
            attach(app, _open_default_door)
            state._tls.current_app = current  # noqa: SLF001
            if earlier is not None:
                state.set_default_app(earlier)
            _defaults.app = app
        return _defaults.app


@overload
def task(function: Callable[..., Any], /) -> Any: ...


@overload
def task(
    *,
    isolation: str | None = None,
    timeout: float | None = None,
    job_retries: int | None = None,
    job_backoff: Backoff | None = None,
    memory_limit_mb: int | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Any]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    isolation: str | None = None,
    timeout: float | None = None,
    job_retries: int | None = None,
    job_backoff: Backoff | None = None,
    memory_limit_mb: int | None = None,
    **options: Any,
) -> Any:
    """Make a function a task: ``celery.shared_task`` with a few options more.

    The task belongs to every Celery application of the process, and to Headway's own where there is no other. In a
    script its name begins with the file's stem, not with ``__main__``, so that ``headway up -A FILE`` knows it.

    Args:
        function: the body, when used without parentheses.
        isolation: ``thread`` or ``process``; the setting HEADWAY_ISOLATION when None.
        timeout: seconds one attempt may take.
        job_retries: how often Headway tries again after a failure that the task itself did not retry. Celery's
            ``max_retries`` is something else: the bound of ``self.retry()``.
        job_backoff: the pause before such a try.
        memory_limit_mb: resident memory of a child process, above which its attempt ends (``isolation="process"``).
        options: any option of a Celery task.

    Returns:
        The task, with ``delay``, ``apply_async``, ``s`` and all else that Celery gives it.
    """
    own = {
        "isolation": isolation,
        "timeout": timeout,
        "job_retries": job_retries,
        "job_backoff": job_backoff,
        "memory_limit_mb": memory_limit_mb,
    }
    options |= {name: value for name, value in own.items() if value is not None}

    def decorate(body: Callable[..., Any]) -> Any:
        # Made before the task, so that the task finds an application without a broker.
        default_app()
        return celery.shared_task(**({"name": task_name(body)} | options))(body)

    return decorate if function is None else decorate(function)


def task_name(body: Callable[..., Any]) -> str:
    """The registered name of a task: ``module.function``, with the script's stem for ``__main__``."""
    module = body.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        path = getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name
        elif path:
            module = Path(path).stem
    return f"{module}.{body.__name__}"


def _open_default_door() -> JobDoor:
    if _defaults.open_door is None:
        raise EngineNotAvailable(
            "This process has no way to Headway's jobs yet.",
            hint="Use headway.task and headway.connect, or `headway up`.",
        )
    door = _defaults.open_door()
    if getattr(door, "owner_alive", None) is False:
        sys.stderr.write(
            "Stored. No Headway server runs for this data directory: start one with "
            f"`headway up -A {_script_name()}` to run it.\n"
        )
    return door


def _script_name() -> str:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(path).stem if path else "APP"
