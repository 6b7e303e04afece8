"""The ``JobDoor`` over the store: how engines begin, beat and finish, and how tasks submit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from headway.model.commands import BeatAnswer, BeatReport, Begun, Finish, FinishAnswer, NewJoin, NewLogLine, SubmitJob
from headway.model.errors import JobHasNoResult, JobNotFound, ResultNotReady
from headway.model.job import Job
from headway.model.states import TERMINAL_STATES, JobState
from headway.ports.store import Tx
from headway.service import jobs, workflows
from headway.service.attempts import finish_all
from headway.service.context import Context
from headway.service.deliveries import purge_queue

_SHARED_POLL_SECONDS = 1.0
_LONG_WAIT_SECONDS = 3600.0
_JUST_SENT_SECONDS = 0.003


class StoreJobDoor:
    """See ``JobDoor``; every method is thread-safe.

    Args:
        ctx: the engine's context; its actor is written beside what it does.
        worker_id: under which attempts are begun; its row must be registered.
    """

    def __init__(self, ctx: Context, worker_id: str) -> None:
        self._ctx = ctx
        self._services = ctx.services
        self._worker_id = worker_id
        self._drained: int | None = None
        self._sent = threading.local()
        self._refs: dict[tuple[str, int], str] = {}

    def begin(self, limit: int) -> list[Begun]:
        """See ``JobDoor.begin``."""
        return self.finish_and_begin((), limit)[1]

    def finish(self, finish: Finish) -> FinishAnswer:
        """See ``JobDoor.finish``."""
        return self.finish_and_begin((finish,), 0)[0][0]

    def finish_and_begin(self, finishes: Sequence[Finish], limit: int) -> tuple[list[FinishAnswer], list[Begun]]:
        """See ``JobDoor.finish_and_begin``."""
        ctx, signal = self._ctx, self._services.signal
        # Before the claim looks at the queue: what is queued after this moment ends await_work.
        ticket = signal.ticket("work")
        known_empty = self._drained == ticket
        refs = [self._claim_check(finish) for finish in finishes]

        def work(tx: Tx) -> tuple[list[FinishAnswer], list[Job], list[Begun], bool, frozenset[str]]:
            answers, woken = finish_all(ctx, tx, finishes, refs, self._worker_id) if finishes else ([], frozenset())
            looks = limit > 0 and not (finishes and known_empty and not tx.made_ready)
            begun = tx.claim(self._worker_id, limit, ctx.actor.name) if looks else []
            return answers, self._awaited(tx, finishes, answers), begun, looks, woken

        answers, ended, begun, looked, woken = self._services.store.write(work)
        for job in ended:
            self._services.endings.hand_over(job)
        if looked:
            # Fewer than asked for: the queue is empty until somebody says otherwise, and nobody need look again.
            self._drained = ticket if len(begun) < limit else None
        topics = set(woken)
        for finish, ref, answer in zip(finishes, refs, answers, strict=True):
            if ref is not None:
                self._refs.pop((finish.job_id, finish.fence), None)
                if answer.refused:
                    self._services.blobs.delete(ref)
            topics |= self._told(finish, answer)
        for topic in topics:
            signal.notify(topic)
        return answers, begun

    def beat(self, reports: Sequence[BeatReport]) -> BeatAnswer:
        """See ``JobDoor.beat``."""
        answer = self._services.store.write(lambda tx: tx.beat(self._worker_id, reports))
        if any(report.progress is not None or report.custom_state is not None for report in reports):
            self._services.signal.notify("progress")
        return answer

    def log(self, lines: Sequence[NewLogLine]) -> None:
        """See ``JobDoor.log``."""
        kept = tuple(lines)
        self._services.store.write_later(lambda tx: tx.add_log(kept))
        self._services.signal.notify("progress")

    def release(self, job_id: str, fence: int) -> None:
        """See ``JobDoor.release``."""
        self._services.store.write(lambda tx: tx.release(job_id, fence))

    def submit(self, command: SubmitJob) -> Job:
        """Accept one job; beyond the port, for who holds this door and wants more than the id."""
        job = jobs.submit_job(self._ctx, command)
        self._sent.last = job.id
        return job

    def submit_many(self, commands: Sequence[SubmitJob], joins: Sequence[NewJoin] = ()) -> list[str]:
        """See ``JobDoor.submit_many``."""
        ids = jobs.submit_batch(self._ctx, commands, joins)
        self._sent.last = ids[-1]
        return ids

    def get(self, job_id: str) -> Job | None:
        """See ``JobDoor.get``."""
        return self._services.store.read(lambda reader: reader.get(job_id))

    def result_json(self, job_id: str) -> str | None:
        """See ``JobDoor.result_json``."""
        try:
            return jobs.read_result(self._ctx, job_id)
        except (JobNotFound, ResultNotReady, JobHasNoResult):
            return None

    def forget(self, job_id: str) -> None:
        """See ``JobDoor.forget``."""
        jobs.forget_result(self._ctx, job_id)

    def save_group(self, group_id: str, result_json: str) -> None:
        """See ``JobDoor.save_group``."""
        workflows.save_group(self._ctx, group_id, result_json)

    def saved_group(self, group_id: str) -> str | None:
        """See ``JobDoor.saved_group``."""
        return workflows.saved_group(self._ctx, group_id)

    def delete_group(self, group_id: str) -> None:
        """See ``JobDoor.delete_group``."""
        workflows.delete_group(self._ctx, group_id)

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Cancel a job (what Celery calls revoke)."""
        return jobs.cancel_job(self._ctx, job_id, reason)

    def purge(self, queue: str) -> int:
        """Cancel what is queued there; how many jobs."""
        return purge_queue(self._ctx, queue)

    def wait(self, job_id: str, timeout: float | None) -> Job | None:
        """See ``JobDoor.wait``."""
        clock, signal = self._services.clock, self._services.signal
        ends = None if timeout is None else clock.monotonic() + timeout
        topic = f"job:{job_id}"
        # Other processes cannot wake this one for a single job: a shared store is looked at once a second too.
        net = _SHARED_POLL_SECONDS if self._services.store.shared else _LONG_WAIT_SECONDS
        with signal.follow(topic), self._services.endings.expect(job_id) as seat:
            if getattr(self._sent, "last", None) == job_id:
                # Just sent by this thread: looking now would take the interpreter from the slot that runs it.
                self._sent.last = None
                pause = _JUST_SENT_SECONDS if timeout is None else min(_JUST_SENT_SECONDS, max(timeout, 0.0))
                signal.wait(topic, signal.ticket(topic), pause)
            while True:
                ticket = signal.ticket(topic)
                job = seat.job or self.get(job_id)
                if job is None or job.state in TERMINAL_STATES:
                    return job
                left = net if ends is None else min(net, ends - clock.monotonic())
                if left <= 0:
                    return job
                signal.wait(topic, ticket, left)

    def await_work(self, limit: Callable[[], int], timeout: float) -> list[Begun]:
        """See ``JobDoor.await_work``."""
        signal, drained = self._services.signal, self._drained
        if drained is None:
            return []

        def work(tx: Tx) -> tuple[int | None, list[Begun]]:
            ticket, wanted = signal.ticket("work"), limit()
            if wanted <= 0:
                return None, []
            begun = tx.claim(self._worker_id, wanted, self._ctx.actor.name)
            # The commit itself says "work" once more: nothing that this claim has not seen.
            return (ticket + 1 if len(begun) < wanted or not tx.any_ready() else None), begun

        ride = self._services.store.stand_by(work)
        try:
            signal.wait("work", drained, timeout)
        finally:
            taken = ride.leave()
        if taken is None:
            return []
        self._drained, begun = taken
        return begun

    def _awaited(self, tx: Tx, finishes: Sequence[Finish], answers: Sequence[FinishAnswer]) -> list[Job]:
        """The jobs that have ended and that somebody here waits for."""
        endings = self._services.endings
        found = []
        for finish, answer in zip(finishes, answers, strict=True):
            if answer.state in TERMINAL_STATES and endings.awaited(finish.job_id):
                job = tx.get(finish.job_id)
                if job is not None:
                    found.append(job)
        return found

    def _claim_check(self, finish: Finish) -> str | None:
        # Before the transaction: a crash leaves an orphaned file, never a row that names nothing.
        body = finish.result_json
        if body is None or len(body) <= self._services.limits.inline_result_bytes:
            return None
        # A finish is repeated while the database is away, and its result is still the same.
        key = (finish.job_id, finish.fence)
        ref = self._refs.get(key)
        if ref is None:
            ref = self._refs[key] = self._services.blobs.put(body.encode())
        return ref

    def _told(self, finish: Finish, answer: FinishAnswer) -> set[str]:
        """The topics that must be told of a finish."""
        topics = {"due" for send in finish.sends if send.run_at is not None}
        if answer.state in TERMINAL_STATES:
            topics |= {f"job:{finish.job_id}", "ended"}
        elif answer.state is JobState.RETRY_SCHEDULED:
            topics.add("due")
        return topics
