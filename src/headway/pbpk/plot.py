"""The picture of a profile: median, its 5-95 % band, axes with units, as PNG or SVG, light or dark.

Matplotlib's object interface only: no pyplot, no current figure. An SVG with theme ``auto`` follows the
reader's ``prefers-color-scheme`` and has a transparent background.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from headway.pbpk import errors, plot_style, units
from headway.pbpk.description import UNIT_UNKNOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]
Theme = Literal["light", "dark", "auto"]

#: Matplotlib reads two SVG options from its global settings only, so they are set under a lock.
_SVG_OPTIONS = {"svg.fonttype": "none", "svg.hashsalt": "headway"}
_svg_lock = threading.Lock()


@dataclass(frozen=True)
class Profile:
    """What a picture shows.

    Attributes:
        times: increasing.
        middle: the median of a population, or the values of one run.
        low: 5th percentile, or ``None``.
        high: 95th percentile, or ``None``.
        time_unit: of the times.
        unit: of the values.
        title: first line, bold.
        subtitle: second line, lighter.
        quantity: name of the vertical axis.
    """

    times: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float] | None
    high: Sequence[float] | None
    time_unit: str
    unit: str
    title: str
    subtitle: str = ""
    quantity: str = "Concentration"


def profile_of(result: Mapping[str, Any], output: str | None = None, *, title: str | None = None) -> Profile:
    """The picture of a result, as ``SimulationResult.to_dict`` or ``PopulationResult.to_dict`` wrote it.

    Args:
        result: JSON values.
        output: path of the output; the first one when ``None``.
        title: first line; made from the model's and the output's names when ``None``.

    Raises:
        UnknownOutput: the result has no such output.
    """
    rows = result["outputs"]
    row = next((item for item in rows if output is None or item["path"] == output), None)
    if row is None:
        raise errors.unknown_output(str(output), [item["path"] for item in rows])
    population = "p50" in row
    evaluated = result["size"] - result["failed"] if population else 1
    people = (
        f"{evaluated:,} individual{'s' if evaluated != 1 else ''} · seed {result['seed']}"
        if population
        else "one simulation"
    )
    heading = title or str(result["model"]).replace("_", " ").capitalize()
    name = str(row["name"]).partition(": ")[2] or str(row["name"])
    return Profile(
        times=result["times"],
        middle=row["p50"] if population else row["values"],
        low=row["p5"] if population else None,
        high=row["p95"] if population else None,
        time_unit=result["time_unit"],
        unit=row["unit"],
        title=heading,
        subtitle=people,
        quantity=name[:1].upper() + name[1:],
    )


def render(
    profile: Profile,
    *,
    image: Format = "png",
    theme: Theme = "light",
    log: bool = False,
    width: float = 8.0,
    height: float = 4.8,
    dpi: int = 160,
) -> bytes:
    """Draw a profile.

    Args:
        profile: what to show.
        image: ``png`` or ``svg``.
        theme: ``light``, ``dark``, or for SVG ``auto`` (a PNG cannot follow its reader, and is light).
        log: whether the vertical axis is logarithmic.
        width: inches.
        height: inches.
        dpi: dots per inch of a PNG.

    Returns:
        The file's bytes; the same input gives the same bytes.

    Raises:
        InvalidSimulation: the format or theme is unknown, or nothing can be drawn.
        PbpkNotInstalled: matplotlib is missing.
    """
    if image not in {"png", "svg"} or theme not in {"light", "dark", "auto"}:
        raise errors.InvalidSimulation(f"A plot is png or svg, light, dark or auto; got {image!r} and {theme!r}.")
    if not len(profile.times) == len(profile.middle) > 1 or not max(profile.middle) > -float("inf"):
        raise errors.InvalidSimulation("A plot needs at least two points, as many values as times.")
    shown = _readable(profile)
    if image == "png":
        colours = plot_style.COLOURS["light" if theme == "auto" else theme]
        buffer = io.BytesIO()
        _figure(shown, colours, log=log, width=width, height=height).savefig(
            buffer, format="png", dpi=dpi, facecolor=colours.paper, metadata={"Software": "Headway"}
        )
        return buffer.getvalue()
    return _svg(shown, theme, log=log, width=width, height=height)


def _svg(profile: Profile, theme: Theme, *, log: bool, width: float, height: float) -> bytes:
    plot_style.matplotlib_module()
    import matplotlib as mpl

    colours = plot_style.COLOURS[theme] if theme != "auto" else plot_style.PLACEHOLDERS
    buffer = io.StringIO()
    with _svg_lock, mpl.rc_context(_SVG_OPTIONS):  # type: ignore[arg-type]
        _figure(profile, colours, log=log, width=width, height=height).savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": "Headway", "Title": profile.title},
        )
    return plot_style.finish_svg(buffer.getvalue(), themed=theme == "auto", description=_described(profile)).encode()


def _described(profile: Profile) -> str:
    """The picture in words, for those who do not see it."""
    peak = max(range(len(profile.middle)), key=lambda index: profile.middle[index])
    unit, time = plot_style.label(profile.unit), plot_style.label(profile.time_unit)
    return (
        f"{profile.title}. {profile.quantity} over {profile.times[-1]:g} {time}, "
        f"highest {profile.middle[peak]:.3g} {unit} at {profile.times[peak]:.3g} {time}. {profile.subtitle}"
    )


def _readable(profile: Profile) -> Profile:
    """Hours in place of many minutes, and ng/mL in place of thousandths of mg/L."""
    shown = profile
    if shown.time_unit == "min" and shown.times[-1] >= 300:
        shown = replace(shown, times=[time / 60.0 for time in shown.times], time_unit="h")
    peak = max(shown.high if shown.high is not None else shown.middle)
    if shown.unit != UNIT_UNKNOWN and 0 < peak < 0.5 and units.same_dimension(shown.unit, "mg/L"):
        factor = units.convert(1.0, shown.unit, "ng/mL")
        if factor > 1:
            shown = _scaled(shown, factor, "ng/mL")
    return shown


def _scaled(profile: Profile, factor: float, unit: str) -> Profile:
    def scale(values: Sequence[float] | None) -> list[float] | None:
        return None if values is None else [value * factor for value in values]

    middle = [value * factor for value in profile.middle]
    return replace(profile, middle=middle, low=scale(profile.low), high=scale(profile.high), unit=unit)


def _figure(profile: Profile, colours: plot_style.Colours, *, log: bool, width: float, height: float) -> Figure:
    plot_style.matplotlib_module()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.patch.set_facecolor(colours.paper)
    axes = figure.add_axes((0.62 / width + 0.02, 0.68 / height, 1 - 0.95 / width - 0.02, 1 - 1.62 / height))
    axes.set_facecolor("none")
    _curves(axes, profile, colours, log=log)
    _axes(axes, profile, colours, log=log)
    _words(figure, profile, colours, width=width, height=height)
    return figure


def _curves(axes: Axes, profile: Profile, colours: plot_style.Colours, *, log: bool) -> None:
    floor = _log_floor(profile) if log else None
    times = list(profile.times)
    if profile.low is not None and profile.high is not None:
        low, high = _above(profile.low, floor), _above(profile.high, floor)
        axes.fill_between(times, low, high, color=colours.band, linewidth=0, zorder=2)
        for edge in (low, high):
            axes.plot(times, edge, color=colours.edge, linewidth=0.9, zorder=3)
    middle = _above(profile.middle, floor)
    axes.plot(times, middle, color=colours.line, linewidth=2.4, zorder=4, solid_capstyle="round")
    peak = max(range(len(times)), key=lambda index: profile.middle[index])
    if profile.middle[peak] <= 0 or peak in {0, len(times) - 1}:
        return
    text = (
        f"peak {plot_style.number(profile.middle[peak])} {plot_style.label(profile.unit)}"
        f" at {times[peak]:.2g} {plot_style.label(profile.time_unit)}"
    )
    axes.plot(
        [times[peak]], [profile.middle[peak]], "o", markersize=6.5, color=colours.line,
        markeredgecolor=colours.paper if colours.paper.startswith("#") else colours.line, markeredgewidth=1.4, zorder=5,
    )  # fmt: skip
    axes.annotate(
        text, (times[peak], profile.middle[peak]), xytext=(14, 0), textcoords="offset points", ha="left", va="center",
        color=colours.ink, fontsize=10, fontweight="bold", zorder=6,
    )  # fmt: skip


def _axes(axes: Axes, profile: Profile, colours: plot_style.Colours, *, log: bool) -> None:
    from matplotlib.ticker import LogFormatterMathtext, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

    top = max(profile.high if profile.high is not None else profile.middle)
    # A hair of room on the left, or the rise would be drawn on the edge and cut in half.
    axes.set_xlim(-0.006 * profile.times[-1], profile.times[-1])
    if log:
        axes.set_yscale("log")
        axes.set_ylim(_log_floor(profile), top * 2)
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_major_formatter(LogFormatterMathtext() if top < 1e-3 else plot_style.decimal_formatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, top * 1.08 if top > 0 else 1)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    step = plot_style.time_step(profile.time_unit, profile.times[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step) if step else MaxNLocator(9))
    axes.set_xlabel(f"Time [{plot_style.label(profile.time_unit)}]", color=colours.soft, fontsize=11, labelpad=7)
    axes.grid(axis="y", color=colours.grid, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.axis)
    axes.tick_params(axis="x", color=colours.axis, labelcolor=colours.soft, labelsize=10.5, length=4, pad=5)
    axes.tick_params(axis="y", which="both", length=0, labelcolor=colours.soft, labelsize=10.5, pad=6)


def _words(figure: Figure, profile: Profile, colours: plot_style.Colours, *, width: float, height: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    left = 0.28 / width
    figure.text(
        left, 1 - 0.24 / height, profile.title, ha="left", va="top", color=colours.ink, fontsize=15, fontweight="bold"
    )
    if profile.subtitle:
        figure.text(left, 1 - 0.54 / height, profile.subtitle, ha="left", va="top", color=colours.soft, fontsize=10.5)
    # The vertical axis is named above it: horizontal words are read faster than turned ones.
    quantity = f"{profile.quantity} [{plot_style.label(profile.unit)}]"
    above = 1 - (0.93 if profile.subtitle else 0.78) / height
    figure.text(left, above, quantity, ha="left", va="center", color=colours.soft, fontsize=11)
    if profile.low is not None:
        handles: list[Any] = [
            Line2D([], [], color=colours.line, linewidth=2.4, label="median"),
            Patch(facecolor=colours.band, edgecolor=colours.edge, linewidth=0.9, label="5th to 95th percentile"),
        ]
        figure.legend(
            handles=handles, loc="center right", bbox_to_anchor=(1 - 0.2 / width, above), ncols=2, frameon=False,
            labelcolor=colours.soft, fontsize=10.5, handlelength=1.6, columnspacing=1.4, borderpad=0, borderaxespad=0,
        )  # fmt: skip


def _log_floor(profile: Profile) -> float:
    """Lowest value of a logarithmic axis: what is there after the rise, but at most five decades down."""
    top = max(profile.high if profile.high is not None else profile.middle)
    lowest = profile.low if profile.low is not None else profile.middle
    peak = max(range(len(lowest)), key=lambda index: lowest[index])
    tail = [value for value in lowest[peak:] if value > 0]
    if top <= 0 or not tail:
        raise errors.InvalidSimulation("A logarithmic plot needs values above zero.")
    return max(min(tail) / 2, top * 1e-5)


def _above(values: Sequence[float], floor: float | None) -> list[float]:
    return list(values) if floor is None else [max(value, floor * 0.5) for value in values]
