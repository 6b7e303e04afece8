"""Remote control of managed workers: a revoke is a cancel, and never makes a worker refuse a job for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.control import Panel, control_command
from kombu.utils.functional import maybe_list

from headway.engine.celery.attach import ManagedAttachment
from headway.engine.embedded.attach import attachment_of
from headway.model.errors import HeadwayError

log = structlog.get_logger("headway.worker")


@control_command(variadic="job_ids", signature="[id1 [id2 [... [idN]]]]")
def headway_stop(state: Any, job_ids: Any, **_: Any) -> dict[str, Any]:
    """Stop attempts of cancelled jobs at once, without waiting for them to stop by themselves."""
    worker = getattr(attachment_of(state.app), "worker", None)
    if worker is None:
        return {"ok": "not a managed worker"}
    worker.stop_now([str(one) for one in maybe_list(job_ids)])
    return {"ok": "asked to stop"}


def _cancelling(plain: Callable[..., Any]) -> Callable[..., Any]:
    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **options: Any) -> Any:
        """Cancel jobs; ids that are no jobs are revoked as Celery does."""
        attachment = attachment_of(state.app)
        worker = getattr(attachment, "worker", None)
        if not isinstance(attachment, ManagedAttachment) or worker is None:
            return plain(state, task_id, terminate=terminate, signal=signal, **options)
        ids = {str(one) for one in maybe_list(task_id) or []}
        try:
            others = attachment.revoke(sorted(ids))
        except HeadwayError as error:
            return {"error": f"[{error.code}] {error.message}"}
        mine = sorted(ids - set(others))
        if terminate and mine:
            worker.stop_now(mine)
        if others:
            return plain(state, others, terminate=terminate, signal=signal, **options)
        return {"ok": f"jobs {', '.join(mine)} cancelled"}

    return revoke


def take_over_revoke() -> None:
    """Put ours in front of Celery's commands, once in a process."""
    for name in ("revoke", "terminate"):
        plain = Panel.data[name]
        if not getattr(plain, "headway", False):
            mine = _cancelling(plain) if name == "revoke" else _terminating()
            mine.headway = True  # type: ignore[attr-defined]
            Panel.data[name] = mine


def _terminating() -> Callable[..., Any]:
    def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> Any:
        """Cancel jobs and stop them at once."""
        return Panel.data["revoke"](state, task_id, terminate=True, signal=signal)

    return terminate
