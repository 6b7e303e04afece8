"""The ``ObservationDoor`` over the store: how what an observer heard becomes tasks, counts and counters."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from headway.model.evidence import Evidence, ObservedTask, settle, take
from headway.model.observed import Gap, ObservedQueue, ObservedWorker, Observer, Tally
from headway.model.sayings import COUNTED, Said
from headway.ports.observations import Batch, Recorded
from headway.ports.store import Tx
from headway.service.context import Context
from headway.service.gaps import begin_watching, gaps_left, judge_gaps

log = structlog.get_logger("headway.observations")
_PURGED_AT_ONCE: Final = 500
_REMEMBERED: Final = 4_000
_REMEMBERED_MICROSECONDS: Final = 600_000_000

RUNTIME_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds, as celery-exporter has them."""

OTHER: Final = "(other)"
"""What a label says once there are too many of them."""

MAX_SERIES: Final = 2_000
MAX_EXCEPTIONS: Final = 200
_LABEL_CHARS: Final = 200
_UNSAID_QUEUE: Final = "celery"
_ASKED = frozenset({Said.SEEN_RUNNING, Said.SEEN_WAITING})
_FOUND_OUT = frozenset(said for said in Said if said.value.startswith("result_"))
# A task that is seen running at every look is written again at most so often.
_RESIGHT_MICROSECONDS: Final = 5_000_000


class StoreObservationDoor:
    """See ``ObservationDoor``.

    Args:
        ctx: of the observer's part.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._services = ctx.services
        self._observer: Observer | None = None
        self._series: set[tuple[str, str, str]] | None = None
        self._exceptions: set[str] = set()
        # Recorded by several threads of an observer; what is remembered must be what the database has.
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, ObservedTask] = OrderedDict()
        self._unsure: list[Gap] = []

    def begin(self, observer_id: str, facts: Mapping[str, Any]) -> Gap | None:
        """See ``ObservationDoor.begin``."""
        now = self._services.clock.now()
        gap_id = self._services.ids.new_id()
        start = self._services.store.write(lambda tx: begin_watching(tx, observer_id, facts, now, gap_id))
        with self._lock:
            self._observer, self._unsure = start.observer, start.unsure
        return start.gap

    def end(self) -> None:
        """See ``ObservationDoor.end``."""
        observer = self._mine()
        now = self._services.clock.now()
        ended = replace(observer, stopped_at=now)
        self._services.store.write(lambda tx: tx.observed.put_observer(ended))

    def record(self, batch: Batch) -> Recorded:
        """See ``ObservationDoor.record``."""
        if self._series is None:
            known = self._services.store.read(lambda reader: reader.observed.tallies())
            self._series = {(one.name, one.worker, one.queue) for one in known}
            self._exceptions = {one.label for one in known if one.kind == Said.FAILED}
        with self._lock:
            observer = self._mine()
            if batch.watermark_at is not None:
                observer = replace(
                    observer,
                    watermark_at=max(observer.watermark_at, batch.watermark_at),
                    facts={**observer.facts, **batch.facts},
                )
            cached = self._remembered(batch)
            merge, unsure = self._services.store.write(lambda tx: self._record(tx, batch, observer, cached))
            self._observer = observer
            if not self._services.store.shared:
                self._remember(merge)
            if len(unsure) < len(self._unsure):
                # Tasks were marked.
                self._unsure = unsure
                self._recent.clear()
        return Recorded(merge.fresh, merge.duplicates, merge.of_jobs)

    def _remembered(self, batch: Batch) -> dict[str, ObservedTask]:
        oldest = batch.seen_at - _REMEMBERED_MICROSECONDS
        found = ((one.task_id, self._recent.get(one.task_id)) for one in batch.evidence)
        # What nobody has heard of for long may have been removed by retention.
        return {task_id: task for task_id, task in found if task is not None and task.seen_at > oldest}

    def _remember(self, merge: _Merge) -> None:
        """Keep tasks that go on: while nobody else writes, they need not be read again."""
        recent = self._recent
        for task in (*merge.new, *merge.changed):
            recent.pop(task.id, None)
            if not task.ended:
                recent[task.id] = task
        while len(recent) > _REMEMBERED:
            recent.popitem(last=False)

    def _mine(self) -> Observer:
        if self._observer is None:
            raise RuntimeError("begin() comes first")
        return self._observer

    def _record(
        self, tx: Tx, batch: Batch, observer: Observer, cached: Mapping[str, ObservedTask]
    ) -> tuple[_Merge, list[Gap]]:
        observed = tx.observed
        observed.lock()
        merge = _Merge(tx, batch, cached)
        if batch.evidence:
            merge.take_all()
            observed.put_tasks(merge.new, merge.changed)
            observed.add_counts(merge.counts)
            observed.add_tallies(self._tallies(merge.counted))
        if batch.workers:
            observed.put_workers(list(_merged_workers(observed.workers(), batch.workers)))
        unsure = self._unsure
        if batch.watermark_at is not None:
            observed.put_observer(observer)
            if unsure:
                unsure = judge_gaps(tx, unsure, self._services.clock.now())
        return merge, unsure

    def _tallies(self, counted: Iterable[tuple[ObservedTask, Evidence]]) -> list[Tally]:
        # First by what was said, then by labels: a batch says little that is different.
        said: Counter[tuple[Said, str | None, str, str | None, str]] = Counter()
        runtimes: dict[tuple[str | None, str, str | None], list[float]] = {}
        for task, evidence in counted:
            kind, worker, facts = evidence.said, evidence.worker, evidence.facts
            exception = self._exception(facts.get("error")) if kind is Said.FAILED else ""
            said[(kind, task.name, worker, task.queue, exception)] += 1
            if kind is Said.SUCCEEDED and "runtime" in facts:
                runtimes.setdefault((task.name, worker, task.queue), []).append(facts["runtime"])
        values: dict[tuple[str, str, str, str, str], float] = {}
        for (kind, name, worker, queue, exception), count in said.items():
            shown = Said.REJECTED if kind is Said.REQUEUED else kind
            _add(values, (shown.value, *self._labels(name, worker, queue), exception), count)
        for (name, worker, queue), seconds in runtimes.items():
            labels = self._labels(name, worker, queue)
            _add(values, ("runtime_sum", *labels, ""), sum(seconds))
            for one in seconds:
                place = bisect_left(RUNTIME_BUCKETS, one)
                bound = str(RUNTIME_BUCKETS[place]) if place < len(RUNTIME_BUCKETS) else "+Inf"
                _add(values, ("runtime_bucket", *labels, bound), 1)
        return [Tally(*key, value) for key, value in sorted(values.items())]

    def _exception(self, error: str | None) -> str:
        name = exception_name(error)
        if name not in self._exceptions:
            if len(self._exceptions) >= MAX_EXCEPTIONS:
                return OTHER
            self._exceptions.add(name)
        return name

    def _labels(self, name: str | None, worker: str, queue: str | None) -> tuple[str, str, str]:
        labels = (
            (name or "")[:_LABEL_CHARS],
            worker.rpartition("@")[2][:_LABEL_CHARS],
            (queue or _UNSAID_QUEUE)[:_LABEL_CHARS],
        )
        assert self._series is not None
        if labels not in self._series:
            if len(self._series) >= MAX_SERIES:
                return (OTHER, OTHER, OTHER)
            self._series.add(labels)
        return labels

    def queues(self, queues: Sequence[ObservedQueue]) -> None:
        """See ``ObservationDoor.queues``."""
        if queues:
            self._services.store.write(lambda tx: tx.observed.put_queues(queues))

    def open_gap(self, reason: str, began_at: int, lost: int = 0) -> Gap:
        """See ``ObservationDoor.open_gap``."""
        gap = Gap(self._services.ids.new_id(), self._mine().id, reason, began_at, lost=lost)

        def work(tx: Tx) -> Gap:
            for known in tx.observed.gaps_open():
                if replace(known, id=gap.id) == gap:
                    # Asked for again: the answer of the first time was lost.
                    return known
            tx.observed.put_gap(gap)
            return gap

        return self._services.store.write(work)

    def close_gap(self, gap: Gap, ended_at: int) -> Gap:
        """See ``ObservationDoor.close_gap``."""
        closed, now = replace(gap, ended_at=ended_at), self._services.clock.now()

        def work(tx: Tx) -> list[Gap]:
            tx.observed.lock()
            tx.observed.put_gap(closed)
            return judge_gaps(tx, [closed], now)

        with self._lock:
            self._unsure += self._services.store.write(work)
            self._recent.clear()
        return closed

    def left_open(self) -> list[Gap]:
        """See ``ObservationDoor.left_open``."""
        mine, now = self._mine().id, self._services.clock.now()
        return self._services.store.read(lambda reader: gaps_left(reader.observed, mine, now))

    def kept(self, gap: Gap, at: int) -> None:
        """See ``ObservationDoor.kept``."""

        def work(tx: Tx) -> None:
            if any(one.id == gap.id for one in tx.observed.gaps_open()):
                now = self._services.clock.now()
                tx.observed.put_gap(replace(gap, reason="kept_by_broker", ended_at=at, reconciled_at=now))

        self._services.store.write(work)

    def missed(self, ids: Sequence[str], began_at: int, seen_until: int, ended_at: int) -> Gap:
        """See ``ObservationDoor.missed``."""
        gap = Gap(self._services.ids.new_id(), self._mine().id, "missed_events", began_at, ended_at, ended_at)

        def work(tx: Tx) -> int:
            tx.observed.lock()
            # What was heard of after it was looked at is on its way.
            marked = tx.observed.mark_gap(gap.id, seen_until + 1, ids)
            if marked:
                tx.observed.put_gap(gap)
            return marked

        with self._lock:
            self._services.store.write(work)
            self._recent.clear()
        return gap

    def reconciled(self, until: int, recovered: int) -> None:
        """See ``ObservationDoor.reconciled``."""
        now = self._services.clock.now()

        def work(tx: Tx) -> None:
            tx.observed.lock()
            left = recovered
            for gap in tx.observed.gaps_unread():
                if gap.ended_at is not None and gap.ended_at <= until:
                    # What was found is told of one of them: nobody can say in which it lay.
                    tx.observed.put_gap(replace(gap, reconciled_at=now, recovered=gap.recovered + left))
                    left = 0

        self._services.store.write(work)

    def live(self, after: tuple[int, str], limit: int) -> list[ObservedTask]:
        """See ``ObservationDoor.live``."""
        return self._services.store.read(lambda reader: reader.observed.live(after, limit))

    def known(self, ids: Sequence[str]) -> dict[str, ObservedTask]:
        """See ``ObservationDoor.known``."""
        return self._services.store.read(lambda reader: reader.observed.tasks(ids))

    def oldest_waiting(self, queue: str) -> int | None:
        """See ``ObservationDoor.oldest_waiting``."""
        return self._services.store.read(lambda reader: reader.observed.oldest_waiting(queue))


def _add(values: dict[tuple[str, str, str, str, str], float], key: tuple[str, str, str, str, str], more: float) -> None:
    values[key] = values.get(key, 0.0) + more


class _Merge:
    """One batch put together with what is known of its tasks."""

    def __init__(self, tx: Tx, batch: Batch, cached: Mapping[str, ObservedTask]) -> None:
        self._tx = tx
        self._batch = batch
        self._cached = cached
        self.new: list[ObservedTask] = []
        self.changed: list[ObservedTask] = []
        self.counts: Counter[str] = Counter()
        self.counted: list[tuple[ObservedTask, Evidence]] = []
        self.fresh = self.duplicates = self.of_jobs = 0

    def take_all(self) -> None:
        evidence, seen_at = self._batch.evidence, self._batch.seen_at
        # In the order of their ids, as all others do.
        ids = sorted({one.task_id for one in evidence})
        ours = self._tx.observed.jobs_among(ids)
        # Copies: the transaction may be run again.
        known = {task_id: task.copy() for task_id, task in self._cached.items()}
        unknown = [task_id for task_id in ids if task_id not in known]
        if unknown:
            known.update(self._tx.observed.tasks(unknown))
        before = {task_id: task.state for task_id, task in known.items()}
        touched: set[str] = set()
        for one in evidence:
            if one.task_id in ours:
                self.of_jobs += 1
                continue
            task = known.get(one.task_id)
            if task is None:
                task = known[one.task_id] = _first_sight(one, seen_at)
            if take(task, one, seen_at):
                self.fresh += 1
                touched.add(task.id)
                if one.said in COUNTED:
                    self.counted.append((task, one))
                if one.said not in _FOUND_OUT:
                    # It was heard of since: whatever may have been missed, not its end.
                    task.gap = None
            else:
                self.duplicates += 1
                if one.said in _ASKED and (task.gap is not None or seen_at - task.seen_at > _RESIGHT_MICROSECONDS):
                    task.seen_at, task.gap = max(task.seen_at, seen_at), None
                    touched.add(task.id)
        for task_id in sorted(touched):
            task = known[task_id]
            settle(task)
            was = before.get(task_id)
            (self.new if was is None else self.changed).append(task)
            if was != task.state:
                self.counts[task.state] += 1
                if was is not None:
                    self.counts[was] -= 1


def _first_sight(evidence: Evidence, seen_at: int) -> ObservedTask:
    if evidence.said in _FOUND_OUT:
        # History of before: it belongs where it happened, not at the top of the list.
        return ObservedTask(evidence.task_id, seen_first_at=evidence.at or seen_at, seen_at=seen_at, source="results")
    source = "inspect" if evidence.said in _ASKED else "events"
    return ObservedTask(evidence.task_id, seen_first_at=seen_at, seen_at=seen_at, source=source)


def _merged_workers(known: Mapping[str, ObservedWorker], seen: Sequence[ObservedWorker]) -> Iterable[ObservedWorker]:
    merged: dict[str, ObservedWorker] = {}
    for one in seen:
        old = merged.get(one.hostname) or known.get(one.hostname)
        if old is None:
            merged[one.hostname] = one
            continue
        merged[one.hostname] = ObservedWorker(
            one.hostname,
            old.first_seen_at,
            max(old.seen_at, one.seen_at),
            max((at for at in (old.heartbeat_at, one.heartbeat_at) if at is not None), default=None),
            # Whoever is heard of after its goodbye came back.
            one.offline_at if one.offline_at is not None else (old.offline_at if old.seen_at >= one.seen_at else None),
            {**old.facts, **one.facts},
        )
    return merged.values()


def exception_name(error: str | None) -> str:
    """The class of an exception by its ``repr``: ``ValueError`` of ``ValueError('no')``; a label of ``/metrics``."""
    name = (error or "").partition("(")[0].strip()
    return name[:100] if name.replace(".", "").replace("_", "").isalnum() else "UnknownException"


def observations_sweep(ctx: Context, seconds: float) -> Callable[[], object]:
    """Removes what was last heard of so long ago: tasks, and workers that are gone; 0 seconds removes nothing."""

    def sweep() -> int:
        if seconds <= 0:
            return 0
        # Longer than what an observer remembers without looking.
        before = ctx.services.clock.now() - max(int(seconds * 1_000_000), 2 * _REMEMBERED_MICROSECONDS)
        total = 0
        while True:
            count = ctx.services.store.write(lambda tx: _purge(tx, before))
            total += count
            if count < _PURGED_AT_ONCE:
                break
        if total:
            log.debug("observations.purged", tasks=total, older_than_seconds=seconds)
        return total

    return sweep


def _purge(tx: Tx, seen_before: int) -> int:
    observed = tx.observed
    observed.lock()
    gone = observed.purge(seen_before, _PURGED_AT_ONCE)
    observed.add_counts({state: -count for state, count in gone.items()})
    observed.forget(seen_before)
    return sum(gone.values())
