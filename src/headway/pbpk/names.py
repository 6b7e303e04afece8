"""Names of the tasks, for the routes, which must not import what runs them."""

from __future__ import annotations

from typing import Final

DESCRIBE: Final = "headway.pbpk.describe_model"
SIMULATE: Final = "headway.pbpk.run_simulation"
POPULATION: Final = "headway.pbpk.run_population"
