"""One transaction: the statements behind the ``Tx`` port."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from headway.model.commands import BeatAnswer, BeatReport, Begun, NewLogLine
from headway.model.job import Job, Session
from headway.model.states import BY_VERB, JobState, Verb
from headway.ports.store import Lapsed, Moved, TransitionRefused
from headway.store.rows import to_job
from headway.store.statements import Statements
from headway.store.tables import attempts, events, job_labels, job_logs, jobs

KEPT_LOG_LINES = 10_000
_LOG_TRIM_EVERY = 500


class SqlTx:
    """The ``Tx`` port over one connection inside one transaction.

    Args:
        connection: a connection whose transaction has begun.
        statements: the store's prepared statements.
        now: the store's time for the whole transaction, UTC microseconds.
    """

    def __init__(self, connection: Connection, statements: Statements, now: int) -> None:
        self._connection = connection
        self._statements = statements
        self._now = now
        self._events: list[dict[str, Any]] = []
        self.writes = 0

    def now(self) -> int:
        """See ``Tx.now``."""
        return self._now

    # The way of one job

    def insert_jobs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See ``Tx.insert_jobs``."""
        self.writes += 1
        self._statements.transitions.insert(self._connection, rows)
        labels = []
        for row in rows:
            verb = Verb.SUBMIT if row["state"] == JobState.QUEUED else Verb.SCHEDULE
            self._event(row["id"], row["task"], verb, attempt=0, fence=0, actor=row["actor"], data=None)
            if row["labels"]:
                labels += [
                    {"name": name, "value": value, "submitted_at": row["submitted_at"], "job_id": row["id"]}
                    for name, value in json.loads(row["labels"]).items()
                ]
        self._statements.insert_label.run_many(self._connection, labels)

    def find_idempotent(self, scope: str, key: str) -> tuple[str, str] | None:
        """See ``Tx.find_idempotent``."""
        found = self._statements.find_key.fetch(self._connection, {"scope": scope, "key": key})
        return (found[0][0], found[0][1]) if found else None

    def fingerprint(self, job_id: str) -> str | None:
        """See ``Tx.fingerprint``."""
        found = self._statements.fingerprint.fetch(self._connection, {"job_id": job_id})
        return found[0][0] if found else None

    def move(
        self,
        verb: Verb,
        job_id: str,
        *,
        actor: str,
        fence: int | None = None,
        changes: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        unless_cancelling: bool = False,
    ) -> Moved | TransitionRefused:
        """See ``Tx.move``."""
        self.writes += 1
        answer = self._statements.transitions.move(
            self._connection,
            verb,
            job_id,
            self._now,
            fence=fence,
            changes=changes or {},
            unless_cancelling=unless_cancelling,
        )
        if isinstance(answer, TransitionRefused):
            return answer
        moved, task = answer
        self._event(job_id, task, verb, attempt=moved.attempts, fence=moved.fence, actor=actor, data=data)
        return moved

    def claim(self, worker_id: str, limit: int, actor: str) -> list[Begun]:
        """See ``Tx.claim``."""
        self.writes += 1
        begun = self._statements.transitions.claim(self._connection, worker_id, limit, self._now)
        for each in begun:
            self._event(
                each.job_id, each.task, Verb.BEGIN, attempt=each.attempt, fence=each.fence, actor=actor, data=None
            )
        return begun

    def end_attempt(self, job_id: str, fence: int, outcome: str, error_json: str | None) -> None:
        """See ``Tx.end_attempt``."""
        self.writes += 1
        self._statements.end_attempt.fetch(
            self._connection,
            {"of_job": job_id, "of_fence": fence, "new_outcome": outcome, "new_error": error_json, "now": self._now},
        )

    def attempt_ended(self, job_id: str, fence: int) -> str | None:
        """See ``Tx.attempt_ended``."""
        found = self._statements.attempt_outcome.run(self._connection, {"of_job": job_id, "of_fence": fence})
        return found.scalar()

    def request_cancel(self, job_id: str, reason: str) -> int | None:
        """See ``Tx.request_cancel``."""
        self.writes += 1
        return self._statements.request_cancel.run(self._connection, {"job_id": job_id, "now": self._now}).scalar()

    def beat(self, worker_id: str, reports: Sequence[BeatReport]) -> BeatAnswer:
        """See ``Tx.beat``."""
        self.writes += 1
        self._statements.renew_worker.run(self._connection, {"worker": worker_id, "now": self._now})
        if not reports:
            return BeatAnswer(frozenset(), frozenset())
        found = self._connection.exec_driver_sql(
            self._statements.beat,
            {"now": self._now, "worker": worker_id, "reports": json.dumps([_report(r) for r in reports])},
        ).fetchall()
        held = {(row[0], row[1]) for row in found}
        return BeatAnswer(
            cancel_requested=frozenset((row[0], row[1]) for row in found if row[2] is not None),
            superseded=frozenset((r.job_id, r.fence) for r in reports) - held,
        )

    # The long-running parts

    def lapsed(self, before: int, limit: int) -> list[Lapsed]:
        """See ``Tx.lapsed``."""
        rows = self._statements.lapsed.run(self._connection, {"before": before, "batch": limit}).fetchall()
        return [
            Lapsed(r.id, r.fence, r.attempts, r.rescues, r.worker_id, r.cancel_requested_at is not None, r.expires_at)
            for r in rows
        ]

    def due(self, now: int, limit: int) -> list[tuple[str, JobState]]:
        """See ``Tx.due``."""
        rows = self._statements.due.run(self._connection, {"now": now, "batch": limit}).fetchall()
        return [(row[0], JobState(row[1])) for row in rows]

    def expired(self, now: int, limit: int) -> list[str]:
        """See ``Tx.expired``."""
        rows = self._statements.expired.run(self._connection, {"now": now, "batch": limit}).fetchall()
        return [row[0] for row in rows]

    def release(self, job_id: str, fence: int) -> None:
        """See ``Tx.release``."""
        self.writes += 1
        self._statements.release.run(self._connection, {"job_id": job_id})

    def add_log(self, lines: Sequence[NewLogLine]) -> None:
        """See ``Tx.add_log``."""
        self.writes += 1
        self._statements.insert_log.run_many(
            self._connection,
            [
                {"job_id": line.job_id, "fence": line.fence, "at": line.at, "stream": line.stream, "text": line.text}
                for line in lines
            ],
        )
        for job_id in {line.job_id for line in lines}:
            self._trim_log(job_id)

    def _trim_log(self, job_id: str) -> None:
        # Cutting a step at a time: the cut is looked for in an index and found once in 500 lines.
        cut = self._statements.log_cut.run(
            self._connection, {"job_id": job_id, "keep": KEPT_LOG_LINES + _LOG_TRIM_EVERY}
        ).scalar()
        if cut is None:
            return
        first = self._statements.log_cut.run(self._connection, {"job_id": job_id, "keep": KEPT_LOG_LINES}).scalar()
        self._statements.delete_log_before.run(self._connection, {"job_id": job_id, "first": first})
        notice = f"[headway] older lines were removed: a job keeps its newest {KEPT_LOG_LINES:,}"
        self._connection.execute(sa.update(job_logs).where(job_logs.c.id == first).values(stream="log", text=notice))

    def audit(
        self,
        actor: str,
        verb: str,
        subject: str,
        *,
        reason: str = "",
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        trace_id: str | None = None,
    ) -> None:
        """See ``Tx.audit``."""
        self.audit_many([(actor, verb, subject, reason, before, after, trace_id)])

    def audit_many(
        self, rows: Sequence[tuple[str, str, str, str, Mapping[str, Any] | None, Mapping[str, Any] | None, str | None]]
    ) -> None:
        """See ``Tx.audit_many``."""
        self.writes += 1
        self._statements.insert_audit.run_many(
            self._connection,
            [
                {
                    "at": self._now,
                    "actor": actor,
                    "verb": verb,
                    "subject": subject,
                    "reason": reason,
                    "before": json.dumps(before) if before is not None else None,
                    "after": json.dumps(after) if after is not None else None,
                    "trace_id": trace_id,
                }
                for actor, verb, subject, reason, before, after, trace_id in rows
            ],
        )

    def clear_result(self, job_id: str) -> str | None:
        """See ``Tx.clear_result``."""
        self.writes += 1
        ref = self._statements.result_ref.run(self._connection, {"job_id": job_id}).scalar()
        self._statements.clear_result.run(self._connection, {"job_id": job_id, "now": self._now})
        return ref

    def purge(self, finished_before: int, limit: int) -> tuple[int, list[str]]:
        """See ``Tx.purge``."""
        self.writes += 1
        chosen = self._connection.execute(
            sa.select(jobs.c.id, jobs.c.result_blob)
            .where(jobs.c.finished_at.is_not(None), jobs.c.finished_at < finished_before)
            .order_by(jobs.c.finished_at)
            .limit(limit)
        ).fetchall()
        ids = [row[0] for row in chosen]
        if not ids:
            return 0, []
        last = self._connection.execute(sa.select(sa.func.max(events.c.pos)).where(events.c.job_id.in_(ids))).scalar()
        for table in (events, attempts, job_logs, job_labels):
            self._connection.execute(sa.delete(table).where(table.c.job_id.in_(ids)))
        self._connection.execute(sa.delete(jobs).where(jobs.c.id.in_(ids)))
        purged = self._statements.read_counter.run(self._connection, {"counter": "purged"}).scalar() or 0
        self._statements.set_counter.run(self._connection, {"counter": "purged", "new_value": max(purged, last or 0)})
        return len(ids), [row[1] for row in chosen if row[1]]

    def register_worker(self, worker_id: str, facts: Mapping[str, Any]) -> None:
        """See ``Tx.register_worker``."""
        self.writes += 1
        row = {"id": worker_id, "started_at": self._now, "beat_at": self._now, "stopped_at": None, **facts}
        self._statements.insert_worker.run(self._connection, row)

    def retire_worker(self, worker_id: str) -> None:
        """See ``Tx.retire_worker``."""
        self.writes += 1
        self._statements.release_all.run(self._connection, {"worker": worker_id})
        self._statements.retire_worker.run(self._connection, {"worker": worker_id, "now": self._now})

    # Sessions

    def save_session(self, session: Session, expected_version: int) -> bool:
        """See ``Tx.save_session``."""
        body = json.dumps(session.body)
        if expected_version == 0:
            found = self._connection.exec_driver_sql(
                f"SELECT 1 FROM sessions WHERE id = {self._statements.facts.parameter('id')}", {"id": session.id}
            ).first()
            if found is not None:
                return False
            self.writes += 1
            row = {"id": session.id, "kind": session.kind, "body": body, "version": session.version}
            row |= {"created_at": self._now, "updated_at": self._now, "actor": session.actor}
            self._statements.insert_session.run(self._connection, row)
            return True
        self.writes += 1
        changed = self._statements.change_session.run(
            self._connection,
            {
                "of_session": session.id,
                "expected": expected_version,
                "new_body": body,
                "new_version": session.version,
                "new_actor": session.actor,
                "now": self._now,
            },
        )
        return changed.rowcount == 1

    def delete_session(self, session_id: str) -> bool:
        """See ``Tx.delete_session``."""
        self.writes += 1
        return self._statements.delete_session.run(self._connection, {"of_session": session_id}).rowcount == 1

    def get(self, job_id: str) -> Job | None:
        """See ``Tx.get``."""
        row = self._statements.get_job.run(self._connection, {"job_id": job_id}).first()
        return to_job(row) if row else None

    # Events

    def _event(
        self,
        job_id: str,
        task: str,
        verb: Verb,
        *,
        attempt: int,
        fence: int,
        actor: str,
        data: Mapping[str, Any] | None,
    ) -> None:
        self._events.append(
            {
                "pos": None,
                "job_id": job_id,
                "task": task,
                "state": BY_VERB[verb].event,
                "verb": str(verb),
                "attempt": attempt,
                "fence": fence,
                "actor": actor,
                "at": self._now,
                "data": json.dumps(data) if data else None,
            }
        )

    @property
    def has_events(self) -> bool:
        """Whether there are events to write."""
        return bool(self._events)

    def flush(self, head: int | None) -> int:
        """Write the collected events, numbered from ``head`` on when the caller holds the sequencer's lock.

        Returns:
            How many events were written.
        """
        if head is not None:
            for step, row in enumerate(self._events, start=1):
                row["pos"] = head + step
        self._statements.insert_event.run_many(self._connection, self._events)
        count = len(self._events)
        self._events = []
        return count


def _report(report: BeatReport) -> list[Any]:
    moved = (1 if report.progress is not None else 0) | (2 if report.custom_state is not None else 0)
    progress = report.progress
    return [
        report.job_id,
        report.fence,
        moved,
        progress.done if progress else None,
        progress.total if progress else None,
        progress.message if progress else None,
        report.custom_state,
        report.custom_meta_json,
    ]
