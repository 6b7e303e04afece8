"""The ``WorkerDoor`` over the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headway.model.commands import Begun, Finish, FinishAnswer, SubmitJob
from headway.model.states import AttemptOutcome, JobState
from headway.ports.store import Lapsed, Tx
from headway.ports.workerdoor import NotBegun
from headway.service.context import Context
from headway.service.door import StoreJobDoor
from headway.service.joins import settle
from headway.service.sending import insert_sent
from headway.service.upkeep import register_worker, retire_worker, take_over

_AGAIN_SECONDS = 1.0


class StoreWorkerDoor(StoreJobDoor):
    """See ``WorkerDoor``; every method is thread-safe.

    Args:
        ctx: the worker's context; its actor is written beside what it does.
        worker_id: under which attempts are begun.
    """

    def __init__(self, ctx: Context, worker_id: str) -> None:
        super().__init__(ctx, worker_id)
        self._actor = ctx.actor.name

    def begin_job(self, job_id: str, adopt: Callable[[], SubmitJob]) -> Begun | NotBegun:
        """See ``WorkerDoor.begin_job``."""
        store = self._services.store
        begun = store.begin_job(self._worker_id, job_id, self._actor)
        if begun is not None:
            return begun
        job = self.get(job_id)
        if job is None:
            command = adopt()

            def work(tx: Tx) -> Begun | None:
                insert_sent(self._ctx, tx, [command], ())
                return tx.begin_job(self._worker_id, job_id, self._actor)

            return store.write(work) or NotBegun.DUPLICATE
        if job.state is not JobState.QUEUED:
            return NotBegun.DUPLICATE

        def later(tx: Tx) -> Begun | None:
            # What kept it may be over by now.
            begun = tx.begin_job(self._worker_id, job_id, self._actor)
            if begun is None:
                tx.deliveries.put_back([job_id], tx.now() + int(_AGAIN_SECONDS * 1_000_000))
            return begun

        return store.write(later) or NotBegun.LATER

    def finish(self, finish: Finish) -> FinishAnswer:
        """See ``JobDoor.finish``: in one statement where nothing but the result is to be recorded."""
        if _plain(finish) and not self._services.endings.awaited(finish.job_id):
            body = finish.result_json
            if body is None or len(body) <= self._services.limits.inline_result_bytes:
                kept = None if body == "null" else body
                if self._services.store.succeed_job(finish.job_id, finish.fence, kept, self._actor):
                    self._services.signal.notify(f"job:{finish.job_id}")
                    return FinishAnswer(JobState.SUCCEEDED)
        return super().finish(finish)

    def lost(self, job_id: str, fence: int) -> None:
        """See ``WorkerDoor.lost``."""

        def work(tx: Tx) -> frozenset[str]:
            job = tx.get(job_id)
            if job is None or job.state is not JobState.RUNNING or job.fence != fence:
                return frozenset()
            asked = job.cancel_requested_at is not None
            lapsed = Lapsed(job_id, fence, job.attempts, job.rescues, self._worker_id, asked, job.expires_at)
            take_over(self._ctx, tx, lapsed)
            return settle(self._ctx, tx) | {f"job:{job_id}"}

        for topic in self._services.store.write(work):
            self._services.signal.notify(topic)

    def attempt(self, job_id: str, fence: int) -> Begun | None:
        """See ``WorkerDoor.attempt``."""
        return self._services.store.read(lambda reader: reader.running(job_id, fence))

    def received(self, job_ids: Sequence[str]) -> None:
        """See ``WorkerDoor.received``."""
        if job_ids:
            kept = tuple(job_ids)
            self._services.store.write(lambda tx: tx.deliveries.received(self._worker_id, kept))

    def arrive(self, facts: Mapping[str, object]) -> None:
        """See ``WorkerDoor.arrive``."""
        register_worker(self._ctx, self._worker_id, facts)

    def leave(self) -> None:
        """See ``WorkerDoor.leave``."""
        retire_worker(self._ctx, self._worker_id)


def _plain(finish: Finish) -> bool:
    begun = finish.begun
    return (
        finish.outcome is AttemptOutcome.SUCCEEDED
        and not (finish.sends or finish.joins or finish.grows or finish.held)
        and finish.progress is None
        and finish.children_json is None
        and begun is not None
        # The end of a part counts for its chord in the same transaction.
        and begun.join_id is None
    )
