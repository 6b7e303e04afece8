"""How numbers, times and results are said on a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headway.model.job import Job
from headway.model.states import TERMINAL_STATES, JobState

SHOWN_RESULT_CHARACTERS: Final = 200_000
DASH: Final = "\u2013"
"""Where a figure would stand that nobody knows."""

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """A length of time, for example ``340 ms``, ``12.3 s``, ``4 min 12 s`` or ``2 d 3 h``."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for index, (size, name) in enumerate(_UNITS):
        if whole >= size:
            smaller, small_name = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "s")
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {small_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def age(seconds: float) -> str:
    """How long ago, roughly: ``just now``, ``42 s ago``, ``3 h ago``; ``in 5 min`` for what is to come."""
    distance = abs(seconds)
    if distance < 1:
        return "just now"
    return f"{rough(distance)} ago" if seconds >= 0 else f"in {rough(distance)}"


def rough(seconds: float) -> str:
    """A length of time by its largest unit: ``42 s``, ``3 h``. Cut off, as the page's own ticking does it."""
    for size, name in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {name}"
    return f"{max(seconds, 0) // 1:.0f} s"


def sentence(text: str) -> str:
    """The text as a sentence of its own: a capital first, a full stop last."""
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?…" else ".")


def text_of(given: Mapping[str, str], name: str, longest: int = 200) -> str:
    """What a query says under a name, so that it can be asked of a database."""
    return given.get(name, "").replace("\x00", "")[:longest].strip()


def ran_for(job: Job, now: int) -> float | None:
    """Seconds of the job's present or last run; None when it did not begin.

    Args:
        job: the job.
        now: UTC microseconds.
    """
    if job.started_at is None:
        return None
    end = job.finished_at if job.finished_at is not None else now
    if job.state not in TERMINAL_STATES and job.state is not JobState.RUNNING:
        return None
    return max(end - job.started_at, 0) / 1_000_000


def percent(job: Job) -> float | None:
    """How much of the job is done, 0 to 100; None when its total is unknown."""
    progress = job.progress
    if progress is None or not progress.total or progress.total <= 0:
        return None
    return min(max(progress.done / progress.total * 100, 0), 100)


def amount(value: float) -> str:
    """A number of things: ``12,000`` or ``0.25``."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"


def pretty(value: Any) -> str:
    """JSON for a person: indented, not escaped."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a result as a table."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    of: str = ""


@dataclass(frozen=True, slots=True)
class ResultView:
    """A result as the page shows it: text, and what it names to be looked at."""

    text: str = ""
    too_large: int = 0
    plots: dict[str, str] = field(default_factory=dict)
    image: str | None = None
    pk: Table | None = None


def result_view(text: str) -> ResultView:
    """What to show of a result.

    Args:
        text: its JSON. Too large a one is linked, not shown.
    """
    if len(text) > SHOWN_RESULT_CHARACTERS:
        return ResultView(too_large=len(text))
    try:
        value = json.loads(text)
    except ValueError:
        return ResultView(text=text)
    plots = _plots(value)
    image = plots.get("svg") or next(iter(plots.values()), None)
    return ResultView(text=pretty(value), plots=plots, image=image, pk=_pk_table(value))


def _plots(value: Any) -> dict[str, str]:
    """Links to plots: paths of this server only."""
    if not isinstance(value, Mapping):
        return {}
    found: dict[str, str] = {}
    plots = value.get("plots")
    if isinstance(plots, Mapping):
        found = {str(name): link for name, link in plots.items() if _local(link)}
    if _local(value.get("plot")):
        found.setdefault("plot", value["plot"])
    return found


def _local(link: Any) -> bool:
    return isinstance(link, str) and link.startswith("/") and not link.startswith(("//", "/\\"))


def _pk_table(value: Any) -> Table | None:
    rows = _pk_rows(value) if isinstance(value, Mapping) else []
    if not rows:
        return None
    of = {row.get("output") for row in rows}
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    title = ""
    if len(of) == 1 and "output" in columns:
        # One output: said once above the table, not on every row.
        title = str(next(iter(of)) or "")
        columns.remove("output")
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in columns]
    return Table(columns, [[_cell(row.get(name)) for name in columns] for row in rows], numeric, title)


def _pk_rows(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of PK parameters: a list of them, or a mapping by parameter, of the result or of each of its outputs."""
    found = value.get("pk")
    if isinstance(found, Mapping) and isinstance(found.get("rows"), list):
        found = found["rows"]
    if isinstance(found, list):
        return [row for row in found if isinstance(row, Mapping)]
    if isinstance(found, Mapping):
        return [{"parameter": name, **row} for name, row in found.items() if isinstance(row, Mapping)]
    outputs = value.get("outputs")
    if not isinstance(outputs, list):
        return []
    rows: list[Mapping[str, Any]] = []
    for output in outputs:
        if isinstance(output, Mapping):
            rows.extend({"output": output.get("name"), **row} for row in _pk_rows({"pk": output.get("pk")}))
    return rows


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,.4g}" if abs(value) < 1e6 or not float(value).is_integer() else f"{int(value):,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
