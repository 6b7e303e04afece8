"""What is observed, for the client of a server and for a store opened here: JSON values, as REST spells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headway.model.reported import gap_json, queue_json, situation_json, task_json, worker_json
from headway.model.times import to_rfc3339

if TYPE_CHECKING:
    from headway.client.link import Link
    from headway.model.observed import ListTasks
    from headway.service import Context

Items = list[dict[str, Any]]


def _query(query: ListTasks) -> dict[str, str]:
    wanted: dict[str, str | None] = {
        "state": ",".join((*query.states, *query.celery_states)) or None,
        "task": query.name,
        "queue": query.queue,
        "worker": query.worker,
        "root": query.root,
        "text": query.text,
        "orphaned": "true" if query.orphaned else None,
        "since": to_rfc3339(query.since) if query.since is not None else None,
        "until": to_rfc3339(query.until) if query.until is not None else None,
        "limit": str(query.limit),
        "cursor": query.cursor,
    }
    return {name: value for name, value in wanted.items() if value is not None}


class RemoteCluster:
    """What a server knows of a cluster, over REST."""

    _link: Link

    def _read(self, path: str, parameters: dict[str, str] | None = None) -> dict[str, Any]:
        return self._link.ask("GET", path, params=parameters, safe=True)

    def sitrep(self) -> dict[str, Any]:
        """The situation report."""
        return self._read("/sitrep")

    def tasks(self, query: ListTasks) -> dict[str, Any]:
        """A page of tasks: ``items`` and ``next_cursor``."""
        return self._read("/tasks", _query(query))

    def task(self, task_id: str) -> dict[str, Any]:
        """One task with everything that was said of it; ``TaskNotFound``."""
        return self._read(f"/tasks/{quote(task_id, safe='')}")

    def related(self, task_id: str) -> Items:
        """The tasks of the same chain, group or chord, oldest first."""
        found: Items = self._read(f"/tasks/{quote(task_id, safe='')}/related")["items"]
        return found

    def workers(self) -> Items:
        """All workers."""
        found: Items = self._read("/workers")["items"]
        return found

    def queues(self) -> Items:
        """All queues."""
        found: Items = self._read("/queues")["items"]
        return found

    def pause_queue(self, name: str, reason: str = "") -> bool:
        """Pause a queue: nothing of it begins; False where it is paused already."""
        answer = self._link.ask("POST", f"/queues/{quote(name, safe='')}/pause", body={"reason": reason}, safe=True)
        return bool(answer["changed"])

    def resume_queue(self, name: str, reason: str = "") -> bool:
        """Let a queue go on; False where it was not paused."""
        answer = self._link.ask("POST", f"/queues/{quote(name, safe='')}/resume", body={"reason": reason}, safe=True)
        return bool(answer["changed"])

    def gaps(self) -> Items:
        """Times in which events may have been missed, the newest first."""
        found: Items = self._read("/gaps")["items"]
        return found


class LocalCluster:
    """What a store opened in this process knows: nobody is asked, and the report says that nobody watches."""

    _context: Context

    def sitrep(self) -> dict[str, Any]:
        """The situation report."""
        from headway.service import read_sitrep

        # Nobody asks again in this process: what is counted in the background would come too late.
        self._context.services.job_totals.count()
        return situation_json(read_sitrep(self._context))

    def tasks(self, query: ListTasks) -> dict[str, Any]:
        """A page of tasks: ``items`` and ``next_cursor``."""
        from headway.service import list_tasks

        page = list_tasks(self._context, query)
        return {"items": [task_json(one) for one in page.items], "next_cursor": page.next_cursor}

    def task(self, task_id: str) -> dict[str, Any]:
        """One task with everything that was said of it; ``TaskNotFound``."""
        from headway.service import get_task

        return task_json(get_task(self._context, task_id), whole=True)

    def related(self, task_id: str) -> Items:
        """The tasks of the same chain, group or chord, oldest first."""
        from headway.service import related_tasks

        return [task_json(one) for one in related_tasks(self._context, task_id)]

    def workers(self) -> Items:
        """All workers."""
        from headway.service import list_workers

        return [worker_json(one) for one in list_workers(self._context)]

    def queues(self) -> Items:
        """All queues."""
        from headway.service import list_queues

        return [queue_json(one) for one in list_queues(self._context)]

    def pause_queue(self, name: str, reason: str = "") -> bool:
        """Pause a queue: nothing of it begins; False where it is paused already."""
        from headway.service import pause_queue

        return pause_queue(self._context, name, reason)[1]

    def resume_queue(self, name: str, reason: str = "") -> bool:
        """Let a queue go on; False where it was not paused."""
        from headway.service import resume_queue

        return resume_queue(self._context, name, reason)

    def gaps(self) -> Items:
        """Times in which events may have been missed, the newest first."""
        from headway.service import list_gaps

        return [gap_json(one) for one in list_gaps(self._context)]
