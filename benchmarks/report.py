"""The report: a table for people, JSON for the record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure

_HEADS = ("what", "median", "min", "max", "unit", "runs", "goal", "met", "others' cores", "note")


@dataclass
class Report:
    """Figures of one run of the benchmarks, in order.

    Attributes:
        machine: what ``benchmarks.machine.facts`` says.
        options: of the command line.
        name: of the set of benchmarks.
        figures: by the name of their benchmark.
        failures: what a benchmark said that did not come to its end, by its name.
    """

    machine: dict[str, Any]
    options: dict[str, Any]
    name: str = "embedded"
    figures: dict[str, list[Figure]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def file_in(self, folder: Path) -> Path:
        """A file in a folder, named by the set and the time."""
        return folder / f"{self.name}-{self.machine['at'].replace(':', '')}.json"

    def write(self, path: Path) -> None:
        """Write it as JSON, the whole anew at each call."""
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {
            "machine": self.machine,
            "options": self.options,
            "failures": self.failures,
            "figures": {name: [_plain(figure) for figure in figures] for name, figures in self.figures.items()},
        }
        path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def missed(self) -> list[Figure]:
        """Figures whose goal was not met."""
        return [figure for figures in self.figures.values() for figure in figures if figure.met is False]


def _plain(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "median": figure.median,
        "values": list(figure.values),
        "goal": str(figure.goal) if figure.goal else None,
        "met": figure.met,
        "others_cores": list(figure.others),
        "note": figure.note,
    }


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table, aligned for a terminal."""
    rows = [_HEADS, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def number(value: float) -> str:
    """A number with as many digits as it deserves."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _cells(figure: Figure) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    others = number(sorted(figure.others)[len(figure.others) // 2]) if figure.others else ""
    return (
        figure.name,
        number(figure.median),
        number(min(figure.values)),
        number(max(figure.values)),
        figure.unit,
        str(len(figure.values)),
        str(figure.goal) if figure.goal else "",
        met,
        others,
        figure.note,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = {0, 4, 6, 7, 9}
    padded = (
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join(padded) + " |"
