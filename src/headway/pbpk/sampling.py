"""How parameters differ between people: distributions, and draws that depend on nothing but their names.

A draw is a function of (seed, parameter path, individual's number). It does not depend on the size of the
population, on chunks, on workers or on the other covariates, so individual 17 is always the same person.
Source of randomness: Philox4x64-10, J. K. Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*,
SC'11, 2011; the key is (seed, digest of the path), the counter is the individual's number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, get_args

from headway.pbpk import errors
from headway.pbpk.checks import is_integer, is_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Distribution = Literal["lognormal", "normal", "uniform", "fixed"]

#: Seeds are unsigned 64-bit integers.
MAX_SEED = 2**64 - 1

_FIELDS = ("path", "name", "distribution", "mean", "cv", "sd", "min", "max", "unit")


@dataclass(frozen=True)
class Covariate:
    """How one parameter differs between people.

    Attributes:
        path: the parameter.
        distribution: ``lognormal``, ``normal``, ``uniform`` (between the bounds) or ``fixed``.
        mean: arithmetic mean before the bounds are applied (for ``fixed``, the value); ``None`` means the
            value that the simulation has for the parameter.
        cv: coefficient of variation (sd / mean); give this or ``sd``.
        sd: standard deviation; give this or ``cv``.
        minimum: lower bound; the distribution is truncated there, not clipped.
        maximum: upper bound, likewise.
        unit: of mean, sd and bounds; ``None`` means the parameter's own.
    """

    path: str
    distribution: Distribution = "lognormal"
    mean: float | None = None
    cv: float | None = None
    sd: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.distribution not in get_args(Distribution):
            raise self._refused(f"expected a distribution of {get_args(Distribution)}, got {self.distribution!r}")
        for name in ("mean", "cv", "sd", "minimum", "maximum"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise self._refused(f"{name} must be a finite number, got {value!r}")
        self._check_shape()

    def _check_shape(self) -> None:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise self._refused(f"min {self.minimum:g} is above max {self.maximum:g}")
        if self.distribution == "uniform" and (self.minimum is None or self.maximum is None):
            raise self._refused("a uniform distribution needs min and max")
        if self.distribution in {"lognormal", "normal"}:
            if (self.cv is None) == (self.sd is None):
                raise self._refused("give either cv or sd")
            if (self.cv if self.cv is not None else self.sd or 0.0) < 0:
                raise self._refused("cv and sd must not be negative")

    def _refused(self, what: str) -> errors.InvalidSimulation:
        return errors.InvalidSimulation(f"Covariate {self.path!r}: {what}.", covariate=self.path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Covariate:
        """From JSON values: ``path`` (or ``name``), ``distribution``, ``mean``, ``cv``, ``sd``, ``min``, ``max``, ``unit``.

        Raises:
            InvalidSimulation: a field is missing, unknown or out of range.
        """
        unknown = sorted(set(values) - set(_FIELDS))
        path = values.get("path") or values.get("name")
        if unknown or not isinstance(path, str):
            got = f"unknown field {unknown[0]!r}" if unknown else "neither path nor name"
            raise errors.InvalidSimulation(f"A covariate has the fields {', '.join(_FIELDS)}; got {got}.")
        numbers = {}
        for key, attribute in (("mean", "mean"), ("cv", "cv"), ("sd", "sd"), ("min", "minimum"), ("max", "maximum")):
            value = values.get(key)
            if value is not None and not isinstance(value, int | float):
                raise errors.InvalidSimulation(f"Covariate {path!r}: {key} must be a number, got {value!r}.")
            numbers[attribute] = value
        return cls(path, values.get("distribution", "lognormal"), unit=values.get("unit"), **numbers)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the fields that are not set."""
        values = {
            "path": self.path,
            "distribution": self.distribution,
            "mean": self.mean,
            "cv": self.cv,
            "sd": self.sd,
            "min": self.minimum,
            "max": self.maximum,
            "unit": self.unit,
        }
        return {key: value for key, value in values.items() if value is not None}

    def quantile(self, uniform: float, base: float) -> float:
        """The value at cumulative probability ``uniform`` (0 to 1), ``base`` standing in for a missing mean.

        Truncation is by the inverse of the distribution function between the bounds, so that one uniform
        number always gives one value.

        Raises:
            InvalidSimulation: a log-normal mean is not positive, or nothing lies between the bounds.
        """
        mean = base if self.mean is None else self.mean
        if self.distribution == "fixed":
            return mean
        if self.distribution == "uniform":
            least, most = float(self.minimum or 0.0), float(self.maximum or 0.0)
            return least + (most - least) * uniform
        sd = abs(mean) * self.cv if self.cv is not None else float(self.sd or 0.0)
        if sd == 0.0:
            return mean
        if self.distribution == "normal":
            return self._truncated(NormalDist(mean, sd), uniform, self.minimum, self.maximum)
        if mean <= 0:
            raise self._refused(f"a log-normal mean must be positive, got {mean:g}")
        # Arithmetic mean and sd to those of the logarithm.
        variance = math.log1p((sd / mean) ** 2)
        normal = NormalDist(math.log(mean) - variance / 2, math.sqrt(variance))
        low = math.log(self.minimum) if self.minimum is not None and self.minimum > 0 else None
        if self.maximum is not None and self.maximum <= 0:
            raise self._refused("nothing of a log-normal distribution lies below zero")
        high = math.log(self.maximum) if self.maximum is not None else None
        return math.exp(self._truncated(normal, uniform, low, high))

    def _truncated(self, normal: NormalDist, uniform: float, low: float | None, high: float | None) -> float:
        below = normal.cdf(low) if low is not None else 0.0
        above = normal.cdf(high) if high is not None else 1.0
        if above - below < 1e-9:
            raise self._refused("almost nothing of the distribution lies between min and max")
        position = below + (above - below) * uniform
        # inv_cdf is open at 0 and 1; the clamp is 9 standard deviations out.
        value = normal.inv_cdf(min(max(position, 1e-19), 1.0 - 1e-16))
        if low is not None:
            value = max(value, low)
        return min(value, high) if high is not None else value


def uniforms(seed: int, path: str, start: int, stop: int) -> NDArray[np.float64]:
    """The uniform numbers in (0, 1) of individuals ``start`` to ``stop`` (exclusive) for one parameter.

    Args:
        seed: 0 to 2**64 - 1.
        path: the parameter.
        start: first individual, from 0.
        stop: one after the last.

    Returns:
        An array of shape (stop - start,).

    Raises:
        InvalidSimulation: the seed is out of range.
    """
    import numpy as np

    if not is_integer(seed, 0, MAX_SEED):
        raise errors.InvalidSimulation(f"The seed must be an integer from 0 to 2**64 - 1, got {seed!r}.")
    digest = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big")
    generator = np.random.Philox(key=np.array([seed, digest], dtype=np.uint64), counter=start)
    # A counter gives four words; one individual takes one counter, so that its number alone decides.
    words = generator.random_raw(4 * (stop - start))[::4]
    # The upper 53 bits, moved by half a step: never exactly 0 or 1.
    numbers: NDArray[np.float64] = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return numbers


def draw(covariate: Covariate, base: float, seed: int, start: int, stop: int) -> NDArray[np.float64]:
    """Values of one parameter for individuals ``start`` to ``stop`` (exclusive), shape (stop - start,).

    Args:
        covariate: its distribution, in the unit of ``base``.
        base: the value that stands for a missing mean.
        seed: 0 to 2**64 - 1.
        start: first individual, from 0.
        stop: one after the last.

    Raises:
        InvalidSimulation: the distribution is impossible, or the seed is out of range.
    """
    import numpy as np

    numbers = uniforms(seed, covariate.path, start, stop)
    return np.array([covariate.quantile(float(number), base) for number in numbers], dtype=np.float64)
