"""The part of a ``JobDoor`` that a script needs, over REST: what ``.delay()`` and ``.get()`` use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from headway.client.remote import Client
from headway.model.commands import NewJoin, SubmitJob
from headway.model.errors import JobNotFound, TransitionConflict, WaitTimeout
from headway.model.job import Job
from headway.model.states import JobState


class RemoteDoor:
    """Submits and reads through a running server.

    Args:
        url: of the server.
        key: its key, or the owner's token.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self._client = Client(url, key)

    @property
    def owner_alive(self) -> bool:
        """A server runs what it accepts."""
        return True

    def submit_many(self, commands: Sequence[SubmitJob], joins: Sequence[NewJoin] = ()) -> list[str]:
        """See ``JobDoor.submit_many``."""
        sends = [asdict(command) for command in commands]
        body: dict[str, Any] = {"sends": sends, "joins": [asdict(join) for join in joins]}
        answer: dict[str, Any] = self._client.call("POST", "/sends", body)
        return list(answer["job_ids"])

    def get(self, job_id: str) -> Job | None:
        """See ``JobDoor.get``."""
        try:
            return self._client.get(job_id)
        except JobNotFound:
            return None

    def result_json(self, job_id: str) -> str | None:
        """See ``JobDoor.result_json``."""
        return self._client.result_text(job_id)

    def forget(self, job_id: str) -> None:
        """See ``JobDoor.forget``."""
        self._client.call("POST", f"/sends/{quote(job_id, safe='')}/forget", {})

    def save_group(self, group_id: str, result_json: str) -> None:
        """See ``JobDoor.save_group``."""
        self._client.call("POST", f"/sends/groups/{quote(group_id, safe='')}", {"result": json.loads(result_json)})

    def saved_group(self, group_id: str) -> str | None:
        """See ``JobDoor.saved_group``."""
        answer: dict[str, Any] = self._client.call("GET", f"/sends/groups/{quote(group_id, safe='')}")
        return None if answer["result"] is None else json.dumps(answer["result"])

    def delete_group(self, group_id: str) -> None:
        """See ``JobDoor.delete_group``."""
        self._client.call("POST", f"/sends/groups/{quote(group_id, safe='')}/forget", {})

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Cancel a job (what Celery calls revoke)."""
        return self._client.cancel(job_id, reason)

    def purge(self, queue: str) -> int:
        """Cancel what is queued there, one by one; how many jobs."""
        cancelled = 0
        for job in list(self._client.list(state=JobState.QUEUED, queue=queue)):
            # One that has ended meanwhile needs no cancel.
            with suppress(JobNotFound, TransitionConflict):
                self._client.cancel(job.id, "purged")
                cancelled += 1
        return cancelled

    def wait(self, job_id: str, timeout: float | None) -> Job | None:
        """See ``JobDoor.wait``."""
        try:
            return self._client.wait(job_id, timeout)
        except WaitTimeout:
            return self.get(job_id)
        except JobNotFound:
            return None
