"""The observer of one cluster: its threads put together, and what they know as the situation report wants it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from headway.model.errors import HeadwayError
from headway.model.observed import Gap, ObservedWorker
from headway.model.sayings import Said
from headway.observe.buffer import Buffer
from headway.observe.listener import Listener
from headway.observe.live import LiveAsker
from headway.observe.parse import Parser, Privacy
from headway.observe.prober import Prober
from headway.observe.reconciler import Reconciler
from headway.observe.recorder import Recorder
from headway.observe.results import Results
from headway.observe.sources import event_source
from headway.observe.target import Target
from headway.ports.clock import Clock
from headway.ports.cluster import LiveAnswer, LookedUp, Source
from headway.ports.observations import ObservationDoor

log = structlog.get_logger("headway.observe")
_LOOK_UPS: Final = 8
_STOP_SECONDS: Final = 5.0
_EYES: Final = {
    "worker_send_task_events": "tasks while they run, their times and errors (or start workers with -E)",
    "task_send_sent_event": "when a task was sent and through which queue, and the exact age of a queue",
    "task_track_started": "whether a task that was found afterwards had started",
    "result_extended": "name, arguments and tries of a task that was found afterwards",
}
_OF_CONF: Final = frozenset(("task_send_sent_event", "task_track_started", "result_extended"))


@dataclass(frozen=True, slots=True)
class ObserverSettings:
    """How to watch.

    Attributes:
        observer_id: the same at every start over one data directory.
        strict: nothing at all is written to the broker, so workers are not asked.
        enable_events: tell workers to send task events.
        privacy: what is kept of arguments and results.
    """

    observer_id: str
    strict: bool = False
    enable_events: bool = False
    privacy: Privacy = field(default_factory=Privacy)


class Observer:
    """See ``ClusterView``. Watches from ``start`` to ``stop``.

    Args:
        target: the cluster.
        door: where observations go.
        clock: the observer's.
        settings: how.
        workers: the workers that are known, from the store; may raise what the store raises.
    """

    def __init__(
        self,
        target: Target,
        door: ObservationDoor,
        clock: Clock,
        settings: ObserverSettings,
        workers: Callable[[], Sequence[ObservedWorker]],
    ) -> None:
        self._target = target
        self._clock = clock
        self._settings = settings
        self._workers = workers
        parser = Parser(settings.privacy)
        buffer = Buffer()
        # RabbitMQ needs a queue for events, which strict forbids; a subscription on Redis writes nothing.
        self._hears = target.transport == "redis" or not settings.strict
        self.listener = Listener(event_source(target), buffer, clock)
        self.results = Results(target)
        self.prober = Prober(
            target,
            door,
            parser,
            clock,
            strict=settings.strict,
            online=self._online,
            beating=lambda: self.recorder.tallies.beating(self.recorder.reached),
            sent_to=lambda: self.recorder.queues - {""},
            mute=self._mute,
            # Else what they said before is heard after it.
            answered=lambda asked: buffer.note(asked) if self.listener.caught_up else None,
            enable_events=settings.enable_events and not settings.strict,
        )
        self.reconciler = Reconciler(
            self.results, door, parser, clock, held=lambda: self.prober.held, settled=self._settled, mute=self._mute
        )
        conf: Any = target.app.conf
        self.recorder = Recorder(
            door,
            buffer,
            parser,
            frozenset({"application/json", str(conf.event_serializer), "json"}),
            self.listener,
            clock,
            on_gap=self._gap_closed,
            queue_of=lambda node: self.prober.only_queue(node, self.recorder.tallies.pid(node)),
            facts=self._facts,
            workers=workers,
            observer_id=settings.observer_id,
        )
        self._looking = threading.BoundedSemaphore(_LOOK_UPS)
        self._live = LiveAsker(target, clock, strict=settings.strict)

    def start(self) -> None:
        """Begin to watch; returns at once, whether anybody answers or not."""
        self.recorder.start()
        if self._hears:
            self.listener.start()
        else:
            self.reconciler.gap_closed(None)
        self.prober.start()
        self.reconciler.start()
        self._live.start()

    def stop(self, *, keep: bool = False) -> None:
        """Stop in good order: what was heard is stored, and nothing stays behind at the broker.

        Args:
            keep: this was not meant to end, and whoever starts it again wants what the broker keeps meanwhile.
        """
        if self._hears:
            self.listener.stop(timeout=_STOP_SECONDS)
        self.reconciler.stop(timeout=_STOP_SECONDS)
        stored = self.recorder.stop(timeout=_STOP_SECONDS)
        if self._hears and stored:
            self.listener.close(for_good=not keep)
        self.prober.stop(timeout=_STOP_SECONDS)
        self._live.stop(timeout=_STOP_SECONDS)

    def _mute(self) -> set[str]:
        """Workers that were heard of lately, work, and send no events of it."""
        return self.recorder.tallies.mute(self._clock.now())

    def _settled(self) -> int:
        """Until when all that was heard is stored; 0 while messages still wait, here or at the broker."""
        return self.recorder.drained_at if self.listener.caught_up else 0

    def _gap_closed(self, gap: Gap | None) -> None:
        self.reconciler.gap_closed(gap)

    def _online(self) -> set[str]:
        now = self._clock.now()
        return {one.hostname for one in self._workers() if one.standing(now) == "online"}

    def _facts(self) -> dict[str, Any]:
        return {
            "broker": self._target.broker_label,
            "results": self._target.backend_label,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "strict": self._settings.strict,
        }

    # ClusterView

    def live(self, timeout: float) -> Callable[[], LiveAnswer]:
        """See ``ClusterView.live``."""
        try:
            expected = len(self._online())
        except Exception:  # noqa: BLE001 - our own database is away: then nobody is expected, and the whole time waited
            expected = 0
        return self._live.ask(timeout, expected)

    def look_up(self, task_id: str, timeout: float) -> LookedUp:
        """See ``ClusterView.look_up``."""
        if not self.results.readable:
            return LookedUp.NOT_READABLE
        if not self._looking.acquire(blocking=False):
            # Those before this one still wait for a backend that does not answer.
            return LookedUp.NOT_ASKED
        found: list[bool] = []

        def look() -> None:
            try:
                found.append(self.reconciler.look_up(task_id))
            except HeadwayError as error:
                log.debug("observe.look_up", code=error.code, error=error.message)
            finally:
                self._looking.release()

        # A thread that nobody waits for longer, at the end of the process neither.
        thread = threading.Thread(target=look, name="headway-look-up", daemon=True)
        thread.start()
        thread.join(timeout)
        if not found:
            return LookedUp.NOT_ASKED
        return LookedUp.FOUND if found[0] else LookedUp.NOBODY_KNOWS

    def beat_schedule(self) -> dict[str, Any]:
        """See ``ClusterView.beat_schedule``."""
        entries: Any = self._target.app.conf.beat_schedule if self._target.own_app else None
        found = {}
        for name, entry in (entries or {}).items():
            options = entry.get("options") or {}
            found[str(name)] = {
                "task": str(entry.get("task")),
                "schedule": str(entry.get("schedule")),
                "queue": options.get("queue"),
            }
        return found

    def sources(self) -> list[Source]:
        """See ``ClusterView.sources``."""
        return [self._events(), self._workers_source(), self._broker(), self._results()]

    def _events(self) -> Source:
        heard = self.recorder.heard
        facts = {"events": heard.events, "duplicates": heard.duplicates, "malformed": heard.malformed,
                 "other": heard.other, "lost": heard.lost}  # fmt: skip
        if not self._hears:
            says = "--strict on RabbitMQ: events need a queue of their own, which is not made"
            return Source("events", None, complete=False, ok=None, says=says, facts=facts)
        silent = sorted(self._mute())
        error = self.recorder.error if self.recorder.alive else self.recorder.error or "nothing is stored any more"
        says = self.listener.why or error
        if not says and silent:
            says = f"no task events from {', '.join(silent[:5])}"
        elif not says and self.listener.heard_at is None:
            says = "nothing was heard yet"
        elif not says:
            says = self._reserve()
        connected = self.listener.connected
        return Source(
            "events",
            self.listener.heard_at,
            complete=connected and not silent and not error and self.listener.heard_at is not None,
            ok=connected and not error,
            says=says,
            facts={**facts, "workers_without_events": silent, "blind": self._blind(silent)},
        )

    def _reserve(self) -> str:
        """What nobody can know although events are heard."""
        tallies, now = self.recorder.tallies, self._clock.now()
        if unheard := sorted(tallies.unheard(now)):
            return f"no task of {', '.join(unheard[:5])} was heard of yet: before the first, and where events are off"
        missing = [f"{count} of {node}" for node, count in sorted(tallies.missing(now).items())]
        return f"tasks that were begun and sent no events: {', '.join(missing[:5])}" if missing else ""

    def _blind(self, silent: Sequence[str]) -> list[dict[str, str]]:
        """Settings that keep the observer from seeing more, each with what it would show."""
        if self._target.own_app:
            conf: Any = self._target.app.conf
            off = [name for name in _EYES if name in _OF_CONF and not conf.get(name)]
        else:
            # Nothing is known of the configuration but what it leads to.
            off = []
            if Said.RECEIVED in self.recorder.said and Said.SENT not in self.recorder.said:
                off.append("task_send_sent_event")
            if self.reconciler.unnamed:
                off.append("result_extended")
        if silent or self.recorder.tallies.unheard(self._clock.now()):
            off.insert(0, "worker_send_task_events")
        return [{"setting": name, "turn_on": f"{name} = True", "shows": _EYES[name]} for name in off]

    def _workers_source(self) -> Source:
        prober = self.prober
        if self._settings.strict:
            says = "--strict: workers are not asked"
            return Source("workers", None, complete=False, ok=None, says=says)
        good = prober.workers_at is not None and not prober.workers_say
        answered = [at for at in (prober.workers_at, self._live.workers_at) if at is not None]
        return Source("workers", max(answered, default=None), complete=good, ok=good, says=prober.workers_say)

    def _broker(self) -> Source:
        prober = self.prober
        good = prober.broker_at is not None and not prober.broker_says
        facts = {"kind": self._target.transport, "url": self._target.broker_label,
                 "unacknowledged": prober.unacknowledged}  # fmt: skip
        return Source("broker", prober.broker_at, complete=good, ok=good, says=prober.broker_says, facts=facts)

    def _results(self) -> Source:
        progress = self.reconciler.progress
        facts = {"walked": progress.walked, "keys": progress.keys, "found": progress.found,
                 "running": progress.running, "readable": self.results.readable}  # fmt: skip
        says = self.results.says or progress.error
        if progress.running:
            says = f"reading history: {progress.walked:,} of about {progress.keys or 0:,} entries"
        elif not says and self.results.listable and self._mute():
            says = "events are off: read again every minute, or less often where that takes long"
        return Source(
            "results",
            progress.finished_at,
            complete=progress.finished_at is not None and not says,
            ok=self.results.answers,
            says=says,
            facts=facts,
        )
