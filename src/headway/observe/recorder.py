"""The thread that stores what was heard: batches of evidence, gaps in their order, and how far everything is safe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from headway.model.errors import HeadwayError
from headway.model.evidence import Evidence
from headway.model.observed import Gap, ObservedWorker
from headway.model.sayings import Said
from headway.observe.buffer import Asked, Buffer, Connected, Dropped, Item, Lost
from headway.observe.listener import Listener
from headway.observe.parse import Malformed, Parser, events_of
from headway.observe.sources import RETAIN_SECONDS, Raw, decode
from headway.observe.tallies import Tallies
from headway.ports.clock import Clock
from headway.ports.observations import Batch, ObservationDoor

log = structlog.get_logger("headway.observe")
_MESSAGES: Final = 1_000
_FIRST_WAIT: Final = 0.25
# More comes while it waits: tasks that end meanwhile are written once.
_GATHER_SECONDS: Final = 0.4
_WATERMARK_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.5
# What the listener may have in its hands at a moment.
_IN_HAND_MICROSECONDS: Final = 1_000_000
_MAX_QUEUES: Final = 1_000
_REFUSALS: Final = 3
_LEFT_SECONDS: Final = 30.0
_REMEMBERED_MICROSECONDS: Final = 600_000_000


@dataclass(slots=True)
class Heard:
    """Counts since the observer started."""

    events: int = 0
    stored: int = 0
    duplicates: int = 0
    malformed: int = 0
    other: int = 0
    lost: int = 0


class Recorder:
    """Stores until it is stopped; while the database is away it keeps what it has and tries again.

    Args:
        door: where to.
        buffer: where from.
        parser: makes evidence of messages.
        accept: content types that are read.
        listener: is told what is safe.
        clock: the observer's.
        on_gap: told of every gap that has closed, in the recorder's thread.
        queue_of: the only queue that a worker takes tasks from, if that is known.
        facts: what to say of the observer beside its counts.
        workers: those that are known from before; may raise what the store raises.
    """

    def __init__(
        self,
        door: ObservationDoor,
        buffer: Buffer,
        parser: Parser,
        accept: frozenset[str],
        listener: Listener,
        clock: Clock,
        *,
        on_gap: Callable[[Gap | None], None],
        queue_of: Callable[[str], str | None],
        facts: Callable[[], Mapping[str, Any]],
        workers: Callable[[], Sequence[ObservedWorker]],
        observer_id: str,
    ) -> None:
        self._door = door
        self._buffer = buffer
        self._parser = parser
        self._accept = accept
        self._listener = listener
        self._clock = clock
        self._on_gap = on_gap
        self._queue_of = queue_of
        self._facts = facts
        self._workers = workers
        self._observer_id = observer_id
        self._stop = threading.Event()
        self._begun = False
        self._gave_up = False
        self._gap: Gap | None = None
        self._watermark = clock.monotonic()
        self.heard = Heard()
        self._off: list[Gap] = []
        self._looked = clock.monotonic()
        self.tallies = Tallies()
        self.queues: set[str] = set()
        self.drained_at = 0
        self.said: set[Said] = set()
        self.error = ""
        self._thread = threading.Thread(target=self._run, name="headway-recorder", daemon=True)

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def stop(self, *, timeout: float) -> bool:
        """Store what is left, note the end; whether everything was."""
        self._stop.set()
        self._buffer.wake()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._gave_up

    @property
    def alive(self) -> bool:
        """Whether it stores; one that ended by a fault of ours must not look well."""
        return self._thread.is_alive()

    @property
    def reached(self) -> int:
        """Until when everything that was said is stored: not the clock's time, while what was said earlier waits."""
        listening = self._listener.connected and self._listener.caught_up
        return max(self.tallies.last_at, self.drained_at if listening else 0)

    def _run(self) -> None:
        self._persist(self._begin)
        self._persist(self._remember)
        while True:
            ending = self._stop.is_set()
            # Known before it is looked whether all was taken: a loss that comes between would be passed over.
            good = self._listener.good_at if self._listener.connected else 0
            items = self._buffer.take(_MESSAGES, 0 if ending else _FIRST_WAIT)
            if items and not ending and len(items) < _MESSAGES and not self._buffer.waiting:
                self._stop.wait(_GATHER_SECONDS)
                items += self._buffer.take(_MESSAGES - len(items), 0)
            if not items and not self._buffer.waiting:
                self.drained_at = self._clock.now() - _IN_HAND_MICROSECONDS
            if items:
                self._store(items)
                if self._gave_up:
                    # Nothing may be stored over a hole: what comes after it would be acknowledged with it.
                    log.warning("observe.end_not_stored", error=self.error)
                    return
            elif ending:
                break
            elif self._clock.monotonic() - self._watermark > _WATERMARK_SECONDS and good:
                # Not now: the connection may have been cut since it was last known to work.
                self._record(Batch(seen_at=good, watermark_at=good, facts=self._told()))
            if self._begun and not ending:
                self._declare_off()
                self._look_after_the_dead()
        if self._begun:
            self._declare_off()
        self._close_off(self._clock.now())
        if self._begun and not self._persist(self._door.end):
            log.warning("observe.end_not_stored")

    def _begin(self) -> None:
        self._gap = self._door.begin(self._observer_id, self._facts())
        self._begun = True

    def _remember(self) -> None:
        now = self._clock.now()
        for worker in self._workers():
            lately = now - worker.seen_at < _REMEMBERED_MICROSECONDS and worker.offline_at is None
            if lately and worker.facts.get("events_enabled") is False:
                self.tallies.remembered(worker, now)

    def _persist(self, work: Callable[[], Any], *, patience: int | None = None) -> bool:
        """Do it until the database takes it; False when the observer is stopped before.

        Args:
            work: may be done again.
            patience: where what it stores may be at fault: False then too, once the database has refused it so often,
                takes something else, and then refuses it once more. None is for what cannot be at fault.
        """
        refused, takes_other = 0, False
        while True:
            try:
                work()
            except HeadwayError as error:
                if not self.error:
                    log.warning("observe.not_stored", code=error.code, error=error.message, then="kept and tried again")
                self.error = error.message
                refused += 1
            except Exception as error:
                log.exception("observe.not_stored")
                self.error = f"{type(error).__name__}: {error}"
                refused += 1
            else:
                self.error = ""
                return True
            if takes_other:
                return False
            if self._stop.wait(_RETRY_SECONDS):
                self._gave_up = True
                return False
            takes_other = patience is not None and refused >= patience and self._takes_other()

    def _takes_other(self) -> bool:
        try:
            self._door.record(Batch(seen_at=self._clock.now(), watermark_at=0))
        except Exception:  # noqa: BLE001 - then it is the database, not what it was given
            return False
        return True

    def _store(self, items: list[tuple[Item, int]]) -> None:
        batch: list[tuple[Raw, int]] = []
        for item, at in items:
            if isinstance(item, Raw):
                batch.append((item, at))
                continue
            self._store_events(batch)
            batch = []
            if not self._gave_up:
                self._happened(item)
        self._store_events(batch)

    def _happened(self, item: Connected | Lost | Dropped | Asked) -> None:
        if isinstance(item, Asked):
            self._answered(item)
        elif isinstance(item, Lost):
            self.tallies.lost()
            if self._gap is None:
                self._persist(lambda: setattr(self, "_gap", self._door.open_gap("broker_away", item.at)))
        elif isinstance(item, Dropped):
            self.heard.lost += item.messages
            self.tallies.interrupted(item.ended_at)
            self._persist(lambda: self._close(self._door.open_gap("buffer_full", item.began_at, item.messages), item))
        else:
            self.tallies.connected(item.at)
            gap, self._gap = self._gap, None
            if gap is None:
                self._on_gap(None)
            elif item.kept and item.at - gap.began_at < RETAIN_SECONDS * 1_000_000:
                # A queue that is there after longer than it is kept was made anew by somebody who was killed then.
                self._persist(lambda: self._door.kept(gap, item.at))
                self._on_gap(None)
            else:
                self._persist(lambda: self._close(gap, item))

    def _answered(self, item: Asked) -> None:
        sending = {
            node: self.tallies.answered(node, item.asked_at, item.at, answer) for node, answer in item.answers.items()
        }
        workers = [
            ObservedWorker(node, item.at, item.at, None, None, {"events_enabled": value})
            for node, value in sending.items()
            if value is not None
        ]
        if workers:
            self._record(Batch(seen_at=item.at, workers=workers))

    def _close(self, gap: Gap, item: Connected | Dropped) -> None:
        at = item.at if isinstance(item, Connected) else item.ended_at
        self._on_gap(self._door.close_gap(gap, at))

    def _store_events(self, messages: list[tuple[Raw, int]]) -> None:
        if not messages or self._gave_up:
            return
        evidence: list[Evidence] = []
        workers: list[ObservedWorker] = []
        for raw, at in messages:
            self._take_apart(raw, at, evidence, workers)
        last_raw, last_at = messages[-1]
        batch = Batch(evidence, last_at, last_at, workers, self._told())
        if self._record(batch) and last_raw.tag:
            self._listener.stored_tag = last_raw.tag

    def _record(self, batch: Batch, patience: int = _REFUSALS) -> bool:
        def work() -> None:
            recorded = self._door.record(batch)
            self.heard.stored += recorded.new
            self.heard.duplicates += recorded.duplicates

        self._watermark = self._clock.monotonic()
        if self._persist(work, patience=patience if batch.evidence or batch.workers else None):
            return True
        if self._stop.is_set():
            return False
        return self._record_parts(batch)

    def _record_parts(self, batch: Batch) -> bool:
        """The database works and does not take this batch: something in it must be at fault, and only that is lost."""
        if len(batch.evidence) + len(batch.workers) <= 1:
            self.heard.lost += len(batch.evidence)
            log.error("observe.refused", said=[(one.task_id, one.said) for one in batch.evidence], error=self.error)
            return self._persist(lambda: self._declare_refused(batch))
        half, among = len(batch.evidence) // 2, len(batch.workers) // 2
        parts = (
            replace(batch, evidence=batch.evidence[:half], workers=(), watermark_at=None),
            replace(batch, evidence=batch.evidence[half:], workers=(), watermark_at=None),
            replace(batch, evidence=(), workers=batch.workers[:among], watermark_at=None),
            replace(batch, evidence=(), workers=batch.workers[among:], watermark_at=None),
        )
        # Each of them, whatever became of the one before.
        stored = [self._record(part, patience=1) for part in parts if part.evidence or part.workers]
        return all(stored)

    def _declare_refused(self, batch: Batch) -> None:
        gap = self._door.open_gap("not_stored", batch.seen_at, len(batch.evidence))
        # The result backend may know what could not be stored.
        self._on_gap(self._door.close_gap(gap, batch.seen_at))

    def _take_apart(self, raw: Raw, at: int, evidence: list[Evidence], workers: list[ObservedWorker]) -> None:
        try:
            body = decode(raw, self._accept)
        except Exception:  # noqa: BLE001 - whatever a serializer says of what it was given
            self.heard.malformed += 1
            return
        for event in events_of(body):
            self.heard.events += 1
            try:
                found = self._parser.event(event, at)
            except Malformed:
                self.heard.malformed += 1
                continue
            except Exception:
                # A message that we cannot read must not be the last one that is stored.
                log.exception("observe.not_parsed")
                self.heard.malformed += 1
                continue
            if found is None:
                self.heard.other += 1
            elif isinstance(found, Evidence):
                evidence.append(found)
                self.said.add(found.said)
                if found.said is Said.SENT and len(self.queues) < _MAX_QUEUES:
                    self.queues.add(found.facts.get("queue") or "")
                if found.said is not Said.SENT:
                    self.tallies.task_event(found.worker, at, started=found.said is Said.STARTED)
                    self._tell_queue(found)
            else:
                workers.append(self._beat(found))

    def _beat(self, worker: ObservedWorker) -> ObservedWorker:
        worker.facts["events_enabled"] = self.tallies.beat(worker)  # type: ignore[index] # made for this worker alone
        return worker

    def _tell_queue(self, one: Evidence) -> None:
        """Only who sends a task says its queue; but a worker that takes from one queue has it from there."""
        if one.said is Said.RECEIVED and one.facts.get("queue") is None and (queue := self._queue_of(one.worker)):
            one.facts["queue"] = queue  # type: ignore[index] # made by the parser for this saying alone

    def _declare_off(self) -> None:
        """What workers do that send no events of it is a gap, until they send them."""
        tallies, now = self.tallies, self.reached
        since, ended = tallies.mute_since(now), tallies.ended(now)
        wanted = min((one for one in (since, ended) if one is not None), default=None)
        if wanted is not None and (not self._off or wanted < min(gap.began_at for gap in self._off)):
            self._persist(lambda: self._off.append(self._door.open_gap("events_off", wanted)))
        if since is None:
            self._close_off(now)

    def _look_after_the_dead(self) -> None:
        """What observers left open that watch no longer is closed by those who do."""
        if self._clock.monotonic() - self._looked >= _LEFT_SECONDS:
            self._looked = self._clock.monotonic()
            try:
                left = self._door.left_open()
            except HeadwayError as error:
                log.debug("observe.left_open", code=error.code, error=error.message)
                return
            for gap in left:
                self._persist(lambda gap=gap: self._on_gap(self._door.close_gap(gap, self._clock.now())))  # type: ignore[misc]

    def _close_off(self, at: int) -> None:
        while self._off and self._persist(lambda: self._on_gap(self._door.close_gap(self._off[-1], at))):
            self._off.pop()

    def _told(self) -> dict[str, Any]:
        heard = self.heard
        counts = {name: getattr(heard, name) for name in Heard.__slots__}
        return {**self._facts(), **counts, "waiting": self._buffer.waiting}
