"""The thread that asks: workers in turns, the broker for its depths; and at once when a report wants to know."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from headway.model.errors import BrokerAway, HeadwayError
from headway.model.evidence import Evidence
from headway.model.observed import ObservedQueue, ObservedWorker
from headway.model.sayings import Said
from headway.observe.answers import MAX_REGISTERED, answer_of, queue_keys, stats_of, task_names
from headway.observe.asking import Inspector, at_once
from headway.observe.brokers import broker_view
from headway.observe.buffer import Asked
from headway.observe.parse import Malformed, Parser
from headway.observe.target import Target
from headway.ports.clock import Clock
from headway.ports.cluster import QueueDepth
from headway.ports.observations import Batch, ObservationDoor

log = structlog.get_logger("headway.observe")
HELD_EVERY: Final = 10.0
STATS_EVERY: Final = 30.0
REGISTERED_EVERY: Final = 300.0
DEPTHS_EVERY: Final = 5.0
_TELL_EVERY: Final = 5.0
_COMMANDS_PER_SECOND: Final = 8.0
_ANSWER_SECONDS: Final = 1.5
_GROWTH_SECONDS: Final = 60.0
_DISCOVERED_SECONDS: Final = 600.0
_MAX_DISCOVERED: Final = 500
# How long one that answered and has no heartbeat is asked more often for, after its last answer.
_HEARTLESS_SECONDS: Final = 600.0
# A worker without -E, heartbeats and gossip cannot be told to send events.
_TELL_TIMES: Final = 3


@dataclass(slots=True)
class Held:
    """What one worker said it holds, and when it was asked."""

    asked_at: int
    ids: frozenset[str]


@dataclass(slots=True)
class _QueueHistory:
    depths: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=200))
    head: str | None = None
    head_since: int | None = None


class Prober:
    """Asks until it is stopped.

    Args:
        target: the cluster.
        door: where answers are stored.
        parser: makes evidence of answers.
        clock: the observer's.
        strict: workers are not asked: a question is a message.
        online: names of the workers that were heard of lately.
        beating: names of those whose heartbeats are heard.
        sent_to: queues that tasks were seen to be sent to.
        mute: workers that work and send no events of it.
        answered: is told what workers said of themselves.
        enable_events: tell workers to send events.
    """

    def __init__(
        self,
        target: Target,
        door: ObservationDoor,
        parser: Parser,
        clock: Clock,
        *,
        strict: bool,
        online: Callable[[], set[str]],
        beating: Callable[[], set[str]],
        sent_to: Callable[[], set[str]],
        mute: Callable[[], set[str]],
        answered: Callable[[Asked], None],
        enable_events: bool,
    ) -> None:
        self._target = target
        self._door = door
        self._parser = parser
        self._clock = clock
        self._strict = strict
        self._online = online
        self._beating = beating
        self._sent_to = sent_to
        self._mute = mute
        self._answered = answered
        self._enable_events = enable_events
        self._inspector = Inspector(target, "inspect", clock)
        self._broker = broker_view(target)
        self._queues = target.known_queues() | target.routed_queues()
        self._discovered: dict[str, int] = {}
        self._only_queue: dict[str, tuple[object, str]] = {}
        self._histories: dict[str, _QueueHistory] = {}
        self._due: dict[str, float] = {}
        self._told: dict[str, int] = {}
        self._heartless: dict[str, float] = {}
        self._stop = threading.Event()
        self.held: dict[str, Held] = {}
        self.workers_at: int | None = None
        self.answered: frozenset[str] = frozenset()
        self.broker_at: int | None = None
        self.broker_says = ""
        self.workers_say = ""
        self.unacknowledged: int | None = None
        self._thread = threading.Thread(target=self._run, name="headway-prober", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """Stop asking, and leave nothing behind at the broker."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.run_once()
            except HeadwayError as error:
                log.debug("observe.probe", code=error.code, error=error.message)
            except Exception:
                log.exception("observe.probe")
            self._stop.wait(0.5)
        self._inspector.close()
        self._broker.close()

    def run_once(self) -> None:
        """Ask what is due."""
        self._when(self._depths_every(), "depths", self._ask_depths)
        if self._strict:
            return
        # Before the first question answers nobody is known: then the whole time is waited for.
        self._when(STATS_EVERY, "stats", self._ask_stats)
        self._when(HELD_EVERY, "held", self._ask_held)
        self._when(REGISTERED_EVERY, "registered", self._ask_registered)
        if self._enable_events:
            self._tell_to_send()

    def _when(self, every: float, what: str, work: Callable[[], None]) -> None:
        now = self._clock.monotonic()
        if now < self._due.get(what, 0.0) or self._stop.is_set():
            return
        self._due[what] = now + every
        work()

    def _depths_every(self) -> float:
        commands = 4 * (len(self._queues) + len(self._discovered)) + self._broker.commands
        return max(DEPTHS_EVERY, commands / _COMMANDS_PER_SECOND)

    # Workers

    def _ask(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, everybody: bool = False
    ) -> dict[str, Any]:
        online = set() if everybody else self._online() | self.answered
        expected = len(online)
        try:
            answers = at_once(
                self._clock,
                lambda: self._inspector.ask(command, timeout=_ANSWER_SECONDS, expected=expected, arguments=arguments),
            )
        except BrokerAway as error:
            self.workers_say = error.message
            raise
        self.workers_say = "" if answers else "no worker answers"
        return answers

    def _ask_stats(self) -> None:
        asked_at, now = self._clock.now(), self._clock.monotonic()
        self._heartless = {node: at for node, at in self._heartless.items() if now - at < _HEARTLESS_SECONDS}
        self._ask_heartless_sooner(now)
        # The whole time: of a worker without heartbeats nothing else is heard, so nobody waits for it.
        stats = self._ask("stats", everybody=True)
        self.answered = frozenset(stats)
        answered_at = self._clock.now()
        # Of the last answer, not of the last question.
        self.workers_at = answered_at if stats else self.workers_at
        # At once: every event that is heard from now on may be of a task that these numbers do not count.
        self._tell_tallies(stats, asked_at, answered_at)
        self._ask_heartless_sooner(now)
        queues = self._ask("active_queues") if stats else {}
        found = []
        for node, answer in stats.items():
            facts = stats_of(answer) | {"asked_at": asked_at}
            if node in self._heartless:
                facts["freq"] = HELD_EVERY
            keys = queue_keys(queues.get(node))
            if keys is not None:
                named = sorted(keys)
                facts["queues"] = named
                self._queues.update(named)
                self._takes_from(node, facts.get("pid"), named)
            found.append(ObservedWorker(node[:255], answered_at, answered_at, None, None, facts))
        if found:
            self._door.record(Batch(seen_at=answered_at, workers=found))

    def _tell_tallies(self, stats: Mapping[str, Any], asked_at: int, answered_at: int) -> None:
        beating = self._beating()
        for node in stats:
            if node in beating:
                self._heartless.pop(node, None)
            elif len(self._heartless) < MAX_REGISTERED:
                self._heartless[node] = self._clock.monotonic()
        tallied = {
            node[:255]: tally
            for node, answer in stats.items()
            if (tally := answer_of(answer, HELD_EVERY if node in self._heartless else STATS_EVERY)) is not None
        }
        if tallied:
            self._answered(Asked(asked_at, answered_at, tallied))

    def _ask_heartless_sooner(self, now: float) -> None:
        """Answers are their only signs of life: they are asked as often as others for what they hold."""
        if self._heartless:
            self._due["stats"] = now + HELD_EVERY

    def only_queue(self, node: str, pid: object) -> str | None:
        """The one queue that this process takes tasks from; None for several, or where it was not asked yet."""
        asked, queue = self._only_queue.get(node, (None, None))
        return queue if pid is not None and asked == pid else None

    def _takes_from(self, node: str, pid: object, named: list[str]) -> None:
        self._only_queue.pop(node, None)
        if len(named) == 1 and len(self._only_queue) < MAX_REGISTERED:
            self._only_queue[node] = (pid, named[0])

    def _ask_registered(self) -> None:
        now = self._clock.now()
        found = [
            ObservedWorker(node[:255], now, now, None, None, {"registered": task_names(answer)})
            for node, answer in self._ask("registered").items()
        ]
        if found:
            self._door.record(Batch(seen_at=now, workers=found))

    def _ask_held(self) -> None:
        asked_at = self._clock.now()
        evidence: list[Evidence] = []
        active: list[ObservedWorker] = []
        ids: dict[str, set[str]] = {}
        whole: set[str] | None = None
        # In the direction in which tasks move: one that moves on meanwhile is seen where it arrives.
        for command, said in (
            ("scheduled", Said.SEEN_WAITING),
            ("reserved", Said.SEEN_WAITING),
            ("active", Said.SEEN_RUNNING),
        ):
            answers = self._ask(command)
            # A worker that did not answer all three may hold what it was not heard to say.
            whole = set(answers) if whole is None else whole & set(answers)
            for node, requests in answers.items():
                if command == "active" and node in self._heartless and isinstance(requests, list):
                    at = self._clock.now()
                    active.append(ObservedWorker(node[:255], at, at, None, None, {"active": len(requests)}))
                held = ids.setdefault(node, set())
                for request in requests if isinstance(requests, list) else ():
                    try:
                        one = self._parser.request(said, request, node[:255])
                    except Malformed:
                        continue
                    evidence.append(one)
                    held.add(one.task_id)
        now = self._clock.now()
        self.workers_at = now if whole else self.workers_at
        if active:
            self._door.record(Batch(seen_at=now, workers=active))
        if evidence:
            # In portions: a worker may hold tens of thousands that wait for their time.
            for start in range(0, len(evidence), 1_000):
                self._door.record(Batch(evidence[start : start + 1_000], now))
        self.held.update({node: Held(asked_at, frozenset(ids[node])) for node in whole or ()})

    def _tell_to_send(self) -> None:
        there = self._online() | self.answered
        mute = self._mute()
        self._told = {node: count if node in mute else 1 for node, count in self._told.items() if node in there}
        # Also those that were told and are silent: a worker that was started again forgot it.
        new = {node for node in there if self._told.get(node, 0) < (_TELL_TIMES if node in mute else 1)}
        if new and self._clock.monotonic() >= self._due.get("told", 0.0):
            self._due["told"] = self._clock.monotonic() + _TELL_EVERY
            self._inspector.tell("enable_events")
            self._told |= {node: self._told.get(node, 0) + 1 for node in new}
            log.info("observe.events_enabled", workers=sorted(new))

    # The broker

    def _ask_depths(self) -> None:
        try:
            self._queues |= self._broker.bound() | self._sent_to()
            self._discover()
            depths = self._broker.queues(sorted({*self._queues, *self._discovered}))
            self.unacknowledged = self._broker.unacknowledged()
        except BrokerAway as error:
            self.broker_says = error.message
            raise
        self.broker_says, self.broker_at = "", self._clock.now()
        now = self.broker_at
        # What an application names and nobody has ever used is no queue yet.
        there = [self._queue(depth, now) for depth in depths]
        self._discovered |= {one.name: now for one in depths if one.depth and one.name in self._discovered}
        self._door.queues(there)

    def _discover(self) -> None:
        now = self._clock.now()
        # One that has been empty for long is of no interest any more.
        kept = {name: at for name, at in self._discovered.items() if now - at < _DISCOVERED_SECONDS * 1_000_000}
        for name in sorted(self._broker.discovered() - self._queues):
            if name in kept or len(kept) < _MAX_DISCOVERED:
                kept[name] = now
        self._discovered = kept

    def _queue(self, depth: QueueDepth, now: int) -> ObservedQueue:
        history = self._histories.setdefault(depth.name, _QueueHistory())
        facts: dict[str, Any] = {
            "depth": depth.depth,
            "consumers": depth.consumers,
            "exists": depth.depth is not None,
            "growth_per_minute": None,
            "oldest": "unknown",
            "oldest_at": None,
            "looked_every_seconds": round(self._depths_every(), 1),
        }
        if depth.depth is not None:
            history.depths.append((now, depth.depth))
            facts["growth_per_minute"] = _growth(history.depths, now)
        if depth.depth:
            facts["oldest"], facts["oldest_at"] = self._oldest(depth, history, now)
        else:
            history.head = history.head_since = None
        return ObservedQueue(depth.name, now, facts)

    def _oldest(self, depth: QueueDepth, history: _QueueHistory, now: int) -> tuple[str, int | None]:
        """(how well it is known, when the oldest message was sent): messages themselves carry no time."""
        if depth.oldest_id is None:
            # A task that is known to have been sent, and to wait: the oldest message is at least as old.
            sent = self._door.oldest_waiting(depth.name)
            return ("at least", sent) if sent is not None else ("unknown", None)
        if history.head != depth.oldest_id:
            history.head, history.head_since = depth.oldest_id, now
        known = self._door.known([depth.oldest_id]).get(depth.oldest_id)
        if known is not None and known.sent_at is not None:
            return "exact", known.sent_at
        # Looked at for the first time, it says nothing yet.
        return ("at least", history.head_since) if history.head_since != now else ("unknown", None)


def _growth(depths: deque[tuple[int, int]], now: int) -> float | None:
    """Messages more a minute, over the last minute or what is known of it; None before there are two looks."""
    recent = [(at, depth) for at, depth in depths if now - at <= _GROWTH_SECONDS * 1_000_000]
    if len(recent) < 2:
        return None
    (first_at, first), (last_at, last) = recent[0], recent[-1]
    return round((last - first) * 60_000_000 / max(last_at - first_at, 1), 2)
