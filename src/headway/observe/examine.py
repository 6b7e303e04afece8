"""A cluster, examined once: everything that is asked of workers and broker, in a few seconds whatever answers.

Nothing is consumed, changed or left behind: questions go by Celery's remote control, depths are looked at, events are
overheard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from headway.model.errors import BrokerAway
from headway.model.evidence import Evidence
from headway.model.observed import ObservedWorker
from headway.model.redact import mask_secrets
from headway.model.sayings import Said
from headway.observe.answers import queue_keys, rules, settings_of
from headway.observe.asking import Inspector
from headway.observe.brokers import broker_view
from headway.observe.discovery import queues_bound, scan_exchanges
from headway.observe.facts import BeatEntry, ClusterFacts, HeldTask, RedisMemory, TaskRule, WorkerFacts
from headway.observe.parse import Malformed, Parser, Privacy, events_of
from headway.observe.plans import beat_entries, named_queues, own_rules, own_settings, uses_foreign_scheduler
from headway.observe.sources import EventSource, Raw, decode, event_source
from headway.observe.target import Target, keep_hands_off
from headway.ports.clock import Clock

_REACH_SECONDS: Final = 3.0
_IN_ALL_SECONDS: Final = 6.0
_ANSWER_SECONDS: Final = 1.5
_LISTEN_SECONDS: Final = 3.0
_LISTEN_ALONE_SECONDS: Final = 2.5
"""Where nobody answers: workers beat every two seconds."""
_POLL_SECONDS: Final = 0.1
_SCAN_SECONDS: Final = 1.0
_BROKER_SECONDS: Final = 0.8
_APART_SECONDS: Final = 1.0
_MOST_DRAINS: Final = 40
_LIMITS: Final = ["time_limit", "soft_time_limit", "acks_late"]


def examine(target: Target, clock: Clock) -> ClusterFacts:
    """Ask a cluster everything that conclusions are drawn from.

    Args:
        target: the cluster.
        clock: ours, which the workers' are compared with.

    Returns:
        What is so; with ``broker_error`` and little else where the broker does not answer. Never raises for what a
        cluster does or says.
    """
    inspector = Inspector(target, "doctor", clock)
    try:
        _reach(target)
        return _Examination(target, clock, inspector).run()
    except BrokerAway as error:
        return ClusterFacts(target.broker_label, target.transport, broker_error=mask_secrets(error.message))
    finally:
        inspector.close()


def _reach(target: Target) -> None:
    """Connect once, to each host that the URL names: the inspector would try again, and the person waits."""
    connection = target.connection(answer_seconds=_REACH_SECONDS)
    try:
        connection.ensure_connection(max_retries=max(len(connection.alt or ()) - 1, 0))
    except Exception as error:
        raise BrokerAway(f"the broker does not answer: {error}") from error
    finally:
        with suppress(Exception):
            connection.release()


class _Examination:
    """One look at a cluster, with one limit of time for all of it."""

    def __init__(self, target: Target, clock: Clock, inspector: Inspector) -> None:
        self._target = target
        self._clock = clock
        self._inspector = inspector
        self._ends = clock.monotonic() + _IN_ALL_SECONDS
        self._workers: dict[str, dict[str, Any]] = {}
        self._parser = Parser(Privacy(arguments=False))

    def run(self) -> ClusterFacts:
        """See ``examine``."""
        # Heard from the first question on: the longer, the more likely that a task's event is among it.
        began = self._clock.monotonic()
        source = event_source(self._target)
        deaf = ""
        try:
            source.connect()
        except BrokerAway as error:
            deaf = mask_secrets(error.message)
        try:
            stats = self._ask("stats", expected=0)
            asked_at = self._clock.now()
            self._ask_workers(stats)
            heard = _Heard() if deaf else self._listen(source)
        finally:
            source.close(for_good=True)
        heard.seconds = self._clock.monotonic() - began
        self._still_waiting()
        return self._facts(asked_at, heard, deaf)

    def _left(self, most: float) -> float:
        return max(0.05, min(most, self._ends - self._clock.monotonic()))

    def _ask(self, command: str, *, expected: int, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answers = self._inspector.ask(
            command, timeout=self._left(_ANSWER_SECONDS), expected=expected, arguments=arguments
        )
        # A worker that does not know the command answers with an object that names the error.
        return {
            node[:255]: answer
            for node, answer in answers.items()
            if not (isinstance(answer, dict) and set(answer) == {"error"})
        }

    # Workers

    def _ask_workers(self, stats: Mapping[str, Any]) -> None:
        pools: dict[str, Any] = {}
        for node, answer in stats.items():
            pool = answer.get("pool") if isinstance(answer, dict) else None
            pools[node] = pool if isinstance(pool, dict) else {}
            self._workers[node] = {
                "concurrency": _whole(pools[node].get("max-concurrency")),
                "prefetch": _whole(answer.get("prefetch_count")) if isinstance(answer, dict) else None,
            }
        if not stats:
            return
        self._keep("queues", "active_queues", queue_keys)
        self._keep("settings", "conf", settings_of, {"with_defaults": True})
        for node, answer in self._ask_all("registered", {"taskinfoitems": _LIMITS, "builtins": True}).items():
            self._workers[node]["tasks"] = rules(answer, pools[node].get("timeouts"))
        for command, said in (
            ("reserved", Said.SEEN_WAITING),
            ("active", Said.SEEN_RUNNING),
            ("scheduled", Said.SEEN_WAITING),
        ):
            for node, answer in self._ask_all(command).items():
                self._workers[node][command] = self._held(answer, said, node)

    def _keep(self, what: str, command: str, read: Any, arguments: Mapping[str, Any] | None = None) -> None:
        for node, answer in self._ask_all(command, arguments).items():
            self._workers[node][what] = read(answer)

    def _ask_all(self, command: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        # Only of workers that answered at first: one that has just started says the rest too, but not all of it.
        answers = self._ask(command, expected=len(self._workers), arguments=arguments)
        return {node: answer for node, answer in answers.items() if node in self._workers}

    def _held(self, answer: object, said: Said, node: str) -> tuple[HeldTask, ...] | None:
        if not isinstance(answer, list):
            return None
        found = []
        for request in answer:
            try:
                one = self._parser.request(said, request, node)
            except Malformed:
                continue
            inner = request.get("request", request)
            at = one.at if said is Said.SEEN_RUNNING else one.facts.get("eta")
            acknowledged = isinstance(inner, dict) and bool(inner.get("acknowledged"))
            found.append(
                HeldTask(one.task_id, str(one.facts.get("name")), one.facts.get("queue"), at or None, acknowledged)
            )
        return tuple(found)

    def _still_waiting(self) -> None:
        """Of what waited in a worker, keep what waits in it still: the rest was on its way to a free slot."""
        if not any(facts.get("reserved") for facts in self._workers.values()):
            return
        again = self._ask_all("reserved")
        for node, facts in self._workers.items():
            then = self._held(again.get(node), Said.SEEN_WAITING, node)
            ids = {one.id for one in then or ()}
            facts["reserved"] = tuple(one for one in facts.get("reserved") or () if one.id in ids)

    # Events

    def _listen(self, source: EventSource) -> _Heard:
        """Hear every worker's heartbeat, which they are asked to send at once, and whatever comes beside it."""
        heard = _Heard()
        with suppress(BrokerAway):
            # What waits here since the connection was made says nothing of clocks: nobody knows when it came.
            for _ in range(_MOST_DRAINS):
                if not self._hear(source.poll(0.0), heard, None):
                    break
            sent_at = self._clock.now()
            self._inspector.tell("heartbeat")
            ends = self._clock.monotonic() + self._left(_LISTEN_SECONDS if self._workers else _LISTEN_ALONE_SECONDS)
            while self._clock.monotonic() < ends and not heard.together(self._workers):
                self._hear(source.poll(_POLL_SECONDS), heard, sent_at)
        return heard

    def _hear(self, messages: list[Raw], heard: _Heard, sent_at: int | None) -> int:
        now = self._clock.now()
        accept = frozenset(str(kind) for kind in self._target.app.conf.accept_content or ())
        for raw in messages:
            # Anybody may publish anything there: what cannot be read is passed over.
            with suppress(Exception):
                for event in events_of(decode(raw, accept)):
                    heard.take(self._parser.event(event, now), sent_at, now)
        return len(messages)

    # Broker and configuration

    def _facts(self, asked_at: int, heard: _Heard, deaf: str) -> ClusterFacts:
        target = self._target
        workers = {node: self._worker(node, facts, heard) for node, facts in sorted(self._workers.items())}
        own = own_settings(target.app) if target.own_app else None
        configured = [facts.settings for facts in workers.values() if facts.settings is not None]
        beat: dict[tuple[str, str], BeatEntry] = {}
        for settings in ([own] if own is not None else []) + configured:
            for entry in beat_entries(settings, target.app if settings is own else None):
                beat.setdefault((entry.name, entry.task), entry)
        named = named_queues(own, configured, beat.values(), target.known_queues() if target.own_app else set())
        taken = {queue for facts in workers.values() for queue in facts.queues or ()}
        found, whole, memory = self._redis() if target.transport == "redis" else (set(), False, None)
        view = broker_view(target)
        try:
            names = sorted(found | taken | set(named) | target.known_queues())
            depths = {depth.name: depth for depth in view.queues(names)}
        finally:
            view.close()
        return ClusterFacts(
            broker=target.broker_label,
            transport=target.transport,
            asked_at=asked_at,
            own=own,
            workers=workers,
            unanswering=frozenset(heard.skews) - frozenset(workers),
            tasks=_together([own_rules(target.app)] if own is not None else [], workers.values()),
            depths=depths,
            all_queues=whole,
            named=named,
            beat=tuple(beat.values()),
            foreign_schedulers=frozenset(
                name
                for settings in ([own] if own is not None else []) + configured
                if (name := uses_foreign_scheduler(settings)) is not None
            ),
            memory=memory,
            deaf=deaf,
            listened=heard.seconds,
        )

    @staticmethod
    def _worker(node: str, facts: Mapping[str, Any], heard: _Heard) -> WorkerFacts:
        return WorkerFacts(
            node,
            skew=heard.skews.get(node),
            version=heard.versions.get(node),
            sends_events=node in heard.of_tasks,
            **facts,
        )

    def _redis(self) -> tuple[set[str], bool, RedisMemory]:
        """(queues that have bindings, whether all keys were looked through, memory) of a Redis."""
        connection = self._target.connection(answer_seconds=_BROKER_SECONDS)
        try:
            channel: Any = connection.default_channel
            keep_hands_off(channel)
            memory = _memory(channel.client)
            try:
                queues, whole = self._bound(channel)
            except Exception:  # noqa: BLE001 - SCAN may be forbidden; then only queues that somebody names are known
                queues, whole = set(), False
        except Exception as error:
            raise BrokerAway(f"the broker does not answer: {mask_secrets(str(error))}") from error
        finally:
            with suppress(Exception):
                connection.release()
        return queues, whole, memory

    def _bound(self, channel: Any) -> tuple[set[str], bool]:
        exchanges: set[str] = set()
        ends, cursor = self._clock.monotonic() + _SCAN_SECONDS, 0
        while True:
            cursor, found = scan_exchanges(channel, self._target.app.conf, cursor)
            exchanges |= found
            if cursor == 0 or self._clock.monotonic() > ends:
                break
        return queues_bound(channel, exchanges), cursor == 0


class _Heard:
    """What events said while they were listened to."""

    def __init__(self) -> None:
        self.skews: dict[str, float | None] = {}
        self.versions: dict[str, str] = {}
        self.of_tasks: set[str] = set()
        self.seconds = 0.0

    def together(self, nodes: Iterable[str]) -> bool:
        """Whether all of them have been heard, none with a clock that is far from ours."""
        skews = [self.skews.get(node) for node in nodes]
        return bool(skews) and all(skew is not None and abs(skew) < _APART_SECONDS for skew in skews)

    def take(self, one: Evidence | ObservedWorker | None, sent_at: int | None, now: int) -> None:
        """One event, between when workers were asked for it and now."""
        if isinstance(one, Evidence):
            if one.said is not Said.SENT:
                self.of_tasks.add(one.worker)
        elif one is not None:
            self.skews.setdefault(one.hostname, None)
            if version := one.facts.get("version"):
                self.versions[one.hostname] = str(version)
            if sent_at is not None and one.heartbeat_at is not None:
                skew = _skew(one.heartbeat_at, sent_at, now)
                best = self.skews[one.hostname]
                # A heartbeat that was late on its way looks like a clock that is behind; the best one is nearest.
                self.skews[one.hostname] = skew if best is None or abs(skew) < abs(best) else best


def _skew(stamp: int, sent_at: int, now: int) -> float:
    """Seconds by which a clock is off at least, of which the stamp was made after ``sent_at`` and before ``now``."""
    off = stamp - now if stamp > now else stamp - sent_at if stamp < sent_at else 0
    return off / 1_000_000


def _memory(client: Any) -> RedisMemory:
    found: dict[str, Any] = {}
    # Either may be forbidden where somebody else runs the server.
    with suppress(Exception):
        info = client.info("memory")
        found = {"policy": info.get("maxmemory_policy"), "limit": info.get("maxmemory"), "used": info["used_memory"]}
    if found.get("policy") is None:
        with suppress(Exception):
            config = client.config_get("maxmemory*")
            found = {**found, "policy": config["maxmemory-policy"], "limit": config["maxmemory"]}
    policy = found.get("policy")
    return RedisMemory(
        str(policy) if policy is not None else None, _whole(found.get("limit")), _whole(found.get("used"))
    )


def _together(own: list[Mapping[str, TaskRule]], workers: Iterable[WorkerFacts]) -> dict[str, TaskRule]:
    """Every task, with the longest limit and the latest acknowledgement that anybody has for it."""
    found: dict[str, TaskRule] = {}
    for rules_of_one in [*own, *(facts.tasks for facts in workers if facts.tasks is not None)]:
        for name, rule in rules_of_one.items():
            other = found.get(name, rule)
            limit = None if rule.limit is None or other.limit is None else max(rule.limit, other.limit)
            found[name] = TaskRule(limit, rule.late or other.late)
    return found


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None
