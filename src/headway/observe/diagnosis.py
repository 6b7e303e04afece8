"""Facts of a cluster to findings: who answers, what is consumed, what is planned, whose clock is off.

Every check is a function of the facts alone. What was not heard is never called well: it is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from headway.model.errors import BrokerAway
from headway.model.findings import Finding, Level
from headway.model.permissions import permission_remedy
from headway.observe.blindness import BLIND_CHECKS
from headway.observe.facts import ClusterFacts, HeldTask, WorkerFacts
from headway.observe.redelivery import eviction, visibility

_SKEW_WARNS: Final = 1.0
_SKEW_FAILS: Final = 30.0
_SHOWN: Final = 8
_MOST_QUEUES: Final = 20

Check = Callable[[ClusterFacts], Iterator[Finding]]


def listed(names: Iterable[str], most: int = _SHOWN) -> str:
    """Names for a person, a few of many."""
    found = sorted(set(names))
    rest = len(found) - most
    return ", ".join(found[:most]) + (f" and {rest} more" if rest > 0 else "")


def broker(facts: ClusterFacts) -> Iterator[Finding]:
    """Whether the broker answers."""
    if facts.broker_error:
        yield Finding(
            "broker",
            Level.ERROR,
            f"{facts.broker}: {facts.broker_error} [{BrokerAway.code}]",
            permission_remedy(facts.broker_error)
            or "Start the broker, or correct its URL (--broker, or broker_url of the application); "
            "look for a firewall or a missing password.",
        )
    else:
        yield Finding("broker", Level.OK, f"{facts.broker} answers")


def workers(facts: ClusterFacts) -> Iterator[Finding]:
    """Which workers answer."""
    if facts.workers:
        shown = [
            f"{one.name} ({'?' if one.concurrency is None else one.concurrency} at a time; "
            f"{listed(one.queues, 5) if one.queues else 'no queue' if one.queues is not None else 'queues unknown'})"
            for one in facts.workers.values()
        ]
        count = len(facts.workers)
        yield Finding(
            "workers", Level.OK, f"{count} {'worker answers' if count == 1 else 'workers answer'}: {listed(shown)}"
        )
    else:
        yield Finding(
            "workers",
            Level.ERROR,
            "No worker answers",
            "Start one (`celery -A APP worker -E`). If one runs: it may have another broker, database number, "
            "virtual host, global_keyprefix or control_exchange, or worker_enable_remote_control is off.",
        )
    if facts.unanswering:
        yield Finding(
            "workers",
            Level.WARNING,
            f"Heartbeats are heard from {listed(facts.unanswering)}, but no answer",
            "A worker of the pool `solo` cannot answer while it runs a task; else set worker_enable_remote_control "
            "to True, or look whether it is frozen.",
        )


def queues(facts: ClusterFacts) -> Iterator[Finding]:
    """Queues that no worker takes from: with messages an error, without where something is to be sent there."""
    taken = {queue for one in facts.workers.values() for queue in one.queues or ()}
    unsaid = [one.name for one in facts.workers.values() if one.queues is None]
    found = []
    for name in sorted((set(facts.depths) | set(facts.named)) - taken):
        depth = facts.depths.get(name)
        waiting = (depth.depth if depth is not None else None) or 0
        others = (depth.consumers if depth is not None else None) or 0
        said_by = f"; {facts.named[name]} names it" if name in facts.named else ""
        if waiting:
            # Somebody is subscribed, or may be, who did not say so.
            level = Level.WARNING if others or unsaid else Level.ERROR
            who = f"only by {others} that did not answer" if others else "by no worker that answers"
            text = f"{name} holds {waiting} message{'' if waiting == 1 else 's'} and is consumed {who}{said_by}"
        elif name in facts.named and facts.workers and not others:
            level, text = Level.WARNING, f"{name} is consumed by no worker that answers{said_by}"
        else:
            continue
        found.append(
            Finding(
                "queue without consumer",
                level,
                text,
                f"Start a worker with `-Q {name}`, tell running ones to take from it "
                f"(`celery -A APP control add_consumer {name}`), or send elsewhere (task_routes, the option queue).",
            )
        )
    found.sort(key=lambda one: one.level is not Level.ERROR)
    yield from found[:_MOST_QUEUES]
    if len(found) > _MOST_QUEUES:
        rest = found[_MOST_QUEUES:]
        yield Finding(
            "queue without consumer", rest[0].level, f"{len(rest)} more queues have no consumer", "See above."
        )
    if unsaid:
        yield Finding(
            "queue without consumer",
            Level.WARNING,
            f"{listed(unsaid)} did not say which queues they take from",
            "Ask again when they are less busy.",
        )
    elif not found and facts.workers:
        # RabbitMQ tells of its queues by name only, and a large Redis is not looked through to its end.
        rest_unknown = "" if facts.all_queues else "; queues that nobody names could not be looked for"
        yield Finding("queue without consumer", Level.OK, f"Consumed: {listed(taken)}{rest_unknown}")


def beat(facts: ClusterFacts) -> Iterator[Finding]:
    """Entries of beat whose task no worker has, or that are sent where no worker with it takes from."""
    having = [one for one in facts.workers.values() if one.tasks is not None]
    wrong = 0
    for entry in facts.beat if having else ():
        owners = [one for one in having if entry.task in (one.tasks or ())]
        missed = [one for one in owners if one.queues is not None and entry.queue not in one.queues]
        if not owners:
            says = f"The entry {entry.name} sends {entry.task}, which no worker that answers has"
            remedy = (
                "Correct the entry's `task`, or start a worker whose `imports` or `include` bring the task; "
                "a worker that does not know a task throws its message away."
            )
        elif entry.queue is not None and len(missed) == len(owners):
            says = (
                f"The entry {entry.name} sends {entry.task} to {entry.queue}, which no worker with that task consumes"
            )
            remedy = (
                f"Start a worker that has the task with `-Q {entry.queue}`, or correct options.queue or task_routes."
            )
        else:
            continue
        wrong += 1
        yield Finding("beat", Level.ERROR, says, remedy)
    if facts.foreign_schedulers:
        where = listed(facts.foreign_schedulers)
        yield Finding("beat", Level.OK, f"The entries of {where} are kept elsewhere and were not checked")
    if facts.beat and not having:
        yield Finding(
            "beat", Level.WARNING, f"{len(facts.beat)} entries, and no worker said which tasks it has", "Start workers."
        )
    elif facts.beat and not wrong:
        yield Finding("beat", Level.OK, f"{len(facts.beat)} entries, each with a worker for its task")
    elif not facts.beat and not facts.foreign_schedulers:
        yield Finding("beat", Level.OK, "beat_schedule has no entries")


def prefetch(facts: ClusterFacts) -> Iterator[Finding]:
    """Tasks that wait in a busy worker while another could run them; and settings that make it so."""
    found = False
    for one in facts.workers.values():
        hidden = [task for task in one.reserved or () if _is_full(one)]
        idle = {other.name for task in hidden for other in _idle_for(task, one, facts.workers.values())}
        if idle:
            found = True
            yield Finding(
                "prefetch",
                Level.WARNING,
                f"{len(hidden)} tasks wait in {one.name}, which is busy, while {listed(idle)} could run them",
                "Set worker_prefetch_multiplier to 1 (for long tasks with task_acks_late = True), "
                "or give long tasks a queue of their own.",
            )
    greedy = [one for one in facts.workers.values() if _is_greedy(one)]
    if greedy:
        shown = listed(f"{one.name} takes {one.prefetch or 'any number'} for {one.concurrency}" for one in greedy)
        yield Finding(
            "prefetch",
            Level.WARNING,
            f"Tasks are acknowledged late, and more of them are taken than run: {shown}",
            "Set worker_prefetch_multiplier to 1: what waits in a worker is run by no other, "
            "and is delivered again when that worker ends.",
        )
    if not found and not greedy and facts.workers:
        waiting = sum(len(one.reserved or ()) for one in facts.workers.values())
        yield Finding("prefetch", Level.OK, f"{waiting} tasks wait in workers, none while another is idle")


def _is_full(one: WorkerFacts) -> bool:
    return one.active is not None and one.concurrency is not None and len(one.active) >= one.concurrency


def _idle_for(task: HeldTask, holder: WorkerFacts, everybody: Collection[WorkerFacts]) -> Iterator[WorkerFacts]:
    """Workers with a free slot that take from the queue that a task came from."""
    for other in everybody:
        if other.name == holder.name or other.active is None or other.concurrency is None:
            continue
        # What a worker calls the queue is the routing key, which is mostly the same.
        takes = other.queues is not None and (task.queue in other.queues or task.queue in other.queues.values())
        knows = other.tasks is None or task.name in other.tasks
        if takes and knows and len(other.active) < other.concurrency:
            yield other


def _is_greedy(one: WorkerFacts) -> bool:
    if one.settings is None or not one.settings.get("task_acks_late"):
        return False
    if one.prefetch is None or not one.concurrency:
        return False
    # Each task that is held until its time adds one to what a worker may take.
    return one.prefetch == 0 or one.prefetch - len(one.scheduled or ()) > one.concurrency


def clocks(facts: ClusterFacts) -> Iterator[Finding]:
    """Workers whose clock is not ours."""
    remedy = "Synchronise both machines by NTP (chrony, systemd-timesyncd): expiry, ETA and runtimes come from clocks."
    apart = unheard = 0
    for one in facts.workers.values():
        if one.skew is None:
            unheard += 1
        elif abs(one.skew) > _SKEW_WARNS:
            apart += 1
            level = Level.ERROR if abs(one.skew) > _SKEW_FAILS else Level.WARNING
            where = "ahead of" if one.skew > 0 else "behind"
            yield Finding("clocks", level, f"The clock of {one.name} is {abs(one.skew):.1f} s {where} ours", remedy)
    if unheard:
        silent = listed(one.name for one in facts.workers.values() if one.skew is None)
        why = facts.deaf or f"no heartbeat was heard in {facts.listened:.1f} s"
        yield Finding(
            "clocks",
            Level.WARNING,
            f"The clock of {silent} is unknown: {why}",
            permission_remedy(why)
            or "Heartbeats are events: look at event_exchange and at what the broker's user may read.",
        )
    elif facts.workers and not apart:
        yield Finding("clocks", Level.OK, f"No worker's clock is {_SKEW_WARNS:g} s from ours")


def versions(facts: ClusterFacts) -> Iterator[Finding]:
    """Workers of several versions of Celery, and a version that does not do."""
    by_version: dict[str, list[str]] = {}
    for one in facts.workers.values():
        if one.version:
            by_version.setdefault(one.version, []).append(one.name)
    if len(by_version) > 1:
        shown = "; ".join(f"{version}: {listed(names)}" for version, names in sorted(by_version.items()))
        yield Finding(
            "versions", Level.WARNING, f"Workers of several versions of Celery: {shown}", "Bring them to one."
        )
    if facts.transport == "redis" and "5.7.0" in by_version:
        yield Finding(
            "versions",
            Level.WARNING,
            f"Celery 5.7.0 on Redis at {listed(by_version['5.7.0'])}: such a worker exits when its connection is cut "
            "while an acknowledgement is pending",
            "Use another version of Celery, and a supervisor that starts workers again.",
        )
    elif len(by_version) == 1:
        yield Finding("versions", Level.OK, f"Celery {next(iter(by_version))}")


CHECKS: Final[tuple[Check, ...]] = (
    workers,
    queues,
    beat,
    eviction,
    visibility,
    prefetch,
    clocks,
    versions,
    *BLIND_CHECKS,
)


def diagnose(facts: ClusterFacts) -> list[Finding]:
    """Everything that is to be said of a cluster, with remedies.

    Args:
        facts: what was found out.

    Returns:
        Findings whose checks are named ``cluster: …``; of a broker that does not answer only that.
    """
    found = list(broker(facts))
    if not facts.broker_error:
        for check in CHECKS:
            found += check(facts)
    return [replace(one, check=f"cluster: {one.check}") for one in found]
