"""The ``ObservedReader`` port over what a read may use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from headway.model.evidence import ObservedTask
from headway.model.observed import Gap, ListTasks, ObservedQueue, ObservedWorker, Observer, Tally
from headway.model.sayings import OUR_STATE, CeleryState
from headway.model.states import JobState
from headway.store.access import Access
from headway.store.observed_rows import to_observer, to_task, to_worker
from headway.store.observed_statements import ObservedStatements
from headway.store.observed_tables import observed_tasks


class SqlObservedReader:
    """The ``ObservedReader`` port over what a read may use."""

    def __init__(self, access: Access, statements: ObservedStatements) -> None:
        self._access = access
        self._statements = statements

    def task(self, task_id: str) -> ObservedTask | None:
        """See ``ObservedReader.task``."""
        return self.tasks([task_id]).get(task_id)

    def tasks(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """See ``ObservedReader.tasks``."""
        found = self._access.rows(self._statements.tasks, {"ids": json.dumps(list(ids))})
        return {row[0]: to_task(row) for row in found}

    def list_tasks(self, query: ListTasks, gone: Sequence[str], at: tuple[int, str] | None) -> list[ObservedTask]:
        """See ``ObservedReader.list_tasks``."""
        if at is None and query == ListTasks(limit=query.limit):
            # What every report shows.
            return [to_task(row) for row in self._access.rows(self._statements.newest, {"batch": query.limit + 1})]
        ours, celerys = query.states, query.celery_states
        states = [one for one in CeleryState if not (ours or celerys) or OUR_STATE[one] in ours or one in celerys]
        if query.orphaned:
            if not gone:
                return []
            states = [one for one in states if OUR_STATE[one] is JobState.RUNNING]
        if not states:
            return []
        # One range of an index for each state, merged: a range over several could not give the order. And a root is
        # found by its id, the others by their root.
        wanted = [None] if len(states) == len(CeleryState) else states
        places: list[sa.ColumnElement[bool] | None] = [None]
        if query.root is not None:
            tasks = observed_tasks.c
            places = [tasks.id == query.root, sa.and_(tasks.root_id == query.root, tasks.root_id != tasks.id)]
        ranges = [_listed(query, gone, at, state, place) for state in wanted for place in places]
        found = self._rows(
            sa.union_all(*(sa.select(one.subquery()) for one in ranges)) if len(ranges) > 1 else ranges[0]
        )
        found.sort(key=lambda task: (task.seen_first_at, task.id), reverse=True)
        return found[: query.limit + 1]

    def live(self, after: tuple[int, str], limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.live``."""
        statement = (
            sa.select(observed_tasks)
            .where(observed_tasks.c.finished_at.is_(None))
            .where(
                sa.tuple_(observed_tasks.c.seen_first_at, observed_tasks.c.id)
                > sa.tuple_(sa.literal(after[0], sa.BigInteger), sa.literal(after[1]))
            )
            .order_by(observed_tasks.c.seen_first_at, observed_tasks.c.id)
            .limit(limit)
        )
        return self._rows(statement)

    def related(self, root_id: str, limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.related``."""
        others = (
            sa.select(observed_tasks)
            .where(observed_tasks.c.root_id == root_id, observed_tasks.c.root_id != observed_tasks.c.id)
            .order_by(observed_tasks.c.seen_first_at, observed_tasks.c.id)
            .limit(limit)
        )
        root = self.task(root_id)
        return [*([root] if root is not None else []), *self._rows(others)]

    def children(self, task_id: str, limit: int) -> list[str]:
        """See ``ObservedReader.children``."""
        return [row[0] for row in self._access.rows(self._statements.children, {"parent": task_id, "batch": limit})]

    def called_by(self, ids: Sequence[str], limit: int) -> list[str]:
        """See ``ObservedReader.called_by``."""
        found = self._access.rows(self._statements.called_by, {"ids": json.dumps(list(ids)), "batch": limit})
        return [row[0] for row in found]

    def counts(self) -> dict[str, int]:
        """See ``ObservedReader.counts``."""
        return {state: int(value) for state, value in self._access.rows(self._statements.by_state, {})}

    def count_orphans(self, gone: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See ``ObservedReader.count_orphans``."""
        if not gone:
            return {}
        found = self._access.rows(self._statements.orphans_by_worker, {"ids": json.dumps(list(gone))})
        return {worker: (int(count), int(missing)) for worker, count, missing in found}

    def orphans(self, gone: Sequence[str], limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.orphans``."""
        if not gone:
            return []
        parameters = {"ids": json.dumps(list(gone)), "batch": limit}
        return [to_task(row) for row in self._access.rows(self._statements.orphans, parameters)]

    def upcoming(self, after: int, gone: Sequence[str], limit: int) -> list[ObservedTask]:
        """See ``ObservedReader.upcoming``."""
        parameters = {"after": after, "ids": json.dumps(list(gone)), "batch": limit}
        found = self._access.rows(self._statements.upcoming, parameters)
        return [to_task(row) for row in found]

    def gaps_open(self) -> list[Gap]:
        """See ``ObservedReader.gaps_open``."""
        return [Gap(*row) for row in self._access.rows(self._statements.gaps_open, {})]

    def waiting_by_queue(self) -> dict[str, int]:
        """See ``ObservedReader.waiting_by_queue``."""
        return {queue or "": int(count) for queue, count in self._access.rows(self._statements.waiting_by_queue, {})}

    def unresolved(self) -> dict[str, int]:
        """See ``ObservedReader.unresolved``."""
        return {state: int(count) for state, count in self._access.rows(self._statements.missing_by_state, {})}

    def oldest_waiting(self, queue: str) -> int | None:
        """See ``ObservedReader.oldest_waiting``."""
        # The queue hidden in an expression: few tasks wait, and many were ever sent to a queue.
        statement = sa.select(sa.func.min(observed_tasks.c.sent_at)).where(
            observed_tasks.c.state == "PENDING",
            sa.func.coalesce(observed_tasks.c.queue, "") == queue,
            observed_tasks.c.eta.is_(None),
            observed_tasks.c.gap.is_(None),
        )
        found: int | None = self._access.connection.execute(statement).scalar()
        return found

    def tallies(self) -> list[Tally]:
        """See ``ObservedReader.tallies``."""
        return [Tally(*row) for row in self._access.rows(self._statements.all_tallies, {})]

    def workers(self) -> list[ObservedWorker]:
        """See ``ObservedReader.workers``."""
        return [to_worker(row) for row in self._access.rows(self._statements.all_workers, {})]

    def queues(self) -> list[ObservedQueue]:
        """See ``ObservedReader.queues``."""
        found = self._access.rows(self._statements.all_queues, {})
        return [ObservedQueue(name, seen_at, json.loads(facts)) for name, seen_at, facts in found]

    def gaps(self, limit: int) -> list[Gap]:
        """See ``ObservedReader.gaps``."""
        found = [Gap(*row) for row in self._access.rows(self._statements.newest_gaps, {"batch": limit})]
        if not found:
            return []
        unresolved = dict(self._access.rows(self._statements.missing_by_gap, {}))
        return [replace(gap, unresolved=int(unresolved.get(gap.id, 0))) for gap in found]

    def observers(self) -> list[Observer]:
        """See ``ObservedReader.observers``."""
        return [to_observer(row) for row in self._access.rows(self._statements.all_observers, {})]

    def _rows(self, statement: Any) -> list[ObservedTask]:
        return [to_task(tuple(row)) for row in self._access.connection.execute(statement)]


def _listed(
    query: ListTasks,
    gone: Sequence[str],
    at: tuple[int, str] | None,
    state: CeleryState | None,
    place: sa.ColumnElement[bool] | None,
) -> sa.Select[Any]:
    tasks = observed_tasks.c
    statement = sa.select(observed_tasks)
    if state is not None:
        statement = statement.where(tasks.state == state.value)
    for column, wanted in ((tasks.name, query.name), (tasks.queue, query.queue), (tasks.worker, query.worker)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if place is not None:
        statement = statement.where(place)
    if query.orphaned:
        statement = statement.where(tasks.worker.in_(list(gone)))
    if query.since is not None:
        statement = statement.where(tasks.seen_first_at >= query.since)
    if query.until is not None:
        statement = statement.where(tasks.seen_first_at < query.until)
    if query.text:
        statement = statement.where(_holds(query.text))
    if at is not None:
        position = sa.tuple_(sa.literal(at[0], sa.BigInteger), sa.literal(at[1]))
        statement = statement.where(sa.tuple_(tasks.seen_first_at, tasks.id) < position)
    return statement.order_by(tasks.seen_first_at.desc(), tasks.id.desc()).limit(query.limit + 1)


def _holds(text: str) -> sa.ColumnElement[bool]:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    tasks = observed_tasks.c
    return sa.or_(
        tasks.id.like(f"{escaped}%", escape="\\"),
        *(
            column.ilike(f"%{escaped}%", escape="\\")
            for column in (tasks.name, tasks.error, tasks.args, tasks.kwargs, tasks.result)
        ),
    )
