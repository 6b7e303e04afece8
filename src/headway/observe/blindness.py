"""Settings that keep an observer blind, each with the line that opens its eyes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from headway.model.findings import Finding, Level
from headway.observe.facts import ClusterFacts

_SHOWN: Final = 5


def task_events(facts: ClusterFacts) -> Iterator[Finding]:
    """Whether workers send events of tasks: without them nothing is known of a task between questions."""
    if not facts.workers:
        return
    sending = {one.name for one in facts.workers.values() if one.sends_events}
    off = [
        one.name
        for one in facts.workers.values()
        if one.name not in sending and not (one.settings or {}).get("worker_send_task_events")
    ]
    if facts.deaf:
        yield Finding(
            "task events",
            Level.ERROR,
            f"Events cannot be heard: {facts.deaf}",
            "Allow the broker's user to read them (Redis: the channels, `&*` of an ACL).",
        )
    elif off:
        # A worker's configuration does not say whether it was started with -E, and nothing else of it does.
        yield Finding(
            "task events",
            Level.WARNING,
            f"worker_send_task_events is off at {_some(off)}, and no event of a task was heard in {facts.listened:.1f} s "
            "(a worker started with -E sends them all the same, and cannot be asked)",
            "Set worker_send_task_events = True, or start workers with -E; "
            "for those that run now: `celery -A APP control enable_events`.",
        )
    else:
        yield Finding("task events", Level.OK, "Workers send events of tasks")


def sent_events(facts: ClusterFacts) -> Iterator[Finding]:
    """Whether those who send tasks say so."""
    off = _off(facts, "task_send_sent_event", senders=True)
    if off is None:
        return
    if off:
        yield Finding(
            "sent events",
            Level.OK,
            f"task_send_sent_event is off at {_some(off)}: a task is seen once a worker takes it, not while it waits",
            "Set task_send_sent_event = True where tasks are sent.",
        )
    else:
        yield Finding("sent events", Level.OK, "Senders say what they send")


def track_started(facts: ClusterFacts) -> Iterator[Finding]:
    """Whether the result backend says of a task that it runs."""
    off = _off(facts, "task_track_started")
    if off is None:
        return
    if off:
        yield Finding(
            "track started",
            Level.OK,
            f"task_track_started is off at {_some(off)}: the result backend does not tell waiting from running",
            "Set task_track_started = True.",
        )
    else:
        yield Finding("track started", Level.OK, "The result backend says what runs")


def extended_results(facts: ClusterFacts) -> Iterator[Finding]:
    """Whether results say which task they are of."""
    off = _off(facts, "result_extended")
    if off is None:
        return
    if off:
        yield Finding(
            "extended results",
            Level.OK,
            f"result_extended is off at {_some(off)}: results of a time without an observer have no name, "
            "arguments or queue",
            "Set result_extended = True.",
        )
    else:
        yield Finding("extended results", Level.OK, "Results say which task they are of")


def result_backend(facts: ClusterFacts) -> Iterator[Finding]:
    """Whether there are results that an observer can read."""
    configured = _configured(facts)
    if not configured:
        return
    kinds = {name: str(value.get("result_backend") or "").partition(":")[0] for name, value in configured.items()}
    without = [name for name, kind in kinds.items() if kind in ("", "disabled")]
    private = [name for name, kind in kinds.items() if kind in ("rpc", "amqp")]
    remedy = "Set result_backend to a Redis or a database, for example result_backend = 'redis://HOST/1'."
    if without:
        yield Finding(
            "result backend",
            Level.OK,
            f"None at {_some(without)}: what ends while nobody watches cannot be found out afterwards",
            remedy,
        )
    if private:
        yield Finding(
            "result backend",
            Level.OK,
            f"rpc:// at {_some(private)}: results go to whoever asked for the task, and nobody else can read them",
            remedy,
        )
    if not without and not private:
        shown = ", ".join(sorted({kind.partition("+")[0] for kind in kinds.values()}))
        yield Finding("result backend", Level.OK, f"Results are kept ({shown})")


def _configured(facts: ClusterFacts, *, senders: bool = False) -> dict[str, dict[str, object]]:
    """Settings by whose they are: those of workers, and of the application where no worker says them, or if it sends."""
    found = {one.name: dict(one.settings) for one in facts.workers.values() if one.settings is not None}
    if facts.own is not None and (senders or not found):
        found["the application"] = dict(facts.own)
    return found


def _off(facts: ClusterFacts, setting: str, *, senders: bool = False) -> list[str] | None:
    """Where a setting is off; None where nobody said anything."""
    configured = _configured(facts, senders=senders)
    return [name for name, settings in configured.items() if not settings.get(setting)] if configured else None


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(sorted(names)[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


BLIND_CHECKS: Final[tuple[Callable[[ClusterFacts], Iterator[Finding]], ...]] = (
    task_events,
    sent_events,
    track_started,
    extended_results,
    result_backend,
)
