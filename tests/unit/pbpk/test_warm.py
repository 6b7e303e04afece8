"""Models kept loaded."""

from __future__ import annotations

import pytest

from headway.pbpk import errors
from headway.pbpk.roadrunner import RoadRunnerEngine
from headway.pbpk.warm import LoadedModels
from tests.unit.pbpk.sbml_texts import dosed_by_rate_rule, explosive


def test_a_model_is_loaded_once_until_others_push_it_out() -> None:
    models = LoadedModels(RoadRunnerEngine(), keep=2)
    first = models.get(explosive())
    assert models.get(explosive().replace("\n", "\r\n")) is first
    models.get(dosed_by_rate_rule())
    assert models.get(explosive()) is first
    models.get(explosive().replace("value='1' constant='true'", "value='2' constant='true'"))
    # The one unused for longest went, not the first.
    assert models.get(explosive()) is first


def test_a_bad_model_is_not_kept() -> None:
    models = LoadedModels(RoadRunnerEngine())
    for _ in range(2):
        with pytest.raises(errors.InvalidModel):
            models.get("no model")
