"""Loading what ``-A`` names, as ``celery -A`` does, and asking it for its broker."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery import Celery, signals
from celery.app.utils import find_app

from headway.engine.task import default_app
from headway.model.errors import AppNotLoaded

if TYPE_CHECKING:
    from types import ModuleType

_PLACES = ("broker_url", "broker_read_url", "broker_write_url", "broker_host")
_VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")


def load_app(spec: str | None, *, imports: Sequence[str] = ()) -> Celery:
    """Import an application and all its task modules.

    The working folder is put on ``sys.path``; ``module``, ``module:attribute``, ``module.attribute`` and a package
    with a ``celery`` module are understood. A module without an application, but with ``headway.task`` tasks (a
    script), is run by Headway's own application.

    Args:
        spec: the value of ``-A``; None for Headway's own application.
        imports: further modules that define tasks.

    Returns:
        The finalized application, not attached (unless it is Headway's own, which always is).

    Raises:
        AppNotLoaded: with the reason: the import's own error, or that there is no application.
    """
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        app = default_app() if spec is None else _find(spec)
        # What a worker does at its start: the task modules of `imports`, `include` and autodiscovery (Django's too).
        app.loader.import_default_modules()
        for name in imports:
            importlib.import_module(name)
        app.finalize()
    except AppNotLoaded:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = spec or ", ".join(imports)
        raise AppNotLoaded(f"{where} could not be imported: {type(error).__name__}: {error}.", app=where) from error
    return app


def configured_broker(app: Celery) -> str | None:
    """The broker URL that somebody set for this application; None where it is only Celery's default or ``memory://``.

    Looked for in the environment, in the application's own configuration and in what was passed to ``Celery()``:
    ``app.conf.broker_url`` would answer ``amqp://guest@localhost`` for an application that names none.
    """
    found: list[Any] = [os.environ.get(name) for name in _VARIABLES]
    # Before the first key is asked for, the configuration is not read at all.
    assert app.conf.task_default_queue
    conf: Any = app.conf
    # The last map holds Celery's defaults; those before it what the application and the user set.
    for settings in conf.maps[:-1]:
        # A namespace of the user's own (CELERY_…, MYAPP_…) stands before the key.
        found += [value for key, value in settings.items() if str(key).lower().endswith(_PLACES)]
    for url in found:
        text = url[0] if isinstance(url, list | tuple) and url else url
        if text and not str(text).startswith("memory:"):
            return str(text)
    return None


def send_worker_init(app: Celery, sender: Any) -> None:
    """Send the signals that a Celery worker sends at its start: Django closes its connections by them, for one."""
    signals.worker_init.send(sender=sender)
    signals.worker_process_init.send(sender=None)


def send_worker_shutdown(sender: Any) -> None:
    """Send the signals of a worker's end."""
    signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)
    signals.worker_shutdown.send(sender=sender)


def _find(spec: str) -> Celery:
    try:
        found = find_app(spec)
    except (AttributeError, ImportError) as error:
        module = _script(spec)
        if module is None:
            raise AppNotLoaded(f"{spec} could not be loaded: {type(error).__name__}: {error}.", app=spec) from error
        return default_app()
    # `celery.current_app` and other proxies stand for the real one.
    found = found._get_current_object() if hasattr(found, "_get_current_object") else found  # noqa: SLF001
    if not isinstance(found, Celery):
        module = _script(spec)
        if module is None:
            raise AppNotLoaded(f"{spec} is a {type(found).__name__}, not a Celery application.", app=spec)
        return default_app()
    return found


def _script(spec: str) -> ModuleType | None:
    """The module, if it was imported and defines tasks without an application of its own."""
    module = sys.modules.get(spec)
    if module is None:
        return None
    mine = [name for name in default_app().tasks if name.startswith(f"{spec}.")]
    return module if mine else None
