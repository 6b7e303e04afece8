"""The engine that comes with Headway: libroadrunner (CVODE), one model at a time.

Four traps of libroadrunner 2.10 decide the order of things here, all measured:

* A second load of the same model in one process takes another code path and gives other bits, unless every
  load compiles anew (``LOADSBMLOPTIONS_RECOMPILE``).
* ``reset`` keeps changed parameters but zeroes those under a rate rule (a dose); ``resetAll`` restores all.
  Hence: resetAll, set, reset for the initial assignments that follow what was set, and set again.
* A new size of a compartment keeps the amounts in it, also of species that SBML starts with a concentration.
  Hence: those concentrations are put back (``init(size)`` would do it, and compiles anew: 0.3 s).
* ``simulate`` holds the GIL, and CVODE writes its complaints to file descriptor 2.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from headway.pbpk import errors, sbml
from headway.pbpk.times import checked_times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

    from headway.pbpk.description import ModelDescription

#: Relative and absolute tolerance of the solver, and its step limit between two times.
RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-10
MAXIMUM_STEPS = 20_000


class RoadRunnerEngine:
    """Loads SBML into libroadrunner.

    Args:
        relative_tolerance: of the solver.
        absolute_tolerance: of the solver, in the model's units of amount.
        maximum_steps: solver steps allowed between two output times.
    """

    def __init__(
        self,
        *,
        relative_tolerance: float = RELATIVE_TOLERANCE,
        absolute_tolerance: float = ABSOLUTE_TOLERANCE,
        maximum_steps: int = MAXIMUM_STEPS,
    ) -> None:
        self._relative = relative_tolerance
        self._absolute = absolute_tolerance
        self._steps = maximum_steps

    @property
    def name(self) -> str:
        """``roadrunner``."""
        return "roadrunner"

    @property
    def version(self) -> str:
        """Version of libroadrunner."""
        return str(_module().__version__)

    def load(self, text: str, name: str = "") -> RoadRunnerModel:
        """Validate with libsbml, then compile.

        Raises:
            InvalidModel: libsbml or libroadrunner refuses the model.
            PbpkNotInstalled: a package is missing.
        """
        description = sbml.describe(text, name)
        module = _module()
        try:
            with _quiet():
                runner = module.RoadRunner(sbml.canonical_text(text))
        except Exception as error:
            raise errors.InvalidModel(
                f"libroadrunner cannot run this model: {_plain(error)}", problems=[], engine_message=_plain(error)
            ) from error
        runner.integrator.relative_tolerance = self._relative
        runner.integrator.absolute_tolerance = self._absolute
        runner.integrator.maximum_num_steps = self._steps
        return RoadRunnerModel(description, runner, sbml.starting_concentrations(text))


class RoadRunnerModel:
    """A compiled model; see ``engine.LoadedModel`` for what it promises."""

    def __init__(
        self, description: ModelDescription, runner: Any, concentrations: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._description = description
        self._runner = runner
        self._concentrations = concentrations
        self._selected: tuple[str, ...] = ()

    @property
    def description(self) -> ModelDescription:
        """What is in the model."""
        return self._description

    def simulate(
        self, parameters: Mapping[str, float], times: Sequence[float], outputs: Sequence[str]
    ) -> NDArray[np.float64]:
        """Run once; arguments, result and errors as in ``engine.LoadedModel.simulate``."""
        import numpy as np

        checked = {path: self._description.checked(path, value) for path, value in parameters.items()}
        grid = checked_times(times)
        chosen = tuple(self._description.output(path).path for path in outputs)
        try:
            with _quiet():
                self._prepare(checked)
                if chosen != self._selected:
                    self._runner.timeCourseSelections = list(chosen)
                    self._selected = chosen
                # The engine reuses its result matrix: copy before the next run overwrites it.
                rows = np.array(self._runner.simulate(times=grid), dtype=np.float64)
        except Exception as error:
            self._selected = ()
            raise _failed(_plain(error)) from error
        result = np.ascontiguousarray(rows.T)
        if not np.isfinite(result).all():
            bad = chosen[int(np.argmin(np.isfinite(result).all(axis=1)))]
            raise _failed(f"output {bad} is not finite")
        return result

    def initial_values(self, parameters: Mapping[str, float], paths: Sequence[str]) -> dict[str, float]:
        """Values at time 0; arguments and errors as in ``engine.LoadedModel.initial_values``."""
        checked = {path: self._description.checked(path, value) for path, value in parameters.items()}
        for path in paths:
            if not any(item.path == path for item in self._description.outputs):
                self._description.parameter(path)
        try:
            with _quiet():
                self._prepare(checked)
                values = {path: float(self._runner.getValue(path)) for path in paths}
        except Exception as error:
            raise _failed(_plain(error)) from error
        return values

    def _prepare(self, parameters: Mapping[str, float]) -> None:
        self._runner.resetAll()
        sizes = {path: float(self._runner.getValue(path)) for path in parameters if path in self._concentrations}
        self._set(parameters)
        self._runner.reset()
        self._set(parameters)
        # The engine's amounts are those of the model's own sizes.
        for path, size in sizes.items():
            amounts = {species: float(self._runner.getValue(species)) for species in self._concentrations[path]}
            self._set({f"[{species}]": amount / size for species, amount in amounts.items()})

    def _set(self, parameters: Mapping[str, float]) -> None:
        for path, value in parameters.items():
            self._runner.setValue(path, value)


def _failed(message: str) -> errors.SimulationFailed:
    return errors.SimulationFailed(f"The simulation failed: {message}", engine_message=message)


def _plain(error: Exception) -> str:
    """The solver's message without the C++ function it came from."""
    return str(error).split("; In ", maxsplit=1)[0].strip()[:500] or type(error).__name__


def _module() -> ModuleType:
    try:
        import roadrunner
    except ImportError as error:
        raise errors.PbpkNotInstalled("Simulations need the package libroadrunner, which is not installed.") from error
    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
    roadrunner.Logger.disableConsoleLogging()
    roadrunner.Config.setValue(roadrunner.Config.LOADSBMLOPTIONS_RECOMPILE, True)
    module: ModuleType = roadrunner
    return module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Native complaints go nowhere: the exception says the same. The GIL is held, so no log line is lost."""
    try:
        kept = os.dup(2)
    except OSError:
        # A process without a standard error has nothing to keep quiet.
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
