"""Who does something, and what each role may do: one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Roles, each including the one before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}

PERMISSIONS: dict[str, Role] = {
    "get_job": Role.VIEWER,
    "list_jobs": Role.VIEWER,
    "list_attempts": Role.VIEWER,
    "read_logs": Role.VIEWER,
    "read_result": Role.VIEWER,
    "read_events": Role.VIEWER,
    "get_session": Role.VIEWER,
    "list_sessions": Role.VIEWER,
    "count_jobs": Role.VIEWER,
    "list_tasks": Role.VIEWER,
    "get_task": Role.VIEWER,
    "related_tasks": Role.VIEWER,
    "list_workers": Role.VIEWER,
    "list_queues": Role.VIEWER,
    "list_gaps": Role.VIEWER,
    "read_sitrep": Role.VIEWER,
    "read_metrics": Role.VIEWER,
    "read_workflow": Role.VIEWER,
    "saved_group": Role.VIEWER,
    "submit_job": Role.OPERATOR,
    "submit_batch": Role.OPERATOR,
    "cancel_job": Role.OPERATOR,
    "rerun_job": Role.OPERATOR,
    "forget_result": Role.OPERATOR,
    "pause_queue": Role.OPERATOR,
    "resume_queue": Role.OPERATOR,
    "purge_queue": Role.OPERATOR,
    "save_group": Role.OPERATOR,
    "delete_group": Role.OPERATOR,
    "save_session": Role.OPERATOR,
    "delete_session": Role.ADMIN,
    "run_retention": Role.ADMIN,
}
"""The least role for each verb of the door; a verb that is not here is refused to everybody."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: a name that is written beside every change, and a role.

    ``name`` is ``local:<uid>`` without a key, ``key:<last four>`` with one, ``worker:<id>`` for the
    engine and ``system:<part>`` for the long-running parts.
    """

    name: str
    role: Role

    def may(self, verb: str) -> bool:
        """Whether the role allows the verb."""
        least = PERMISSIONS.get(verb)
        return least is not None and _RANK[self.role] >= _RANK[least]
