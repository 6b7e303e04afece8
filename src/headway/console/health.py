"""The situation in words and tones: how it is and why, what each figure is worth, how workers and sources do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headway.console.colours import Tone
from headway.console.words import DASH, amount, sentence
from headway.model.observed import ObservedQueue, WorkerView
from headway.model.situation import Health, Situation, SourceView
from headway.model.states import JobState

_SKEW_SECONDS: Final = 0.5
"""A clock that differs by less is in step: the way of a message is in it, too."""

_STEADY: Final = 0.5
"""Messages a minute more or less that are called steady."""

STANDINGS: Final[Mapping[str, tuple[Tone, str]]] = {
    "online": (Tone.GOOD, "it was heard of just now"),
    "silent": (Tone.WARN, "not heard of for some seconds: nobody knows whether it lives"),
    "gone": (Tone.BAD, "not heard of for a minute or more: what it was running counts as orphaned"),
    "offline": (Tone.QUIET, "it said goodbye"),
    "unknown": (Tone.QUIET, "nobody watches: nobody knows whether it lives"),
}
SOURCES: Final[Mapping[str, str]] = {
    "jobs": "Headway's own database",
    "broker": "Broker",
    "workers": "Workers, when asked",
    "events": "Task events",
    "results": "Result backend",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it is, in one word, and why, in one sentence."""

    word: str
    tone: Tone
    why: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure.

    Attributes:
        value: as it is shown; a dash where nobody knows.
        seen_at: of when it is, UTC microseconds; None where it was never known.
        note: why there is a dash, or what else to know; empty for nothing.
        state: of the tasks that it counts, to list them; None for a figure that is no list.
    """

    label: str
    value: str
    seen_at: int | None
    complete: bool
    note: str = ""
    state: JobState | None = None


def verdict(situation: Situation) -> Verdict:
    """The health of a situation and its reason."""
    count = len(situation.attention)
    things = "1 thing wants" if count == 1 else f"{count} things want"
    urgent = any(one.severity == "error" for one in situation.attention)
    if situation.health is Health.OK:
        return Verdict("OK", Tone.GOOD, f"It works, and {things} attention." if count else _all_well(situation))
    if situation.health is Health.UNKNOWN:
        return Verdict("Unknown", Tone.QUIET, _why_unknown(situation))
    why = f"{things.capitalize()} attention." if count else _what_is_missing(situation.sources)
    return Verdict("Degraded", Tone.BAD if urgent else Tone.WARN, why)


def _named(situation: Situation) -> dict[str, SourceView]:
    return {one.name: one for one in situation.sources}


def _all_well(situation: Situation) -> str:
    if "broker" not in _named(situation):
        return "Nothing wants attention. No cluster is watched here: this is about the jobs of this server."
    asked = _named(situation).get("workers")
    if asked is not None and asked.ok is None:
        return "Broker and events answer, and workers are not asked; nothing wants attention."
    return "Broker, workers and events answer; nothing wants attention."


def _why_unknown(situation: Situation) -> str:
    sources = _named(situation)
    jobs, broker, events = sources.get("jobs"), sources.get("broker"), sources.get("events")
    if jobs is not None and jobs.ok is False:
        if jobs.seen_at is not None:
            return "Headway's own database does not answer. What is below is what was known before."
        return "Nothing is known while Headway's own database does not answer."
    if broker is None:
        return sentence(events.says if events is not None else "nobody watches the cluster now")
    if broker.ok is not True:
        return "The broker does not answer, so nobody can tell. What is below is what was known before."
    return "The broker answers, but no worker has been heard of yet."


def _what_is_missing(sources: tuple[SourceView, ...]) -> str:
    for one in sources:
        if one.ok is False:
            return sentence(f"{SOURCES.get(one.name, one.name)} does not answer: {one.says}")
    events = next((one for one in sources if one.name == "events"), None)
    return sentence(f"the figures may be incomplete: {events.says if events and events.says else 'events were missed'}")


def tiles(situation: Situation) -> list[Tile]:
    """The figures, in the order in which they are read."""
    metrics, figures = situation.metrics, situation.figures

    def count(label: str, name: str, value: int, state: JobState) -> Tile:
        figure = figures[name]
        # Nothing counted and nobody heard: that is no zero.
        known = figure.seen_at is not None or value > 0
        return Tile(label, amount(value) if known else DASH, figure.seen_at, figure.complete, "", state)

    return [
        count("Active", "active_tasks", metrics.active_tasks, JobState.RUNNING),
        count("Pending", "pending_tasks", metrics.pending_tasks, JobState.QUEUED),
        count("Completed", "completed_tasks", metrics.completed_tasks, JobState.SUCCEEDED),
        count("Failed", "failed_tasks", metrics.failed_tasks, JobState.FAILED),
        _success_rate(situation),
    ]


def total(situation: Situation) -> str:
    """How many tasks are known in all, and how many of them are in no figure but this; empty where nobody knows."""
    metrics = situation.metrics
    if situation.figures["total_tasks"].seen_at is None and not metrics.total_tasks:
        return ""
    lost = [
        f"{amount(count)} {words}"
        for count, words in (
            (metrics.orphaned_tasks, "orphaned"),
            (metrics.unresolved_tasks, "whose end may have been missed"),
        )
        if count
    ]
    of_these = f"; of these {' and '.join(lost)}, in no other figure" if lost else ""
    return f"{amount(metrics.total_tasks)} {'task' if metrics.total_tasks == 1 else 'tasks'} in all{of_these}."


def _success_rate(situation: Situation) -> Tile:
    figure, rate = situation.figures["success_rate"], situation.metrics.success_rate
    if rate is not None:
        return Tile("Success rate", _rate(rate), figure.seen_at, figure.complete)
    metrics = situation.metrics
    away = any(one.name == "jobs" and one.ok is False for one in situation.sources)
    if figure.last_known is not None:
        why = "the cluster cannot be asked" if situation.health is Health.UNKNOWN else "no worker is online"
        if away:
            why = "the database does not answer"
        return Tile("Success rate", DASH, None, figure.complete, f"{_rate(figure.last_known)} when last known: {why}")
    nothing = metrics.completed_tasks + metrics.failed_tasks == 0 and figure.seen_at is not None and not away
    return Tile("Success rate", DASH, None, complete=True, note="nothing has ended yet" if nothing else "not known")


def _rate(rate: float) -> str:
    percent = rate * 100
    # 99.97 % must not read as if nothing had failed.
    shown = f"{min(percent, 99.9):.1f}" if 99 <= percent < 100 else f"{percent:.1f}"
    return f"{shown.removesuffix('.0')} %"


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker as the page says it."""

    worker: WorkerView
    tone: Tone
    meaning: str
    about: str
    busy: str
    clock: str
    clock_tone: Tone | None


def worker_row(worker: WorkerView) -> WorkerRow:
    """A worker in words."""
    tone, meaning = STANDINGS.get(worker.standing, (Tone.QUIET, ""))
    facts = worker.facts
    made = {"py-celery": "Celery", "headway": "Headway"}.get(str(facts.get("ident")), str(facts.get("ident") or ""))
    version = f"{made} {facts.get('version') or ''}".strip()
    about = " · ".join(part for part in (str(facts.get("pool") or ""), version) if part)
    active, slots = facts.get("active"), facts.get("concurrency")
    if worker.standing not in ("online", "silent"):
        busy = f"was running {amount(active)}" if active else DASH
    else:
        busy = DASH if active is None and slots is None else f"{_or_dash(active)} / {_or_dash(slots)}"
    clock, odd = _clock(facts.get("clock_skew_seconds"))
    return WorkerRow(worker, tone, meaning, about, busy, clock, Tone.WARN if odd else None)


def _or_dash(value: Any) -> str:
    return DASH if value is None else amount(value)


def _clock(skew: Any) -> tuple[str, bool]:
    """(what is said of a worker's clock, whether it is odd)."""
    if not isinstance(skew, int | float):
        return "", False
    if abs(skew) < _SKEW_SECONDS:
        return "clock in step", False
    return f"clock {abs(skew):,.1f} s {'ahead' if skew > 0 else 'behind'}", True


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue as the page says it; ``oldest`` in seconds, None where there is none or nobody knows."""

    name: str
    depth: int | None
    growth: str
    growing: bool
    oldest: float | None
    least: bool
    seen_at: int


def queue_row(queue: ObservedQueue, now: int) -> QueueRow:
    """A queue in words."""
    facts = queue.facts
    growth, depth, oldest_at = facts.get("growth_per_minute"), facts.get("depth"), facts.get("oldest_at")
    if not isinstance(growth, int | float):
        said, growing = DASH, False
    else:
        growing = growth >= _STEADY
        said = f"{growth:+,.0f} a minute".replace("-", "\u2212") if abs(growth) >= _STEADY else "steady"
    oldest = max(0, now - oldest_at) / 1_000_000 if depth and isinstance(oldest_at, int) else None
    if oldest is not None and facts.get("oldest") != "exact" and oldest_at == queue.seen_at:
        # Looked at for the first time: at least nothing.
        oldest = None
    return QueueRow(queue.name, depth, said, growing, oldest, facts.get("oldest") != "exact", queue.seen_at)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source as the page says it."""

    source: SourceView
    label: str
    word: str
    tone: Tone
    about: str


def source_row(source: SourceView) -> SourceRow:
    """A source in words: whether it answers, and whether anything may be missing from it."""
    if source.ok is False:
        word, tone = "does not answer", Tone.BAD
    elif source.ok is None:
        word, tone = "not known", Tone.QUIET
    else:
        word, tone = ("complete", Tone.GOOD) if source.complete else ("may be incomplete", Tone.WARN)
    return SourceRow(source, SOURCES.get(source.name, source.name), word, tone, _about(source))


def _about(source: SourceView) -> str:
    facts = source.facts
    if source.name == "broker":
        return str(facts.get("url") or "")
    if source.name == "events" and isinstance(facts.get("events"), int):
        return f"{facts['events']:,} heard by this server"
    if source.name == "results" and isinstance(facts.get("walked"), int) and facts["walked"]:
        return f"{facts['walked']:,} results read"
    return ""
