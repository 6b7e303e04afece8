"""The ``ObservedTx`` port over a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from headway.model.evidence import ObservedTask
from headway.model.observed import Gap, ObservedQueue, ObservedWorker, Observer, Tally
from headway.store.observed_rows import COLUMNS, encode, of_task, to_observer, to_task, to_worker
from headway.store.observed_statements import DESCRIBED, ENDED, ObservedStatements
from headway.store.prepared import Cursor, ManyRows

_LOCK = "SELECT pg_advisory_xact_lock(5207063)"
_ENDING = itemgetter(*(COLUMNS.index(name) for name in ENDED))
_DESCRIBING = itemgetter(*(COLUMNS.index(name) for name in DESCRIBED))


class SqlObservedTx:
    """The ``ObservedTx`` port over a transaction's cursor."""

    def __init__(self, cursor: Cursor, statements: ObservedStatements, wrote: Any) -> None:
        self._cursor = cursor
        self._statements = statements
        self._wrote = wrote

    def lock(self) -> None:
        """See ``ObservedTx.lock``."""
        if self._statements.facts.sequencer_lock is not None:
            self._cursor.execute(_LOCK)
            self._cursor.fetchall()

    def tasks(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """See ``ObservedTx.tasks``."""
        found = self._statements.tasks.rows(self._cursor, {"ids": json.dumps(list(ids))})
        return {row[0]: to_task(row) for row in found}

    def jobs_among(self, ids: Sequence[str]) -> set[str]:
        """See ``ObservedTx.jobs_among``."""
        if not self._statements.any_job.rows(self._cursor, {}):
            return set()
        return {row[0] for row in self._statements.jobs.rows(self._cursor, {"ids": json.dumps(list(ids))})}

    def put_tasks(self, new: Sequence[ObservedTask], changed: Sequence[ObservedTask]) -> None:
        """See ``ObservedTx.put_tasks``."""
        self._wrote()
        statements = self._statements
        if new:
            inserted = [of_task(task) for task in new]
            statements.insert.run(self._cursor, inserted)
            for task, values in zip(new, inserted, strict=True):
                task.found = tuple(values)
        rows: list[list[Any]] = [[], [], []]
        for task in changed:
            values = of_task(task)
            rows[_kind(values, task.found)].append(values)
            task.found = tuple(values)
        for statement, of_kind in zip(statements.updates, rows, strict=True):
            if of_kind:
                pick = _places(statement)
                statement.run(self._cursor, [pick(values) for values in of_kind])

    def add_counts(self, changes: Mapping[str, int]) -> None:
        """See ``ObservedTx.add_counts``."""
        rows = [(state, change) for state, change in sorted(changes.items()) if change]
        if rows:
            self._wrote()
            self._statements.counts.run(self._cursor, rows)

    def add_tallies(self, tallies: Sequence[Tally]) -> None:
        """See ``ObservedTx.add_tallies``."""
        if tallies:
            self._wrote()
            rows = [(one.kind, one.name, one.worker, one.queue, one.label, one.value) for one in tallies]
            self._statements.tallies.run(self._cursor, rows)

    def workers(self) -> dict[str, ObservedWorker]:
        """See ``ObservedTx.workers``."""
        return {row[0]: to_worker(row) for row in self._statements.all_workers.rows(self._cursor, {})}

    def put_workers(self, workers: Sequence[ObservedWorker]) -> None:
        """See ``ObservedTx.put_workers``."""
        if workers:
            self._wrote()
            self._statements.workers.run(
                self._cursor,
                [
                    (one.hostname, one.first_seen_at, one.seen_at, one.heartbeat_at, one.offline_at, encode(one.facts))
                    for one in workers
                ],
            )

    def forget(self, seen_before: int) -> None:
        """See ``ObservedTx.forget``."""
        self._wrote()
        statements, cursor = self._statements, self._cursor
        gone = {name.rpartition("@")[2] for name, one in self.workers().items() if one.seen_at < seen_before}
        for statement in (statements.forget_workers, statements.forget_queues, statements.forget_observers):
            statement.change(cursor, {"before": seen_before})
        statements.forget_gaps.change(cursor, {"before": seen_before})
        # A cluster that makes a new host for every worker would else use up all series there may be.
        gone -= {name.rpartition("@")[2] for name in self.workers()}
        if gone:
            statements.forget_tallies.change(cursor, {"ids": json.dumps(sorted(gone))})

    def put_queues(self, queues: Sequence[ObservedQueue]) -> None:
        """See ``ObservedTx.put_queues``."""
        if queues:
            self._wrote()
            self._statements.queues.run(self._cursor, [(one.name, one.seen_at, encode(one.facts)) for one in queues])

    def put_observer(self, observer: Observer) -> None:
        """See ``ObservedTx.put_observer``."""
        self._wrote()
        row = (observer.id, observer.started_at, observer.watermark_at, observer.stopped_at, encode(observer.facts))
        self._statements.observers.run(self._cursor, [row])

    def observers(self) -> list[Observer]:
        """See ``ObservedTx.observers``."""
        return [to_observer(row) for row in self._statements.all_observers.rows(self._cursor, {})]

    def put_gap(self, gap: Gap) -> None:
        """See ``ObservedTx.put_gap``."""
        self._wrote()
        row = (
            gap.id, gap.observer, gap.reason, gap.began_at, gap.ended_at, gap.reconciled_at, gap.lost, gap.recovered,
        )  # fmt: skip
        self._statements.gaps.run(self._cursor, [row])

    def gaps_around(self, began_at: int, ended_at: int) -> list[Gap]:
        """See ``ObservedTx.gaps_around``."""
        found = self._statements.gaps_around.rows(self._cursor, {"began": began_at, "ended": ended_at})
        return [Gap(*row) for row in found]

    def remove_gap(self, gap_id: str) -> None:
        """See ``ObservedTx.remove_gap``."""
        self._wrote()
        self._statements.remove_gap.change(self._cursor, {"gap_id": gap_id})

    def gaps_open(self) -> list[Gap]:
        """See ``ObservedTx.gaps_open``."""
        return [Gap(*row) for row in self._statements.gaps_open.rows(self._cursor, {})]

    def gaps_unread(self) -> list[Gap]:
        """See ``ObservedTx.gaps_unread``."""
        return [Gap(*row) for row in self._statements.gaps_unread.rows(self._cursor, {})]

    def mark_gap(self, gap_id: str, seen_before: int, ids: Sequence[str] | None = None) -> int:
        """See ``ObservedTx.mark_gap``."""
        self._wrote()
        parameters: dict[str, Any] = {"gap_id": gap_id, "before": seen_before}
        if ids is None:
            return self._statements.mark_gap.change(self._cursor, parameters)
        return self._statements.mark_some.change(self._cursor, {**parameters, "ids": json.dumps(list(ids))})

    def purge(self, seen_before: int, limit: int) -> dict[str, int]:
        """See ``ObservedTx.purge``."""
        found: list[tuple[Any, ...]] = []
        for statement in self._statements.old:
            found += statement.rows(self._cursor, {"before": seen_before, "batch": limit})
        if not found:
            return {}
        self._wrote()
        self._statements.delete.change(self._cursor, {"ids": json.dumps([row[0] for row in found])})
        gone: dict[str, int] = {}
        for _, state in found:
            gone[state] = gone.get(state, 0) + 1
        return gone


def _kind(values: Sequence[Any], found: Sequence[Any] | None) -> int:
    """Which of the updates writes all that changed: 0 moved, 1 ended too, 2 everything."""
    if found is None or _DESCRIBING(values) != _DESCRIBING(found):
        return 2
    return int(_ENDING(values) != _ENDING(found))


def _places(statement: ManyRows) -> itemgetter[Any]:
    """Picks the values of an update from those of all columns."""
    return itemgetter(*(COLUMNS.index("id" if name == "of_id" else name) for name in statement.columns))
