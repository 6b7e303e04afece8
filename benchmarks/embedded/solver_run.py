"""Child process: the solver of a population alone, in a bare loop: what this machine's cores can do side by side."""

from __future__ import annotations

import json
import sys
import time
from importlib.resources import files
from typing import Any

import roadrunner

_HOURS, _POINTS = 48.0, 200


def main(wanted: dict[str, Any]) -> dict[str, float]:
    """Simulate the shipped model of caffeine for ``seconds``, after a second that does not count.

    Returns:
        ``rate``: simulations per second.
    """
    model = roadrunner.RoadRunner(files("headway.pbpk.models").joinpath("caffeine.xml").read_text(encoding="utf-8"))
    _simulate(model, 1.0)
    return {"rate": _simulate(model, wanted["seconds"])}


def _simulate(model: Any, seconds: float) -> float:
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        model.reset()
        model.simulate(0, _HOURS, _POINTS)
        count += 1
    return count / (time.monotonic() - begun)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
