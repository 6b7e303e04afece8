"""Colours, labels and the finishing of SVG files for ``plot.py``."""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from headway.pbpk import errors
from headway.pbpk.description import UNIT_UNKNOWN

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True)
class Colours:
    """One theme. Text has a contrast of at least 4.5 to 1 on its paper."""

    paper: str
    ink: str
    soft: str
    axis: str
    grid: str
    line: str
    edge: str
    band: str


COLOURS = {
    "light": Colours("#ffffff", "#14202b", "#52616f", "#9aa7b2", "#e6ebef", "#0b6b8a", "#7fb9cb", "#cfe6ee"),
    "dark": Colours("#10171e", "#eef3f7", "#a4b2be", "#5a6874", "#25303a", "#58c4e4", "#2f7b93", "#1b3d4a"),
}

#: Stand-ins that no picture uses otherwise; ``finish_svg`` turns them into CSS variables.
PLACEHOLDERS = Colours("none", "#010203", "#010204", "#010205", "#010206", "#010207", "#010208", "#010209")

_FONT = "ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

#: Sensible distances of time ticks, in hours.
_HOUR_STEPS = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 12.0, 24.0, 48.0, 72.0, 168.0)


def matplotlib_module() -> ModuleType:
    """Matplotlib.

    Raises:
        PbpkNotInstalled: it is missing.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise errors.PbpkNotInstalled("Plots need the package matplotlib, which is not installed.") from error
    module: ModuleType = mpl
    return module


def label(unit: str) -> str:
    """A unit for people: ``µg/L``, ``m²``, and ``unit unknown``."""
    if unit == UNIT_UNKNOWN:
        return "unit unknown"
    if unit in {"", "dimensionless"}:
        return "no unit"
    text = re.sub(r"\bu(?=[gLm])", "µ", unit)
    return text.replace("**2", "²").replace("**3", "³").replace("*", "·")


def number(value: float) -> str:
    """Three significant digits, without an exponent between 0.001 and 100,000."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}"


def time_step(unit: str, end: float) -> float | None:
    """A distance of ticks that people read at a glance, or ``None`` where the unit has no custom."""
    if unit != "h":
        return None
    return next((step for step in _HOUR_STEPS if end / step <= 9), None)


def decimal_formatter() -> Any:
    """Writes the ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:g}")


def finish_svg(text: str, *, themed: bool, description: str) -> str:
    """Make a file of matplotlib's a good citizen of a page.

    Args:
        text: the SVG.
        themed: whether to turn the stand-in colours into variables that follow ``prefers-color-scheme``.
        description: the picture in words, for screen readers.

    Returns:
        The SVG, with fonts of the reader's system and a responsive size.
    """
    text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", rf"font: \1{_FONT}", text)
    text = text.replace("font-family: 'DejaVu Sans'", f"font-family: {_FONT}")
    style = ""
    if themed:
        names = [field.name for field in fields(Colours) if field.name != "paper"]
        for name in names:
            text = text.replace(getattr(PLACEHOLDERS, name), f"var(--headway-{name})")
        light, dark = (
            "".join(f"--headway-{name}:{getattr(COLOURS[theme], name)};" for name in names)
            for theme in ("light", "dark")
        )
        style = f"<style>svg{{{light}}}@media (prefers-color-scheme: dark){{svg{{{dark}}}}}</style>"
    head = f"<desc>{html.escape(description)}</desc>{style}"
    return re.sub(r"(<svg\b[^>]*)>", rf'\1 role="img">{_literal(head)}', text, count=1)


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")
