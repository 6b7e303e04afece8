"""The situation report as a picture in the terminal: readable in five seconds."""

from __future__ import annotations

from typing import Any, Final

from headway.cli import screen
from headway.cli.observed import busy, moment, oldest

_HEALTH: Final = {
    "ok": ("green", "●", "OK"),
    "degraded": ("yellow", "▲", "DEGRADED"),
    "unknown": ("red", "?", "UNKNOWN"),
}
_FIGURES: Final = (
    ("active_tasks", "active", "yellow"),
    ("pending_tasks", "pending", "cyan"),
    ("completed_tasks", "completed", "green"),
    ("failed_tasks", "failed", "red"),
    ("cancelled_tasks", "cancelled", "bright_black"),
)
_STATUS: Final = {
    "completed": ("green", "✓"),
    "failed": ("red", "✗"),
    "in_progress": ("yellow", "▸"),
    "pending": ("cyan", "…"),
    "cancelled": ("bright_black", "-"),
}


def show(report: dict[str, Any], where: str) -> None:
    """Print it: with colours on a terminal, as plain lines elsewhere."""
    for line in lines(report, where):
        _print(line)


Piece = tuple[str, str]


def _print(line: list[Piece]) -> None:
    if not screen.on_terminal():
        screen.say("".join(text for text, _ in line).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    text = Text()
    for words, style in line:
        text.append(screen.clean(words), style)
    Console(highlight=False).print(text, soft_wrap=True)


def lines(report: dict[str, Any], where: str) -> list[list[Piece]]:
    """The report as lines of (text, style)."""
    colour, glyph, word = _HEALTH[report["health_status"]]
    found: list[list[Piece]] = [
        [(f"{glyph} {word}", f"bold {colour}"), (f"   {moment(report['timestamp'])}   {where}", "bright_black")],
        [],
        _figures(report),
        _total(report),
        _knowledge(report),
    ]
    found += _attention(report)
    found += _workers(report)
    found += _queues(report)
    found += _upcoming(report)
    found += _recent(report)
    found += _sources(report)
    return found


def _figures(report: dict[str, Any]) -> list[Piece]:
    metrics = report["task_metrics"]
    line: list[Piece] = [("  ", "")]
    for name, words, colour in _FIGURES:
        value = metrics[name]
        # Nothing counted and nobody heard: that is no zero.
        known = value or report["figures"][name]["age_seconds"] is not None
        line += [(f"{value:,}" if known else "-", f"bold {colour}" if value else "bright_black"), (f" {words}    ", "")]
    rate = metrics["success_rate"]
    line.append(("success " + (f"{rate:.1%}" if rate is not None else "-"), "bold"))
    return line


def _total(report: dict[str, Any]) -> list[Piece]:
    metrics = report["task_metrics"]
    lost = [
        f"{metrics[name]:,} {words}"
        for name, words in (("orphaned_tasks", "orphaned"), ("unresolved_tasks", "unknown"))
        if metrics[name]
    ]
    known = metrics["total_tasks"] or report["figures"]["total_tasks"]["age_seconds"] is not None
    line: list[Piece] = [(f"  {metrics['total_tasks']:,} in all" if known else "  nobody knows how many in all", "")]
    # In no other figure.
    return [*line, (f", of these {', '.join(lost)}", "yellow")] if lost else line


def _knowledge(report: dict[str, Any]) -> list[Piece]:
    figures = report["figures"]
    ages = [one["age_seconds"] for one in figures.values() if one["age_seconds"] is not None]
    age = f"as of {screen.span(max(ages))} ago" if ages else "of no known age"
    whole = all(one["complete"] for one in figures.values())
    known = figures["success_rate"]["last_known"]
    last = f"; the last known success rate was {known:.1%}" if known is not None else ""
    return [(f"  {age}, {'complete' if whole else 'not complete'}{last}", "bright_black" if whole else "yellow")]


def _title(text: str) -> list[list[Piece]]:
    return [[], [(text, "bold")]]


def _attention(report: dict[str, Any]) -> list[list[Piece]]:
    if not report["attention"]:
        return []
    found = _title("ATTENTION")
    for one in report["attention"]:
        colour = "red" if one["severity"] == "error" else "yellow"
        found.append([("  ! ", f"bold {colour}"), (one["says"], colour)])
        found.append([(f"    {one['remedy']}", "bright_black")])
    return found


def _workers(report: dict[str, Any]) -> list[list[Piece]]:
    if not report["workers"]:
        return []
    found = _title("WORKERS")
    width = max(len(one["name"]) for one in report["workers"])
    colours = {"online": "green", "silent": "yellow", "gone": "red"}
    for one in report["workers"]:
        active = " active" if one["standing"] in ("online", "silent") else ""
        facts = f"{busy(one)}{active}  {one['pool'] or ''}  {one['version'] or ''}"
        orphans = f"  {one['orphans']} orphaned" if one["orphans"] else ""
        found.append(
            [
                (f"  {one['name'].ljust(width)}  ", ""),
                (one["standing"].ljust(8), colours.get(one["standing"], "bright_black")),
                (f"  {facts}{orphans}", ""),
                (f"  seen {moment(one['seen_at'])}", "bright_black"),
            ]
        )
    return found


def _queues(report: dict[str, Any]) -> list[list[Piece]]:
    shown = [one for one in report["queues"] if one["exists"]]
    if not shown:
        return []
    found = _title("QUEUES")
    width = max(len(one["name"]) for one in shown)
    for one in shown:
        growth = "" if not one["growth_per_minute"] else f"  {one['growth_per_minute']:+,.0f} a minute"
        waits = f"  oldest {oldest(one)}" if one["depth"] else ""
        style = "bold" if one["depth"] else "bright_black"
        found.append(
            [(f"  {one['name'].ljust(width)}  ", ""), (f"{one['depth'] or 0:,} waiting", style), (waits + growth, "")]
        )
    return found


def _upcoming(report: dict[str, Any]) -> list[list[Piece]]:
    if not report["upcoming"]:
        return []
    return [
        *_title("UPCOMING"),
        *([(f"  {moment(one['due_at'])}  {one['name']}", "")] for one in report["upcoming"][:5]),
    ]


def _recent(report: dict[str, Any]) -> list[list[Piece]]:
    if not report["recent_tasks"]:
        return []
    found = _title("RECENT (by first sign)")
    for one in report["recent_tasks"]:
        colour, glyph = _STATUS[one["status"]]
        at = moment(one["at"])
        took = "" if one["duration_seconds"] is None else f"  {screen.span(one['duration_seconds'])}"
        line: list[Piece] = [(f"  {glyph} ", colour), (f"{at}  {one['name']}{took}", "")]
        if one["status"] != "completed":
            line.append((f"  {one['description']}", "bright_black"))
        found.append(line)
    return found


def _sources(report: dict[str, Any]) -> list[list[Piece]]:
    found = _title("SOURCES")
    for one in report["sources"]:
        good = one["ok"] is True
        age = "never heard of" if one["age_seconds"] is None else f"{screen.span(one['age_seconds'])} ago"
        words = f"{age}, {'complete' if one['complete'] else 'not complete'}"
        says = f": {one['says']}" if one["says"] else ""
        mark, colour = ("✓", "green") if good else ("✗", "red") if one["ok"] is False else ("?", "yellow")
        found.append([(f"  {mark} ", colour), (one["name"].ljust(8), ""), (f"{words}{says}", "bright_black")])
        for eye in one["facts"].get("blind", ()):
            found.append([(f"      {eye['turn_on']} would show {eye['shows']}", "bright_black")])
    return found
