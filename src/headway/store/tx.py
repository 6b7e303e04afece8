"""One transaction: the statements behind the ``Tx`` port."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from operator import itemgetter
from typing import Any

from headway.model.commands import BeatAnswer, BeatReport, Begun, NewLogLine
from headway.model.job import Job, Session
from headway.model.states import BY_VERB, JobState, Verb
from headway.ports.store import EndedAttempt, EndedJob, Lapsed, Move, Moved, TransitionRefused
from headway.store.delivery_tx import SqlDeliveryTx
from headway.store.joins import SqlJoinTx
from headway.store.observed_tx import SqlObservedTx
from headway.store.prepared import Cursor
from headway.store.rows import JOB_COLUMNS, JobRow, to_job
from headway.store.statements import Statements
from headway.store.transitions import Claimed, to_begun

KEPT_LOG_LINES = 10_000
_LOG_TRIM_EVERY = 500
_PLAIN_WORKER = {"kind": "embedded", "pool": None, "queues": None}
_CUSTOM_STATE = 50


# All but the last: a new job has no result.
_STORED = itemgetter(*(column.name for column in JOB_COLUMNS[:-1]))
_EVENT_WORDS = {verb: (BY_VERB[verb].event, verb.value) for verb in Verb}
_NUL, _SURROGATES = "\x00", re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """The text without what a database cannot hold: NUL, and halves of surrogate pairs."""
    if _NUL in text:
        text = text.replace(_NUL, "\ufffd")
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


class SqlTx:
    """The ``Tx`` port over one connection inside one transaction.

    What answers nothing (events, attempts, audit, labels) is collected and written at the commit, in one round trip.

    Args:
        cursor: of a connection whose transaction has begun.
        statements: the store's prepared statements.
        now: the store's time for the whole transaction, UTC microseconds.
        delivers: whether a job that becomes ready is to be sent to a broker.
    """

    def __init__(self, cursor: Cursor, statements: Statements, now: int, *, delivers: bool = False) -> None:
        self._cursor = cursor
        self._statements = statements
        self._now = now
        self._events: list[tuple[Any, ...]] = []
        self._begun: list[tuple[Any, ...]] = []
        self._ended: list[tuple[Any, ...]] = []
        self._labels: list[tuple[Any, ...]] = []
        self._audited: list[tuple[Any, ...]] = []
        # Whether each job that moved is to be delivered now; None where nothing is delivered.
        self._ready: dict[str, bool] | None = {} if delivers else None
        self._parts_ended: list[EndedJob] = []
        self.writes = 0
        self.made_ready = False

    def now(self) -> int:
        """See ``Tx.now``."""
        return self._now

    @property
    def observed(self) -> SqlObservedTx:
        """See ``Tx.observed``."""
        return SqlObservedTx(self._cursor, self._statements.observed, self._wrote)

    @property
    def deliveries(self) -> SqlDeliveryTx:
        """See ``Tx.deliveries``."""
        return SqlDeliveryTx(self._cursor, self._statements.deliveries, self._now, self._wrote)

    @property
    def joins(self) -> SqlJoinTx:
        """See ``Tx.joins``."""
        return SqlJoinTx(self._cursor, self._statements.joins, self._now, self._wrote)

    def take_ended(self) -> list[EndedJob]:
        """See ``Tx.take_ended``."""
        ended, self._parts_ended = self._parts_ended, []
        return ended

    def _wrote(self) -> None:
        self.writes += 1

    # The way of one job

    def insert_jobs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See ``Tx.insert_jobs``."""
        self.writes += 1
        self._statements.transitions.insert(self._cursor, rows)
        self._created(rows)

    def insert_new(self, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """See ``Tx.insert_new``."""
        new = self._statements.transitions.insert_new(self._cursor, rows)
        # What is known already is refused or answered without harm to the neighbours in the group.
        self.writes += any(new)
        self._created([row for row, is_new in zip(rows, new, strict=True) if is_new])
        return new

    def _created(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            verb = Verb.SUBMIT if row["state"] == JobState.QUEUED else Verb.SCHEDULE
            self.made_ready = self.made_ready or verb is Verb.SUBMIT
            if self._ready is not None and verb is Verb.SUBMIT:
                self._ready[row["id"]] = True
            self._event(row["id"], row["task"], verb, 0, 0, row["actor"], None)
            if row["labels"]:
                self._labels += [
                    (name, value, row["submitted_at"], row["id"]) for name, value in json.loads(row["labels"]).items()
                ]

    def inserted(self, row: Mapping[str, Any]) -> Job:
        """See ``Tx.inserted``."""
        return to_job(JobRow._make((*_STORED(row), False)))

    def find_idempotent(self, scope: str, key: str) -> tuple[str, str] | None:
        """See ``Tx.find_idempotent``."""
        found = self._statements.find_key.rows(self._cursor, {"scope": scope, "key": key})
        return (found[0][0], found[0][1]) if found else None

    def fingerprint(self, job_id: str) -> str | None:
        """See ``Tx.fingerprint``."""
        found: str | None = self._statements.fingerprint.value(self._cursor, {"job_id": job_id})
        return found

    def move(self, move: Move, actor: str) -> Moved | TransitionRefused:
        """See ``Tx.move``."""
        self.writes += 1
        return self._recorded(move, self._statements.transitions.move(self._cursor, move, self._now), actor)

    def move_many(self, moves: Sequence[Move], actor: str) -> list[Moved | TransitionRefused]:
        """See ``Tx.move_many``."""
        self.writes += 1
        answers = self._statements.transitions.move_many(self._cursor, moves, self._now)
        return [self._recorded(move, answer, actor) for move, answer in zip(moves, answers, strict=True)]

    def _recorded(
        self, move: Move, answer: tuple[Moved, str] | TransitionRefused, actor: str
    ) -> Moved | TransitionRefused:
        if isinstance(answer, TransitionRefused):
            return answer
        moved, task = answer
        ready = moved.state is JobState.QUEUED
        self.made_ready = self.made_ready or ready
        if self._ready is not None and (ready or not BY_VERB[move.verb].needs_fence):
            self._ready[move.job_id] = ready
        if not ready and (moved.join_id is not None or moved.canvas is not None):
            self._parts_ended.append(EndedJob(moved, move.changes.get("error")))
        self._event(move.job_id, task, move.verb, moved.attempts, moved.fence, actor, move.data)
        return moved

    def claim(self, worker_id: str, limit: int, actor: str) -> list[Begun]:
        """See ``Tx.claim``."""
        self.writes += 1
        taken = self._statements.transitions.claim(self._cursor, worker_id, limit, self._now)
        return [self._began(row, worker_id, actor) for row in taken]

    def begin_job(self, worker_id: str, job_id: str, actor: str) -> Begun | None:
        """See ``Tx.begin_job``."""
        self.writes += 1
        row = self._statements.transitions.begin(self._cursor, worker_id, job_id, self._now)
        return None if row is None else self._began(row, worker_id, actor)

    def _began(self, row: Claimed, worker_id: str, actor: str) -> Begun:
        now = self._now
        self._begun.append(
            (
                row.id, row.fence, row.attempts, row.next_task, row.next_args, row.next_kwargs,
                worker_id, now, None, None, None,
            )
        )  # fmt: skip
        self._event(row.id, row.next_task or row.task, Verb.BEGIN, row.attempts, row.fence, actor, None)
        if self._ready is not None:
            self._ready[row.id] = False
        return to_begun(row, now)

    def any_ready(self) -> bool:
        """See ``Tx.any_ready``."""
        return self._statements.transitions.any_ready(self._cursor, self._now)

    def end_attempts(self, ended: Sequence[EndedAttempt]) -> None:
        """See ``Tx.end_attempts``."""
        self.writes += 1
        now = self._now
        self._ended += [(now, one.outcome, one.error_json, one.job_id, one.fence) for one in ended]

    def attempt_ended(self, job_id: str, fence: int) -> str | None:
        """See ``Tx.attempt_ended``."""
        self._write_attempts()
        found: str | None = self._statements.attempt_outcome.value(self._cursor, {"of_job": job_id, "of_fence": fence})
        return found

    def request_cancel(self, job_id: str, reason: str) -> int | None:
        """See ``Tx.request_cancel``."""
        self.writes += 1
        fence: int | None = self._statements.request_cancel.value(self._cursor, {"job_id": job_id, "now": self._now})
        return fence

    def beat(self, worker_id: str, reports: Sequence[BeatReport]) -> BeatAnswer:
        """See ``Tx.beat``."""
        self.writes += 1
        self._statements.renew_worker.change(self._cursor, {"worker": worker_id, "now": self._now})
        if not reports:
            return BeatAnswer(frozenset(), frozenset())
        self._cursor.execute(
            self._statements.beat,
            {"now": self._now, "worker": worker_id, "reports": json.dumps([_report(r) for r in reports])},
        )
        found = self._cursor.fetchall()
        held = {(row[0], row[1]) for row in found}
        return BeatAnswer(
            cancel_requested=frozenset((row[0], row[1]) for row in found if row[2] is not None),
            superseded=frozenset((r.job_id, r.fence) for r in reports) - held,
        )

    # The long-running parts

    def lapsed(self, before: int, limit: int) -> list[Lapsed]:
        """See ``Tx.lapsed``."""
        return [
            Lapsed(job_id, fence, tries, rescues, worker_id, cancelled is not None, expires_at)
            for job_id, fence, tries, rescues, worker_id, cancelled, expires_at in self._statements.lapsed.rows(
                self._cursor, {"before": before, "batch": limit}
            )
        ]

    def due(self, now: int, limit: int) -> list[tuple[str, JobState]]:
        """See ``Tx.due``."""
        found = self._statements.due.rows(self._cursor, {"now": now, "batch": limit})
        return [(row[0], JobState(row[1])) for row in found]

    def expired(self, now: int, limit: int) -> list[str]:
        """See ``Tx.expired``."""
        return [row[0] for row in self._statements.expired.rows(self._cursor, {"now": now, "batch": limit})]

    def release(self, job_id: str, fence: int) -> None:
        """See ``Tx.release``."""
        self.writes += 1
        self.made_ready = True
        self._statements.release.change(self._cursor, {"job_id": job_id, "of_fence": fence})

    def add_log(self, lines: Sequence[NewLogLine]) -> None:
        """See ``Tx.add_log``."""
        self.writes += 1
        self._statements.insert_logs.run(
            self._cursor, [(line.job_id, line.fence, line.at, line.stream, storable(line.text)) for line in lines]
        )
        for job_id in {line.job_id for line in lines}:
            self._trim_log(job_id)

    def _trim_log(self, job_id: str) -> None:
        # Cutting a step at a time: the cut is looked for in an index and found once in 500 lines.
        find = self._statements.log_cut
        if find.value(self._cursor, {"job_id": job_id, "keep": KEPT_LOG_LINES + _LOG_TRIM_EVERY}) is None:
            return
        first = find.value(self._cursor, {"job_id": job_id, "keep": KEPT_LOG_LINES})
        self._statements.delete_log_before.change(self._cursor, {"job_id": job_id, "first": first})
        notice = f"[headway] older lines were removed: a job keeps its newest {KEPT_LOG_LINES:,}"
        self._statements.set_log_text.change(self._cursor, {"line": first, "new_text": notice})

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
        now = self._now
        self._audited += [
            (
                now, actor, verb, subject, storable(reason),
                json.dumps(before) if before is not None else None,
                json.dumps(after) if after is not None else None,
                trace_id,
            )
            for actor, verb, subject, reason, before, after, trace_id in rows
        ]  # fmt: skip

    def clear_result(self, job_id: str) -> str | None:
        """See ``Tx.clear_result``."""
        self.writes += 1
        ref: str | None = self._statements.result_ref.value(self._cursor, {"job_id": job_id})
        self._statements.clear_result.change(self._cursor, {"job_id": job_id, "now": self._now})
        return ref

    def purge(self, finished_before: int, limit: int) -> tuple[int, list[str]]:
        """See ``Tx.purge``."""
        self.writes += 1
        statements, cursor = self._statements, self._cursor
        chosen = statements.purgeable.rows(cursor, {"before": finished_before, "batch": limit})
        if not chosen:
            return 0, []
        given = {"ids": json.dumps([row[0] for row in chosen])}
        last = statements.last_position.value(cursor, given)
        for delete in statements.delete_of_jobs:
            delete.change(cursor, given)
        statements.mark_purged.change(cursor, {"at_least": last or 0})
        return len(chosen), [row[1] for row in chosen if row[1]]

    def register_worker(self, worker_id: str, facts: Mapping[str, Any]) -> None:
        """See ``Tx.register_worker``."""
        self.writes += 1
        insert = self._statements.insert_worker
        row = {
            "id": worker_id,
            "started_at": self._now,
            "beat_at": self._now,
            "stopped_at": None,
            **_PLAIN_WORKER,
            **facts,
        }
        insert.run(self._cursor, [insert.pick(row)])

    def retire_worker(self, worker_id: str) -> None:
        """See ``Tx.retire_worker``."""
        self.writes += 1
        self.made_ready = True
        self._statements.release_all.change(self._cursor, {"worker": worker_id})
        self._statements.retire_worker.change(self._cursor, {"worker": worker_id, "now": self._now})

    def retire_silent(self, before: int) -> list[str]:
        """See ``Tx.retire_silent``."""
        self.writes += 1
        gone = self._statements.retire_silent.rows(self._cursor, {"before": before, "now": self._now})
        self.made_ready = self.made_ready or bool(gone)
        for (worker_id,) in gone:
            self._statements.release_all.change(self._cursor, {"worker": worker_id})
        return [worker_id for (worker_id,) in gone]

    # Sessions

    def save_session(self, session: Session, expected_version: int) -> bool:
        """See ``Tx.save_session``."""
        statements = self._statements
        body = json.dumps(session.body)
        if expected_version == 0:
            if statements.session_exists.value(self._cursor, {"of_session": session.id}) is not None:
                return False
            self.writes += 1
            row = {"id": session.id, "kind": session.kind, "body": body, "version": session.version}
            row |= {"created_at": self._now, "updated_at": self._now, "actor": session.actor}
            statements.insert_session.run(self._cursor, [statements.insert_session.pick(row)])
            return True
        self.writes += 1
        changed = statements.change_session.change(
            self._cursor,
            {
                "of_session": session.id,
                "expected": expected_version,
                "new_body": body,
                "new_version": session.version,
                "new_actor": session.actor,
                "now": self._now,
            },
        )
        return changed == 1

    def delete_session(self, session_id: str) -> bool:
        """See ``Tx.delete_session``."""
        self.writes += 1
        return self._statements.delete_session.change(self._cursor, {"of_session": session_id}) == 1

    def get(self, job_id: str) -> Job | None:
        """See ``Tx.get``."""
        found = self._statements.get_job.rows(self._cursor, {"job_id": job_id})
        return to_job(JobRow._make(found[0])) if found else None

    # At the commit

    def _event(
        self, job_id: str, task: str, verb: Verb, attempt: int, fence: int, actor: str, data: Mapping[str, Any] | None
    ) -> None:
        state, name = _EVENT_WORDS[verb]
        told = json.dumps(data) if data else None
        self._events.append((job_id, task, state, name, attempt, fence, actor, self._now, told))

    @property
    def pending_events(self) -> int:
        """How many events the transaction will write."""
        return len(self._events)

    def _write_attempts(self) -> None:
        if self._begun:
            self._statements.insert_attempts.run(self._cursor, self._begun)
            self._begun = []
        if self._ended:
            self._statements.end_attempts.run(self._cursor, self._ended)
            self._ended = []

    def flush(self, head: int | None) -> None:
        """Write what was collected; events numbered from ``head`` on when the caller holds the sequencer's lock."""
        if self._parts_ended:
            raise AssertionError(f"{len(self._parts_ended)} jobs ended, and what waits for them was not told")
        self._write_attempts()
        statements = self._statements
        if self._ready:
            self._write_deliveries(self._ready)
        if self._labels:
            statements.insert_labels.run(self._cursor, self._labels)
        if self._audited:
            statements.insert_audit.run(self._cursor, self._audited)
        if self._events:
            if head is None:
                numbered = [(None, *row) for row in self._events]
            else:
                numbered = [(place, place, *row) for place, row in enumerate(self._events, start=head + 1)]
            statements.insert_events.run(self._cursor, numbered)
        self._events, self._labels, self._audited = [], [], []

    def _write_deliveries(self, ready: dict[str, bool]) -> None:
        statements = self._statements.deliveries
        for wanted, statement in ((True, statements.write), (False, statements.remove)):
            ids = [job_id for job_id, is_ready in ready.items() if is_ready is wanted]
            if ids:
                statement.change(self._cursor, {"ids": json.dumps(ids)})
        self._ready = {}


def _report(report: BeatReport) -> list[Any]:
    # One report that the database refuses would cost every attempt of the worker its lease.
    progress = report.progress
    if progress is not None and not isfinite(progress.done):
        progress = None
    moved = (1 if progress is not None else 0) | (2 if report.custom_state is not None else 0)
    total = progress.total if progress else None
    return [
        report.job_id,
        report.fence,
        moved,
        progress.done if progress else None,
        total if total is None or isfinite(total) else None,
        storable(progress.message) if progress else None,
        storable(report.custom_state)[:_CUSTOM_STATE] if report.custom_state is not None else None,
        report.custom_meta_json,
    ]
