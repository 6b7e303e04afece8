"""Non-compartmental PK parameters, for one profile or thousands at once.

Definitions are the usual ones: M. Rowland, T. N. Tozer, *Clinical Pharmacokinetics and Pharmacodynamics*,
4th ed., 2011; J. Gabrielsson, D. Weiner, *Pharmacokinetic and Pharmacodynamic Data Analysis*, 5th ed., 2016.

A half-life says more about its window than about the drug when the tail is short, so the window, its
points, r² and the extrapolated part come with it, and it is refused where the tail does not carry it:

* the window ends at the last time whose concentration is above a millionth of Cmax, and begins after the
  peak and after the last rise;
* of all windows of three points or more, that with the best adjusted r² is taken; of those that come within
  0.0001 of it, the longest;
* refused: fewer than three points, no decline, adjusted r² below 0.98, or a window shorter than the
  half-life it claims. Warned: shorter than two half-lives, or more than 20 % of the AUC extrapolated.
  Above 50 %, AUC to infinity and what follows from it are refused.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from headway.pbpk import errors, pk_regression

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

AucMethod = Literal["linear", "linear-up-log-down"]
Status = Literal["derived", "warning", "suppressed", "not-evaluable"]

MIN_POINTS = 3
MIN_ADJUSTED_R2 = 0.98
MIN_HALF_LIVES = 1.0
GOOD_HALF_LIVES = 2.0
WARN_EXTRAPOLATED = 20.0
MAX_EXTRAPOLATED = 50.0

#: Every parameter, in the order of tables.
NAMES = (
    "cmax",
    "tmax",
    "auc_0_t",
    "auc_0_inf",
    "half_life",
    "lambda_z",
    "extrapolated_percent",
    "clearance",
    "volume",
    "window_start",
    "window_end",
    "window_points",
    "r2",
    "adjusted_r2",
)


class Reason(enum.IntFlag):
    """Why something is missing or doubtful."""

    NO_EXPOSURE = 1
    TOO_FEW_POINTS = 2
    NOT_DECLINING = 4
    POOR_FIT = 8
    WINDOW_TOO_SHORT = 16
    TOO_MUCH_EXTRAPOLATED = 32
    WINDOW_SHORT = 64
    MUCH_EXTRAPOLATED = 128
    NOT_SIMULATED = 256


#: Reasons for which the terminal phase is refused.
_REFUSED = Reason.TOO_FEW_POINTS | Reason.NOT_DECLINING | Reason.POOR_FIT | Reason.WINDOW_TOO_SHORT
_SUPPRESSED = _REFUSED | Reason.TOO_MUCH_EXTRAPOLATED
_WARNED = Reason.WINDOW_SHORT | Reason.MUCH_EXTRAPOLATED

_TEXTS = {
    Reason.NO_EXPOSURE: "the concentration is never above zero",
    Reason.TOO_FEW_POINTS: "fewer than 3 points after the peak and the last rise",
    Reason.NOT_DECLINING: "the concentration does not decline at the end",
    Reason.POOR_FIT: "the end is not log-linear (adjusted r² below 0.98)",
    Reason.WINDOW_TOO_SHORT: "the window is shorter than the half-life it would give",
    Reason.TOO_MUCH_EXTRAPOLATED: "more than 50 % of the AUC would be extrapolated",
    Reason.WINDOW_SHORT: "the window is shorter than two half-lives",
    Reason.MUCH_EXTRAPOLATED: "more than 20 % of the AUC is extrapolated",
    Reason.NOT_SIMULATED: "the simulation of this individual failed",
}


@dataclass(frozen=True)
class PkTable:
    """PK parameters of n profiles: an array of shape (n,) each, NaN where a value is refused.

    Times are in the unit of the given times, concentrations in the unit of the given values; ``auc_0_t`` and
    ``auc_0_inf`` in their product; ``clearance`` (CL/F) and ``volume`` (Vz/F) in dose / AUC and dose / AUC *
    time, NaN without a dose. ``reasons`` holds ``Reason`` flags.
    """

    cmax: Floats
    tmax: Floats
    auc_0_t: Floats
    auc_0_inf: Floats
    half_life: Floats
    lambda_z: Floats
    extrapolated_percent: Floats
    clearance: Floats
    volume: Floats
    window_start: Floats
    window_end: Floats
    window_points: Floats
    r2: Floats
    adjusted_r2: Floats
    reasons: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cmax)

    def column(self, name: str) -> Floats:
        """The array of one of ``NAMES``."""
        column: Floats = getattr(self, name)
        return column

    def matrix(self) -> Floats:
        """All of ``NAMES`` as columns, shape (n, len(NAMES))."""
        import numpy as np

        return np.column_stack([self.column(name) for name in NAMES])

    def profile(self, index: int = 0) -> PkProfile:
        """One profile's values."""
        values = {name: _or_none(float(self.column(name)[index])) for name in NAMES}
        return PkProfile(values, Reason(int(self.reasons[index])))


@dataclass(frozen=True)
class PkProfile:
    """PK parameters of one profile.

    Attributes:
        values: by name, ``None`` where refused.
        reasons: why something is missing or doubtful.
    """

    values: dict[str, float | None]
    reasons: Reason

    @property
    def status(self) -> Status:
        """``not-evaluable`` (nothing), ``suppressed`` (something refused), ``warning`` or ``derived``."""
        return status_of(self.reasons)

    @property
    def messages(self) -> list[str]:
        """The reasons in words."""
        return reason_texts(self.reasons)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: every parameter, ``status`` and ``messages``."""
        points = self.values["window_points"]
        values: dict[str, Any] = dict(self.values)
        values["window_points"] = None if points is None else int(points)
        return {**values, "status": self.status, "messages": self.messages}


def status_of(reasons: int) -> Status:
    """The status that a set of ``Reason`` flags means."""
    if reasons & (Reason.NO_EXPOSURE | Reason.NOT_SIMULATED):
        return "not-evaluable"
    if reasons & _SUPPRESSED:
        return "suppressed"
    return "warning" if reasons & _WARNED else "derived"


def reason_texts(reasons: int) -> list[str]:
    """A set of ``Reason`` flags in words."""
    return [text for flag, text in _TEXTS.items() if reasons & flag]


def pk_parameters(
    times: Sequence[float] | ArrayLike,
    values: ArrayLike,
    *,
    dose: float | ArrayLike | None = None,
    method: AucMethod = "linear",
    window: tuple[float, float] | None = None,
) -> PkTable:
    """PK parameters of concentration profiles.

    Args:
        times: shape (T,), increasing.
        values: concentrations, shape (T,) or (n, T), finite; a row of NaN marks an individual that could not
            be simulated. Negative values count as zero.
        dose: amount given, one number or shape (n,); without it there is no clearance and no volume.
        method: ``linear`` trapezoids, or ``linear-up-log-down`` (logarithmic where the concentration falls).
        window: (start, end) of the terminal phase, when it is to be prescribed instead of chosen.

    Returns:
        Arrays of shape (n,).

    Raises:
        PkNotEvaluable: fewer than two points, times that do not increase, or values that are not finite.
    """
    import numpy as np

    grid, rows, failed = _checked(times, values)
    if method not in {"linear", "linear-up-log-down"}:
        raise errors.PkNotEvaluable(
            f"The AUC method is 'linear' or 'linear-up-log-down', got {method!r}.", hint="Leave it out for 'linear'."
        )
    count = len(rows)
    peak = np.argmax(rows, axis=1)
    cmax = rows[np.arange(count), peak]
    auc = _auc(grid, rows, method)
    tail = pk_regression.terminal_phase(grid, rows, peak, window=window)
    usable = (cmax > 0) & ~failed
    reasons = _judge(failed, usable, tail)
    good = usable & ((reasons & int(_REFUSED)) == 0)
    amounts = np.full(count, np.nan) if dose is None else np.broadcast_to(np.asarray(dose, dtype=float), (count,))
    with np.errstate(divide="ignore", invalid="ignore"):
        lambda_z = np.where(good, tail.lambda_z, np.nan)
        beyond = rows[:, -1] / lambda_z
        extrapolated = 100.0 * beyond / (auc + beyond)
        reasons[extrapolated > MAX_EXTRAPOLATED] |= Reason.TOO_MUCH_EXTRAPOLATED
        reasons[(extrapolated > WARN_EXTRAPOLATED) & (extrapolated <= MAX_EXTRAPOLATED)] |= Reason.MUCH_EXTRAPOLATED
        auc_inf = np.where(extrapolated <= MAX_EXTRAPOLATED, auc + beyond, np.nan)
        clearance = np.where(amounts > 0, amounts / auc_inf, np.nan)
    found = usable & (tail.points >= MIN_POINTS)
    return PkTable(
        cmax=np.where(failed, np.nan, cmax),
        tmax=np.where(usable, grid[peak], np.nan),
        auc_0_t=np.where(failed, np.nan, auc),
        auc_0_inf=auc_inf,
        half_life=math.log(2.0) / lambda_z,
        lambda_z=lambda_z,
        extrapolated_percent=extrapolated,
        clearance=clearance,
        volume=clearance / lambda_z,
        window_start=np.where(found, tail.start, np.nan),
        window_end=np.where(found, tail.end, np.nan),
        window_points=np.where(found, tail.points.astype(float), np.nan),
        r2=np.where(found, tail.r2, np.nan),
        adjusted_r2=np.where(found, tail.adjusted_r2, np.nan),
        reasons=reasons,
    )


def _judge(
    failed: NDArray[np.bool_], usable: NDArray[np.bool_], tail: pk_regression.TerminalPhase
) -> NDArray[np.int64]:
    """What speaks against each profile and its terminal phase, as ``Reason`` flags."""
    import numpy as np

    reasons = np.zeros(len(failed), dtype=np.int64)
    reasons[failed] |= Reason.NOT_SIMULATED
    reasons[~usable & ~failed] |= Reason.NO_EXPOSURE
    few = tail.points < MIN_POINTS
    reasons[usable & few] |= Reason.TOO_FEW_POINTS
    rising = usable & ~few & ~(tail.lambda_z > 0)
    reasons[rising] |= Reason.NOT_DECLINING
    rest = usable & ~few & ~rising
    reasons[rest & ~(tail.adjusted_r2 >= MIN_ADJUSTED_R2)] |= Reason.POOR_FIT
    with np.errstate(invalid="ignore"):
        half_lives = (tail.end - tail.start) * tail.lambda_z / math.log(2.0)
    reasons[rest & (half_lives < MIN_HALF_LIVES)] |= Reason.WINDOW_TOO_SHORT
    reasons[rest & (half_lives >= MIN_HALF_LIVES) & (half_lives < GOOD_HALF_LIVES)] |= Reason.WINDOW_SHORT
    return reasons


def _checked(times: Any, values: Any) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    import numpy as np

    grid = np.asarray(times, dtype=np.float64)
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if grid.ndim != 1 or len(grid) < 2:
        raise errors.PkNotEvaluable(f"PK parameters need at least two points, got {grid.size}.")
    if rows.ndim != 2 or rows.shape[1] != len(grid):
        raise errors.PkNotEvaluable(f"Got {len(grid)} times, but concentrations of shape {rows.shape}.")
    if not np.isfinite(grid).all() or not (np.diff(grid) > 0).all():
        raise errors.PkNotEvaluable("The times must be finite and increase from one to the next.")
    failed: NDArray[np.bool_] = np.asarray(np.isnan(rows).all(axis=1))
    if not np.isfinite(rows[~failed]).all():
        raise errors.PkNotEvaluable("A profile holds values that are not finite.")
    positive: Floats = np.where(failed[:, None], 0.0, np.maximum(rows, 0.0))
    return grid, positive, failed


def _auc(grid: Floats, rows: Floats, method: AucMethod) -> Floats:
    """Area from the first to the last time; logarithmic trapezoids where asked and where both ends allow it."""
    import numpy as np

    before, after, step = rows[:, :-1], rows[:, 1:], np.diff(grid)
    areas = 0.5 * (before + after) * step
    if method == "linear-up-log-down":
        falling = (after < before) & (after > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithmic = (before - after) * step / np.log(before / after)
        areas = np.where(falling & np.isfinite(logarithmic), logarithmic, areas)
    total: Floats = areas.sum(axis=1)
    return total


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
