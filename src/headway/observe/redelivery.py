"""Redis as a broker, checked: what it may throw away when it is full, and what it delivers twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from headway.model.findings import Finding, Level
from headway.observe.answers import seconds
from headway.observe.facts import ClusterFacts, HeldTask

_VISIBILITY_SECONDS: Final = 3600.0
"""What kombu takes where ``visibility_timeout`` is not set."""
_SHOWN: Final = 5
_NEARLY_FULL: Final = 0.9


def eviction(facts: ClusterFacts) -> Iterator[Finding]:
    """What a Redis throws away when its memory is full."""
    memory = facts.memory
    if memory is None:
        return
    if memory.policy is None:
        yield Finding(
            "eviction",
            Level.WARNING,
            "The policy of Redis is unknown: neither INFO nor CONFIG GET is allowed",
            "Look up maxmemory-policy where the server is managed; it has to be noeviction.",
        )
        return
    limit = "no maxmemory" if not memory.limit else f"maxmemory {memory.limit / (1 << 20):.0f} MiB"
    says = f"maxmemory-policy is {memory.policy}, with {limit}"
    remedy = "Set maxmemory-policy to noeviction (`CONFIG SET maxmemory-policy noeviction`, and in its configuration)."
    if memory.policy == "noeviction":
        if memory.limit and memory.used is not None and memory.used > _NEARLY_FULL * memory.limit:
            says += f", of which {100 * memory.used / memory.limit:.0f} % are used: when it is full, sending fails"
            yield Finding("eviction", Level.WARNING, says, "Raise maxmemory, or lower result_expires.")
        else:
            yield Finding("eviction", Level.OK, says)
    elif not memory.limit:
        yield Finding("eviction", Level.WARNING, f"{says}: harmless until somebody sets a limit", remedy)
    elif memory.policy.startswith("volatile-"):
        # These take keys with an expiry only, which results have and queues have not.
        says += ": when it is full, results go before their time (queues stay: they have no expiry)"
        yield Finding("eviction", Level.WARNING, says, remedy)
    else:
        yield Finding("eviction", Level.ERROR, f"{says}: when it is full, queues with their tasks go", remedy)


def visibility(facts: ClusterFacts) -> Iterator[Finding]:
    """Tasks that Redis delivers again while they still run, or while they wait for their time."""
    if facts.transport != "redis":
        return
    timeouts = _timeouts(facts)
    if not timeouts:
        return
    least = min(timeouts.values())
    where = "" if len(set(timeouts.values())) == 1 else f" at {min(timeouts, key=lambda name: timeouts[name])}"
    timeout = f"the visibility timeout{where}, {least:g} s"
    found = [*_by_limits(facts, least, timeout), *_by_what_is_held(facts, least, timeout)]
    if len(set(timeouts.values())) > 1:
        shown = "; ".join(f"{name}: {value:g} s" for name, value in sorted(timeouts.items())[:_SHOWN])
        found.append(
            Finding(
                "visibility timeout",
                Level.WARNING,
                f"It differs, and the least counts for all: {shown}",
                "Set broker_transport_options = {'visibility_timeout': SECONDS} alike everywhere.",
            )
        )
    yield from found
    if not found:
        unlimited = sum(
            1
            for name, rule in facts.tasks.items()
            if rule.late and rule.limit is None and not name.startswith("celery.")
        )
        more = f"; {unlimited} tasks are acknowledged late and have no time limit" if unlimited else ""
        remedy = f"Give them a time_limit below {least:g} s, so that none runs twice at once." if unlimited else ""
        yield Finding("visibility timeout", Level.OK, f"{least:g} s, above what is known of tasks{more}", remedy)


def _timeouts(facts: ClusterFacts) -> dict[str, float]:
    """Seconds by worker, and by the application while no worker says them."""
    found = {one.name: _timeout_in(one.settings) for one in facts.workers.values() if one.settings is not None}
    if not found and facts.own is not None:
        found["the application"] = _timeout_in(facts.own)
    return found


def _timeout_in(settings: Mapping[str, object]) -> float:
    options = settings.get("broker_transport_options")
    value = options.get("visibility_timeout") if isinstance(options, Mapping) else None
    return seconds(value) or _VISIBILITY_SECONDS


def _remedy(at_least: float) -> str:
    return (
        f"Set broker_transport_options = {{'visibility_timeout': {at_least:.0f}}} or more, in every worker, "
        "and make such tasks idempotent."
    )


def _by_limits(facts: ClusterFacts, least: float, timeout: str) -> Iterator[Finding]:
    longer = {
        name: (rule.limit, rule.late)
        for name, rule in facts.tasks.items()
        if rule.limit is not None and rule.limit > least and not name.startswith("celery.")
    }
    for late, level, then in (
        (True, Level.ERROR, "acknowledged late, so it is delivered again while it still runs"),
        (False, Level.WARNING, "so what waits behind it in its worker is delivered again, and runs twice"),
    ):
        names = {name: limit for name, (limit, is_late) in longer.items() if is_late is late}
        if names:
            shown = _some(f"{name} {limit:g} s" for name, limit in sorted(names.items()))
            yield Finding(
                "visibility timeout",
                level,
                f"May run longer than {timeout}: {shown}; {then}",
                _remedy(1.1 * max(names.values())),
            )


def _by_what_is_held(facts: ClusterFacts, least: float, timeout: str) -> Iterator[Finding]:
    waits: dict[str, float] = {}
    runs: dict[str, float] = {}
    for one in facts.workers.values():
        # Its times are by its own clock.
        now = facts.asked_at / 1_000_000 + (one.skew or 0.0)
        for task in one.scheduled or ():
            waits[_shown(task)] = (task.at or 0) / 1_000_000 - now
        for task in one.active or ():
            if task.at is not None and not task.acknowledged:
                runs[_shown(task)] = now - task.at / 1_000_000
    for held, what in (
        (
            waits,
            "wait for their time (ETA or countdown), so each is delivered again meanwhile, and may run several times",
        ),
        (runs, "run and are not acknowledged, so they are delivered again while they still run"),
    ):
        longer = {name: value for name, value in held.items() if value > least}
        if longer:
            shown = _some(f"{name} {value:.0f} s" for name, value in sorted(longer.items()))
            yield Finding(
                "visibility timeout",
                Level.ERROR,
                f"{len(longer)} tasks {what}, because that is longer than {timeout}: {shown}",
                _remedy(1.1 * max(longer.values())),
            )


def _shown(task: HeldTask) -> str:
    return f"{task.name} {task.id}"


def _some(texts: Iterable[str]) -> str:
    found = list(texts)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
