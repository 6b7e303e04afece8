"""Reads: the statements behind the ``Reader`` port."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from headway.model.commands import Begun, ListJobs
from headway.model.job import Attempt, Event, Job, LogLine, Page, Session
from headway.model.paging import read_cursor, write_cursor
from headway.model.states import LIVE_STATES, JobState
from headway.ports.joins import WaitCounts
from headway.ports.store import StoredResult
from headway.store.access import Access
from headway.store.delivery_tx import SqlDeliveryReader
from headway.store.joins import wait_counts
from headway.store.observed_reader import SqlObservedReader
from headway.store.rows import (
    ATTEMPT_COLUMNS,
    JOB_COLUMNS,
    LOG_COLUMNS,
    SESSION_COLUMNS,
    EventRow,
    JobRow,
    to_attempt,
    to_event,
    to_job,
    to_log_line,
    to_session,
)
from headway.store.statements import DUE_STATES, Statements
from headway.store.tables import attempts, job_labels, job_logs, jobs, sessions, workers
from headway.store.transitions import Claimed, to_begun

_SHOWN_WORKERS = 20


class SqlReader:
    """The ``Reader`` port over what a read may use."""

    def __init__(self, access: Access, statements: Statements, now: Callable[[], int]) -> None:
        self._access = access
        self._statements = statements
        self._now = now

    def now(self) -> int:
        """See ``Reader.now``."""
        query = self._statements.facts.database_time
        return int(self._access.connection.exec_driver_sql(query).scalar_one()) if query else self._now()

    @property
    def observed(self) -> SqlObservedReader:
        """See ``Reader.observed``."""
        return SqlObservedReader(self._access, self._statements.observed)

    @property
    def deliveries(self) -> SqlDeliveryReader:
        """See ``Reader.deliveries``."""
        return SqlDeliveryReader(self._access, self._statements.deliveries)

    def get(self, job_id: str) -> Job | None:
        """See ``Reader.get``."""
        found = self._access.rows(self._statements.get_job, {"job_id": job_id})
        return to_job(JobRow._make(found[0])) if found else None

    def running(self, job_id: str, fence: int) -> Begun | None:
        """See ``Reader.running``."""
        found = self._access.rows(self._statements.running, {"job_id": job_id, "of_fence": fence})
        if not found:
            return None
        *claimed, begun_at = found[0]
        return to_begun(Claimed._make(claimed), begun_at)

    def list_jobs(self, query: ListJobs) -> Page[Job]:
        """See ``Reader.list_jobs``."""
        found: list[Any]
        if query == ListJobs(limit=query.limit):
            # What every report shows.
            rows = self._access.rows(self._statements.newest_jobs, {"batch": query.limit + 1})
            found = [JobRow._make(row) for row in rows]
        elif len(query.states) > 1 and query.label is None:
            # One range of the index per state, merged: a single range over all states could not give the order.
            # All in one statement, or a job that moves meanwhile is in two of them, or in none.
            ranges = [sa.select(self._listed(query, (state,)).subquery()) for state in query.states]
            found = list(self._access.connection.execute(sa.union_all(*ranges)))
            found.sort(key=lambda row: (row.submitted_at, row.id), reverse=True)
        else:
            found = list(self._access.connection.execute(self._listed(query, query.states)))
        page = found[: query.limit]
        more = len(found) > query.limit
        cursor = write_cursor(page[-1].submitted_at, page[-1].id) if more else None
        return Page([to_job(row) for row in page], cursor)

    def _listed(self, query: ListJobs, states: tuple[JobState, ...]) -> sa.Select[Any]:
        statement = sa.select(*JOB_COLUMNS).where(*_filters(query, states))
        at, job_id = jobs.c.submitted_at, jobs.c.id
        if query.label is not None:
            name, value = query.label
            at, job_id = job_labels.c.submitted_at, job_labels.c.job_id
            statement = statement.join(job_labels, job_labels.c.job_id == jobs.c.id)
            statement = statement.where(job_labels.c.name == name, job_labels.c.value == value)
        if query.cursor is not None:
            statement = statement.where(sa.tuple_(at, job_id) < sa.tuple_(*map(sa.literal, read_cursor(query.cursor))))
        return statement.order_by(at.desc(), job_id.desc()).limit(query.limit + 1)

    def attempts(self, job_id: str) -> list[Attempt]:
        """See ``Reader.attempts``."""
        statement = (
            sa.select(*ATTEMPT_COLUMNS)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(attempts.c.job_id == job_id)
            .order_by(attempts.c.fence)
        )
        return [to_attempt(row) for row in self._access.connection.execute(statement)]

    def logs(self, job_id: str, after: int, limit: int) -> list[LogLine]:
        """See ``Reader.logs``."""
        statement = (
            sa.select(*LOG_COLUMNS)
            .where(job_logs.c.job_id == job_id, job_logs.c.id > after)
            .order_by(job_logs.c.id)
            .limit(limit)
        )
        return [to_log_line(row) for row in self._access.connection.execute(statement)]

    def newest_log_line(self, job_id: str) -> int:
        """See ``Reader.newest_log_line``."""
        statement = sa.select(sa.func.max(job_logs.c.id)).where(job_logs.c.job_id == job_id)
        return self._access.connection.execute(statement).scalar_one() or 0

    def result(self, job_id: str) -> StoredResult | None:
        """See ``Reader.result``."""
        found = self._access.rows(self._statements.get_result, {"job_id": job_id})
        if not found:
            return None
        state, inline, blob, removed_at = found[0]
        return StoredResult(JobState(state), inline, blob, removed_at)

    def events(self, after: int, limit: int, job_id: str | None = None) -> list[Event]:
        """See ``Reader.events``."""
        parameters: dict[str, Any] = {"after": after, "batch": limit}
        if job_id is None:
            found = self._access.rows(self._statements.all_events, parameters)
        else:
            found = self._access.rows(self._statements.job_events, {**parameters, "job_id": job_id})
        return [to_event(EventRow._make(row)) for row in found]

    def feed_bounds(self) -> tuple[int, int]:
        """See ``Reader.feed_bounds``."""
        purged, head = self._access.rows(self._statements.feed_bounds, {})[0]
        return purged, head

    def live(self, job_ids: Sequence[str]) -> list[Job]:
        """See ``Reader.live``."""
        if not job_ids:
            return []
        statement = sa.select(*JOB_COLUMNS).where(jobs.c.id.in_(list(job_ids)))
        return [to_job(row) for row in self._access.connection.execute(statement)]

    def counts(self) -> dict[JobState, int]:
        """See ``Reader.counts``."""
        found = {JobState(state): int(count) for state, count in self._access.rows(self._statements.live_counts, {})}
        return {state: found.get(state, 0) for state in JobState if state in LIVE_STATES}

    def queue_counts(self) -> dict[str, tuple[int, int]]:
        """See ``Reader.queue_counts``."""
        found: dict[str, dict[str, int]] = {}
        for queue, state, count in self._access.rows(self._statements.queue_counts, {}):
            found.setdefault(queue, {})[state] = int(count)
        return {queue: (of.get(JobState.QUEUED, 0), of.get(JobState.RUNNING, 0)) for queue, of in found.items()}

    def ended_counts(self, after: int, until: int) -> dict[JobState, int]:
        """See ``Reader.ended_counts``."""
        found = self._access.rows(self._statements.ended_counts, {"after": after, "until": until})
        return {JobState(state): int(count) for state, count in found}

    def own_workers(self) -> list[dict[str, Any]]:
        """See ``Reader.own_workers``."""
        names = [column.name for column in workers.columns]
        found = self._access.rows(self._statements.newest_workers, {"batch": _SHOWN_WORKERS})
        return [dict(zip(names, row, strict=True)) for row in found]

    def upcoming(self, limit: int) -> list[Job]:
        """See ``Reader.upcoming``."""
        found = [
            to_job(JobRow._make(row))
            for statement in self._statements.upcoming
            for row in self._access.rows(statement, {"batch": limit})
        ]
        return sorted(found, key=lambda job: (job.run_at or 0, job.id))[:limit]

    def has_lapsed(self, silent_for: int) -> bool:
        """See ``Reader.has_lapsed``."""
        before = self.now() - silent_for
        running = sa.select(sa.func.min(jobs.c.heartbeat_at)).where(jobs.c.state == sa.literal_column("'running'"))
        living = sa.select(sa.func.min(workers.c.beat_at)).where(workers.c.stopped_at.is_(None))
        oldest = [self._access.connection.execute(statement).scalar() for statement in (running, living)]
        return any(at is not None and at < before for at in oldest)

    def next_due(self) -> int | None:
        """See ``Reader.next_due``."""
        unfinished = jobs.c.finished_at.is_(None)
        # The first of each state by its index: a min() over both would walk all that waits.
        firsts = [
            sa.select(jobs.c.run_at)
            .where(jobs.c.state == sa.literal_column(f"'{state}'"), jobs.c.run_at.is_not(None), unfinished)
            .order_by(jobs.c.run_at)
            .limit(1)
            for state in DUE_STATES
        ]
        firsts.append(
            sa.select(jobs.c.expires_at)
            .where(jobs.c.expires_at.is_not(None), unfinished, jobs.c.state != "running")
            .order_by(jobs.c.expires_at)
            .limit(1)
        )
        found = [self._access.connection.execute(statement).scalar() for statement in firsts]
        return min((at for at in found if at is not None), default=None)

    def unknown_blobs(self, refs: Sequence[str]) -> list[str]:
        """See ``Reader.unknown_blobs``."""
        found = self._statements.known_blobs.read(self._access.connection, {"ids": json.dumps(list(refs))})
        known = {row[0] for row in found}
        return [ref for ref in refs if ref not in known]

    def workflow(self, root_id: str, limit: int) -> list[Job]:
        """See ``Reader.workflow``."""
        below = (
            sa.select(*JOB_COLUMNS)
            .where(jobs.c.root_id == root_id, jobs.c.root_id != jobs.c.id)
            .order_by(jobs.c.submitted_at, jobs.c.id)
            .limit(limit)
        )
        root = self.get(root_id)
        found = [to_job(row) for row in self._access.connection.execute(below)]
        return ([root] if root is not None else []) + found

    def saved_group(self, group_id: str) -> str | None:
        """See ``Reader.saved_group``."""
        found = self._access.rows(self._statements.joins.saved_group, {"of_group": group_id})
        return found[0][0] if found else None

    def waits(self) -> WaitCounts:
        """See ``Reader.waits``."""
        return wait_counts(self._access.connection)

    def session(self, session_id: str) -> Session | None:
        """See ``Reader.session``."""
        row = self._access.connection.execute(sa.select(*SESSION_COLUMNS).where(sessions.c.id == session_id)).first()
        return to_session(row) if row else None

    def sessions(self, kind: str) -> list[Session]:
        """See ``Reader.sessions``."""
        statement = sa.select(*SESSION_COLUMNS).where(sessions.c.kind == kind).order_by(sessions.c.created_at.desc())
        return [to_session(row) for row in self._access.connection.execute(statement)]


def _filters(query: ListJobs, states: tuple[JobState, ...]) -> list[sa.ColumnElement[bool]]:
    clauses: list[sa.ColumnElement[bool]] = []
    if states:
        clauses.append(
            jobs.c.state.in_([str(state) for state in states]) if len(states) > 1 else jobs.c.state == str(states[0])
        )
    for column, value in ((jobs.c.task, query.task), (jobs.c.queue, query.queue), (jobs.c.worker_id, query.worker)):
        if value is not None:
            clauses.append(column == value)
    if query.since is not None:
        clauses.append(jobs.c.submitted_at >= query.since)
    if query.until is not None:
        clauses.append(jobs.c.submitted_at < query.until)
    if query.text:
        escaped = query.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        inside = f"%{escaped}%"
        clauses.append(
            sa.or_(
                jobs.c.id.like(f"{escaped}%", escape="\\"),
                *(
                    c.ilike(inside, escape="\\")
                    for c in (jobs.c.task, jobs.c.labels, jobs.c.error, jobs.c.args, jobs.c.kwargs)
                ),
            )
        )
    return clauses
