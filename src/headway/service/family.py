"""The tasks that belong to one: those of its root, those that called it, and those that they called."""

from __future__ import annotations

from typing import Final

from headway.model.evidence import ObservedTask
from headway.ports.observations import ObservedReader

MAX_RELATED: Final = 500
MAX_CHILDREN: Final = 100
_AT_ONCE: Final = 100


def family_of(reader: ObservedReader, task: ObservedTask, limit: int = MAX_RELATED) -> list[ObservedTask]:
    """The family of a task, oldest first, itself among them.

    A task that was heard of names its root. One that was found afterwards, by its result, names its parent alone: so
    the way leads up from parent to parent, and from all of these down.

    Args:
        reader: of what is observed.
        task: known.
        limit: how many at most; the task and those that called it come first, then those that are nearest.
    """
    line = {task.id: task}
    top = task
    # Whoever forges events can make a circle of them.
    while len(line) < limit and top.parent_id is not None and top.parent_id not in line:
        parent = reader.tasks([top.parent_id]).get(top.parent_id)
        if parent is None:
            break
        line[parent.id] = top = parent
    found = dict(line)
    roots = [one.root_id for one in line.values() if one.root_id is not None]
    for root in dict.fromkeys([*roots, top.id]):
        if len(found) < limit:
            for one in reader.related(root, limit)[:limit]:
                if len(found) < limit:
                    found.setdefault(one.id, one)
    _called(reader, found, limit)
    return sorted(found.values(), key=_began)


def _called(reader: ObservedReader, found: dict[str, ObservedTask], limit: int) -> None:
    """Add those that were called by any of them, level by level."""
    level = list(found)
    while level and len(found) < limit:
        below: list[str] = []
        for start in range(0, len(level), _AT_ONCE):
            # Those that are known already are among them, so room for these too.
            below += reader.called_by(level[start : start + _AT_ONCE], limit + len(found))
        new = [one for one in dict.fromkeys(below) if one not in found][: limit - len(found)]
        found.update(reader.tasks(new))
        level = [one for one in new if one in found]


def _began(task: ObservedTask) -> tuple[int, str]:
    # What was found afterwards was first seen long after it had ended.
    return min(task.seen_first_at, task.finished_at or task.seen_first_at), task.id
