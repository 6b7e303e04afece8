"""Starting Celery's own worker program in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from celery import signals
from click import ClickException

from headway.model.errors import InvalidRequest

if TYPE_CHECKING:
    from celery import Celery


def run_worker(app: Celery, options: Sequence[str], on_ready: Callable[[], None]) -> int:
    """Run ``celery worker`` with these options until it ends; its exit code.

    Args:
        app: the application.
        options: of ``celery worker``.
        on_ready: called once, when it consumes.

    Raises:
        InvalidRequest: Celery knows no such option or value.
    """
    told: list[bool] = []

    def ready(**_: object) -> None:
        if not told:
            told.append(True)
            on_ready()

    signals.worker_ready.connect(ready, weak=False)
    program: Any = app
    try:
        code = program.start(argv=["worker", *options])
    except ClickException as error:
        raise InvalidRequest(
            f"Celery's worker refuses this: {error.format_message()}", hint="`celery worker --help` lists its options."
        ) from None
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        return end.code or 0
    return int(code or 0)
