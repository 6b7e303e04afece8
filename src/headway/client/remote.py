"""The client of a running server, over REST and server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import httpx

from headway.client.api import Attempts, JobIds, Lines, StreamEvent
from headway.client.link import Link, json_object
from headway.client.moments import as_micros
from headway.client.observed import RemoteCluster
from headway.client.problems import error_of
from headway.client.sse import messages
from headway.client.wire import attempt_from, filters, job_from, line_from, submission_json
from headway.model.commands import ListJobs, SubmitJob
from headway.model.errors import (
    JobHasNoResult,
    ResultNotReady,
    ServerUnreachable,
    WaitTimeout,
)
from headway.model.job import Backoff, Job, Page, Workflow
from headway.model.states import TERMINAL_STATES, JobState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_STREAM_SILENCE: Final = 60.0
"""Seconds without even a comment after which a stream counts as dead."""
_ENDS: Final = frozenset(state.value for state in TERMINAL_STATES)


class Client(RemoteCluster):
    """The verbs of REST, synchronous and thread-safe.

    Args:
        url: of the server, as its ready line says it (``http://127.0.0.1:8000``).
        key: the ``HEADWAY_API_KEY`` of the server, if it has one.
        timeout: seconds to wait for one answer.
        patience: seconds to keep trying while the server cannot be reached in the middle of ``events`` or ``wait``.
        transport: an own ``httpx`` transport (Unix sockets, tests).
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = 30.0,
        *,
        patience: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._link = Link(url, key, timeout, transport)
        self._patience = patience

    @property
    def where(self) -> str:
        """The server's URL."""
        return self._link.url

    @property
    def runs_jobs(self) -> bool:
        """A server runs what it accepts."""
        return True

    def __repr__(self) -> str:
        return f"Client({self._link.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._link.http.close()

    # ------------------------------------------------------------------------------------------------ verbs

    def submit(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int = 0,
        run_at: datetime | None = None,
        expires_at: datetime | None = None,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        backoff: Backoff | None = None,
        isolation: str | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Run a task.

        Args:
            task: registered name.
            args: positional arguments, JSON values.
            kwargs: keyword arguments, JSON values.
            queue: None takes the task's own, as with the next ones.
            priority: 0 to 9, 9 first.
            run_at: not before; with a zone.
            expires_at: cancelled if not begun by then; with a zone.
            timeout_seconds: of each attempt; 0 is none.
            max_retries: of the job's own retry rule.
            backoff: the pause before such a retry.
            isolation: ``thread`` or ``process``.
            labels: names and values to find the job by.
            idempotency_key: the same key and payload is the same job; one is made when None, so that a
                connection lost in the middle never makes two jobs.

        Returns:
            The job as accepted: it is stored.

        Raises:
            UnknownTask, BadArguments, PayloadTooLarge, IdempotencyConflict, ServerUnreachable.
        """
        return self.send(
            SubmitJob(
                task=task,
                args=list(args),
                kwargs=dict(kwargs or {}),
                queue=queue,
                priority=priority,
                run_at=as_micros(run_at) if run_at else None,
                expires_at=as_micros(expires_at) if expires_at else None,
                timeout_seconds=timeout_seconds,
                max_retries=max_retries,
                backoff=backoff,
                isolation=isolation,
                labels=dict(labels or {}),
                idempotency_key=idempotency_key,
            )
        )

    def send(self, command: SubmitJob) -> Job:
        """Accept a command as it is; the same promises as ``submit``."""
        key = command.idempotency_key or uuid.uuid4().hex
        body = self._link.ask(
            "POST", "/jobs", body=submission_json(command), headers={"Idempotency-Key": key}, safe=True
        )
        return job_from(body)

    def submit_batch(self, commands: Sequence[SubmitJob]) -> JobIds:
        """Accept up to 10,000 jobs, all or none; their ids in order.

        A batch carries no idempotency key: after ``ServerUnreachable`` it may have been accepted.
        """
        body = self._link.ask("POST", "/jobs/batch", body={"jobs": [submission_json(command) for command in commands]})
        return [str(job_id) for job_id in body["job_ids"]]

    def get(self, job_id: str) -> Job:
        """The job as it is now; ``JobNotFound``."""
        return job_from(self._link.ask("GET", _path(job_id), safe=True))

    def page(self, query: ListJobs) -> Page[Job]:
        """One page of jobs, newest first; ``next_cursor`` goes into the next query."""
        body = self._link.ask("GET", "/jobs", params=filters(query), safe=True)
        return Page([job_from(item) for item in body["items"]], body.get("next_cursor"))

    def list(
        self,
        *,
        state: str | JobState | None = None,
        task: str | None = None,
        queue: str | None = None,
        worker: str | None = None,
        label: tuple[str, str] | None = None,
        text: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        page_size: int = 100,
    ) -> Iterator[Job]:
        """All jobs that fit, newest first, read page by page as they are taken.

        Args:
            state: in our spelling (``failed``).
            task: registered name.
            queue: name of the queue.
            worker: id of the worker that runs or ran it last.
            label: name and value of a label.
            text: found in task, labels, arguments or error, or the beginning of an id.
            since: submitted at or after; with a zone.
            until: submitted before; with a zone.
            page_size: jobs read at once.
        """
        query = ListJobs(
            states=(JobState(state),) if state else (),
            task=task,
            queue=queue,
            worker=worker,
            label=label,
            text=text,
            since=as_micros(since) if since else None,
            until=as_micros(until) if until else None,
            limit=page_size,
        )
        while True:
            page = self.page(query)
            yield from page.items
            if page.next_cursor is None:
                return
            query = replace(query, cursor=page.next_cursor)

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Ask that the job stop; ``TransitionConflict`` when it has ended."""
        return job_from(self._link.ask("POST", _path(job_id, "cancel"), body={"reason": reason} if reason else {}))

    def rerun(self, job_id: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> Job:
        """Run it again as a new job (``retry_of`` names the old one), with other arguments where given."""
        body: dict[str, Any] = {}
        if args is not None:
            body["args"] = [*args]
        if kwargs is not None:
            body["kwargs"] = dict(kwargs)
        return job_from(self._link.ask("POST", _path(job_id, "rerun"), body=body))

    def attempts(self, job_id: str) -> Attempts:
        """All attempts, oldest first."""
        return [
            attempt_from(job_id, item) for item in _items(self._link.ask("GET", _path(job_id, "attempts"), safe=True))
        ]

    def workflow(self, job_id: str, limit: int = 1000) -> Workflow:
        """All jobs of the workflow that a job belongs to, oldest first."""
        body = self._link.ask("GET", _path(job_id, "workflow"), params={"limit": limit}, safe=True)
        return Workflow(body["root_id"], tuple(job_from(item) for item in _items(body)), bool(body["complete"]))

    def logs(self, job_id: str, after: int = 0, limit: int = 1000) -> Lines:
        """Lines of the log with an id above ``after``, oldest first."""
        body = self._link.ask("GET", _path(job_id, "logs"), params={"after": after, "limit": limit}, safe=True)
        return [line_from(job_id, item) for item in _items(body)]

    def result(self, job_id: str) -> Any:
        """The result; ``ResultNotReady`` (409), ``JobHasNoResult``, ``ResultGone`` (410)."""
        return self._link.ask("GET", _path(job_id, "result"), safe=True)["result"]

    def ready(self) -> dict[str, Any]:
        """What the server says of each of its parts (``/ready``), also when it is not ready."""
        answer = self._link.request("GET", "/ready", safe=True)
        body = json_object(answer)
        if body is None or (answer.is_error and "code" in body and "status" not in body):
            raise error_of(answer.status_code, body, answer.text)
        return body

    def result_text(self, job_id: str) -> str | None:
        """The result as JSON text; None while there is none."""
        try:
            return json.dumps(self.result(job_id))
        except (ResultNotReady, JobHasNoResult):
            return None

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request that may be repeated, to a path under ``/api/v1``; its JSON object."""
        return self._link.ask(method, path, body=body, safe=True)

    # ----------------------------------------------------------------------------------------------- streams

    def events(self, job_id: str, last_event_id: str = "") -> Iterator[StreamEvent]:
        """The job's stream to its end; a lost connection is taken up again where it was.

        No transition is missed or repeated; ``progress`` is not numbered, so its last value may come again.

        Args:
            job_id: which job.
            last_event_id: resume after this one; empty starts with all transitions of the job.

        Raises:
            JobNotFound; ServerUnreachable after ``patience`` seconds without a connection.
        """
        return self._follow(job_id, last_event_id, None)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, however it ended.

        Args:
            job_id: which job.
            timeout: seconds; None waits as long as it takes.

        Raises:
            WaitTimeout: the job goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in self._follow(job_id, "", deadline):
            pass
        job = self.get(job_id)
        if job.state not in TERMINAL_STATES:
            raise WaitTimeout(f"Job {job_id} is {job.state} after {timeout:g} s; it goes on.", state=job.state.value)
        return job

    def _follow(self, job_id: str, last_id: str, deadline: float | None) -> Iterator[StreamEvent]:
        """Events until the end of the job or the deadline, over as many connections as it takes."""
        lost_at: float | None = None
        pause = _FIRST_PAUSE
        while deadline is None or time.monotonic() < deadline:
            try:
                for event in self._stream(job_id, last_id, deadline):
                    lost_at, pause = None, _FIRST_PAUSE
                    last_id = event.id or last_id
                    yield event
                    if event.event in _ENDS:
                        return
                # Closed without an end: the server drains, or the stream began after the last transition.
                if self.get(job_id).state in TERMINAL_STATES:
                    return
            except (httpx.TransportError, ServerUnreachable) as error:
                if deadline is not None and time.monotonic() >= deadline:
                    return
                now = time.monotonic()
                lost_at = now if lost_at is None else lost_at
                if now - lost_at > self._patience:
                    self._link.unreachable(error)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _stream(self, job_id: str, last_id: str, deadline: float | None) -> Iterator[StreamEvent]:
        silence = _STREAM_SILENCE
        if deadline is not None:
            silence = max(0.05, min(silence, deadline - time.monotonic()))
        timeout = httpx.Timeout(self._link.http.timeout.connect, read=silence)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        with self._link.http.stream(
            "GET", f"/api/v1{_path(job_id, 'events')}", headers=headers, timeout=timeout
        ) as answer:
            if answer.is_error:
                answer.read()
                if answer.status_code in {502, 503, 504}:
                    raise ServerUnreachable(f"{self._link.url} answered {answer.status_code}.")
                raise error_of(answer.status_code, json_object(answer), answer.text)
            for message in messages(answer.iter_lines()):
                data = json.loads(message.data)
                # The parser's id is the last one of the stream; an event of its own has it only when it is new.
                own = message.id if message.id != last_id else ""
                last_id = message.id or last_id
                yield StreamEvent(message.event, data if isinstance(data, dict) else {"value": data}, own)
                if deadline is not None and time.monotonic() >= deadline:
                    return


def _path(job_id: str, what: str = "") -> str:
    return f"/jobs/{quote(job_id, safe='')}{'/' + what if what else ''}"


def _items(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    items: Sequence[Mapping[str, Any]] = body["items"]
    return items
