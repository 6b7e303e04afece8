"""The port for simulation engines: what Headway asks of whatever solves a model.

libroadrunner is the engine that comes with Headway (``roadrunner.py``). How to write another, for example
one that runs ospsuite in a process of its own, is in docs/how-to/pbpk-engines.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from headway.pbpk.description import ModelDescription


@runtime_checkable
class LoadedModel(Protocol):
    """A model that is ready to run.

    Obligations of every engine:

    * **No memory.** A run starts from the model's own values and the given parameters, whatever ran before:
      the same call gives the same bits, in any order, in any process of the same machine.
    * **Checked first.** Names and values are checked against ``description`` before the solver sees them.
    * **Coded errors.** What the solver refuses becomes ``SimulationFailed`` with its own words in
      ``engine_message``; after it, the model can be used again.
    * **One thread.** A loaded model is used by one thread at a time. A run may hold the interpreter for its
      whole length, so callers that must stay responsive load models in a child process.

    A crash half-way leaves nothing behind: an engine writes no files that outlive the call.
    """

    @property
    def description(self) -> ModelDescription:
        """What is in the model."""
        ...

    def simulate(
        self, parameters: Mapping[str, float], times: Sequence[float], outputs: Sequence[str]
    ) -> NDArray[np.float64]:
        """Run once.

        Args:
            parameters: values that differ from the model's own, in the parameters' own units.
            times: increasing, from 0, in the model's time unit; at least two.
            outputs: paths of ``description.outputs``.

        Returns:
            Shape (len(outputs), len(times)), in the outputs' own units.

        Raises:
            UnknownParameter: no such parameter.
            ParameterSetByRule: a rule computes it.
            InvalidParameterValue: not finite, negative, or out of bounds.
            UnknownOutput: no such output.
            InvalidSimulation: the times are not increasing numbers from 0.
            SimulationFailed: the solver gave up, or a value is not finite.
        """
        ...

    def initial_values(self, parameters: Mapping[str, float], paths: Sequence[str]) -> dict[str, float]:
        """Values of parameters and outputs at time 0, rules applied.

        Args:
            parameters: as for ``simulate``.
            paths: parameters or outputs.

        Raises:
            As ``simulate``.
        """
        ...


@runtime_checkable
class SimulationEngine(Protocol):
    """Loads models.

    Obligations: the model is validated before native code reads it; loading runs no code that the model's
    author could choose; the text alone decides the result (its hash stands in the job's record).
    """

    @property
    def name(self) -> str:
        """Short name, for the record of a job: ``roadrunner``."""
        ...

    @property
    def version(self) -> str:
        """Version of the solver, for the record of a job."""
        ...

    def load(self, text: str, name: str = "") -> LoadedModel:
        """Read a model.

        Args:
            text: the model, in the engine's format (SBML for the shipped engine).
            name: what to call it; its own identifier when empty.

        Raises:
            InvalidModel: the text is no valid model; ``problems`` says where.
            PbpkNotInstalled: the engine's packages are missing.
        """
        ...
