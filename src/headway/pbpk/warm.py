"""Models kept loaded in a warm child: compiling takes half a second, a run two milliseconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from headway.pbpk.sbml import model_hash

if TYPE_CHECKING:
    from headway.pbpk.engine import LoadedModel, SimulationEngine


class LoadedModels:
    """The models that were used last, by the hash of their text. For one thread.

    Args:
        engine: loads what is not there yet.
        keep: how many at most; the one unused for longest goes first.
    """

    def __init__(self, engine: SimulationEngine, *, keep: int = 4) -> None:
        self._engine = engine
        self._keep = keep
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()

    def get(self, text: str, name: str = "") -> LoadedModel:
        """The model of this text, loaded now or before.

        Raises:
            InvalidModel, PbpkNotInstalled: as ``SimulationEngine.load``; nothing is kept then.
        """
        key = f"{model_hash(text)} {name}"
        if key not in self._models:
            self._models[key] = self._engine.load(text, name)
        self._models.move_to_end(key)
        while len(self._models) > self._keep:
            self._models.popitem(last=False)
        return self._models[key]
