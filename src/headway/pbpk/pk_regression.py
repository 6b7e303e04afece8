"""The terminal phase: which points of a profile lie on its last straight line in log concentration.

The rule is the common one of best adjusted r² (implemented in most NCA programs; see Gabrielsson and Weiner,
chapter on non-compartmental analysis): all windows that end at the last point are fitted by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

#: Concentrations below this part of Cmax are left out of the tail: there the solver's tolerance shows.
FLOOR = 1e-6

#: A rise smaller than this part of Cmax is the solver's noise.
RISE = 1e-7

#: Windows whose adjusted r² is so close to the best count as equally good, and the longest is taken.
EQUALLY_GOOD = 1e-4


@dataclass(frozen=True)
class TerminalPhase:
    """The fitted window of n profiles, shape (n,) each; ``points`` is 0 where there is none.

    Attributes:
        lambda_z: minus the slope of log concentration over time; NaN where there is no window.
        start: first time of the window.
        end: last time of the window.
        points: how many it has.
        r2: coefficient of determination.
        adjusted_r2: the same, adjusted for the number of points.
    """

    lambda_z: Floats
    start: Floats
    end: Floats
    points: Integers
    r2: Floats
    adjusted_r2: Floats


def terminal_phase(
    times: Floats, rows: Floats, peak: NDArray[np.intp], *, window: tuple[float, float] | None = None
) -> TerminalPhase:
    """Fit the terminal phase of each row.

    Args:
        times: shape (T,), increasing.
        rows: concentrations, shape (n, T), none negative.
        peak: index of the maximum of each row.
        window: (start, end) to use instead of choosing.

    Returns:
        Arrays of shape (n,).
    """
    import numpy as np

    count, length = rows.shape
    index = np.arange(length)
    cmax = rows[np.arange(count), peak][:, None]
    above = rows > FLOOR * cmax
    # The last point above the floor; -1 for a row without any.
    last = np.where(above.any(axis=1), length - 1 - np.argmax(above[:, ::-1], axis=1), -1)
    if window is None:
        first = np.maximum(peak + 1, _after_last_rise(rows, cmax))
        inside = (index >= first[:, None]) & (index <= last[:, None]) & above
    else:
        inside = ((times >= window[0]) & (times <= window[1]))[None, :] & above
    # From the first gap backwards nothing counts: a window has no holes.
    inside &= np.cumsum((~inside & (index <= last[:, None]))[:, ::-1], axis=1)[:, ::-1] == 0 if window is None else True
    fits = _fits(times, rows, inside)
    chosen = _choose(fits.adjusted_r2, fits.points) if window is None else np.argmax(fits.points, axis=1)
    picked = np.arange(count), chosen
    points = fits.points[picked]
    enough = points >= 3
    return TerminalPhase(
        lambda_z=np.where(enough, -fits.slope[picked], np.nan),
        start=np.where(enough, times[chosen], np.nan),
        end=np.where(enough, times[_last_inside(inside, last)], np.nan),
        points=np.where(enough, points, 0).astype(np.int64),
        r2=np.where(enough, fits.r2[picked], np.nan),
        adjusted_r2=np.where(enough, fits.adjusted_r2[picked], np.nan),
    )


def _after_last_rise(rows: Floats, cmax: Floats) -> Integers:
    import numpy as np

    rises = np.diff(rows, axis=1) > RISE * cmax
    length = rises.shape[1]
    after: Integers = np.where(rises.any(axis=1), length - np.argmax(rises[:, ::-1], axis=1), 0)
    return after


def _last_inside(inside: NDArray[np.bool_], last: NDArray[np.intp]) -> NDArray[np.intp]:
    import numpy as np

    length = inside.shape[1]
    return np.where(inside.any(axis=1), length - 1 - np.argmax(inside[:, ::-1], axis=1), np.maximum(last, 0))


@dataclass(frozen=True)
class _Fits:
    """Least squares over every window from column k to the end of the tail, shape (n, T) each."""

    slope: Floats
    r2: Floats
    adjusted_r2: Floats
    points: Integers


def _fits(times: Floats, rows: Floats, inside: NDArray[np.bool_]) -> _Fits:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(inside, np.log(np.where(inside, rows, 1.0)), 0.0)
        # Centred on the middle of the tail, which keeps the sums of squares from cancelling.
        total = np.maximum(inside.sum(axis=1, keepdims=True), 1)
        x = np.where(inside, times[None, :] - (inside * times).sum(axis=1, keepdims=True) / total, 0.0)
        y = np.where(inside, logs - logs.sum(axis=1, keepdims=True) / total, 0.0)
        n = _from_the_end(inside.astype(np.float64))
        sx, sy = _from_the_end(x), _from_the_end(y)
        sxx, sxy, syy = _from_the_end(x * x), _from_the_end(x * y), _from_the_end(y * y)
        vxx, vxy, vyy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
        slope = vxy / vxx
        # A level tail has no variance to explain: no fit, rather than no number.
        r2 = np.where(vyy > 0, np.clip(vxy * vxy / (vxx * vyy), 0.0, 1.0), 0.0)
        adjusted = 1.0 - (1.0 - r2) * (n - 1.0) / (n - 2.0)
    valid = inside & (n >= 3)
    return _Fits(
        slope=np.where(valid, slope, np.nan),
        r2=np.where(valid, r2, np.nan),
        adjusted_r2=np.where(valid, adjusted, np.nan),
        points=np.where(valid, n, 0).astype(np.int64),
    )


def _from_the_end(values: Floats) -> Floats:
    import numpy as np

    sums: Floats = np.cumsum(values[:, ::-1], axis=1)[:, ::-1]
    return sums


def _choose(adjusted_r2: Floats, points: Integers) -> NDArray[np.intp]:
    """The column of the longest window that is as good as the best, per row (0 where there is none)."""
    import numpy as np

    scores = np.where(np.isfinite(adjusted_r2), adjusted_r2, -np.inf)
    best = scores.max(axis=1, keepdims=True)
    good = (scores >= best - EQUALLY_GOOD) & np.isfinite(scores)
    column: NDArray[np.intp] = np.argmax(np.where(good, points, 0), axis=1)
    return column
