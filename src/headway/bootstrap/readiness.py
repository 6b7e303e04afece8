"""What every kind of node says of its store and of its loops."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Final

from headway.bootstrap.database import Opened
from headway.config import Settings
from headway.http.health import Part, PartStatus
from headway.model.errors import HeadwayError
from headway.runtime.loop import Loop

NO_SPACE_BYTES: Final = 16 << 20
"""With less, the disk is called full."""


def store_part(opened: Opened, settings: Settings) -> Part:
    """The store as it answers now, and the room on its disk."""
    try:
        took = opened.store.ping()
        free = shutil.disk_usage(settings.data_dir).free
    except HeadwayError as error:
        return Part(PartStatus.UNKNOWN, error.message, error.hint)
    if free < NO_SPACE_BYTES:
        hint = "Free space on the disk of the data directory; work goes on by itself."
        return Part(PartStatus.DEGRADED, f"the disk is full ({free >> 20} MiB free)", hint)
    return Part(PartStatus.OK, f"{settings.registry_label}, {took * 1000:.1f} ms")


def loop_parts(loops: Iterable[Loop]) -> dict[str, Part]:
    """Each loop by its name: its last error, or how often it ran."""
    states = [loop.status() for loop in loops]
    return {
        state.name: Part(PartStatus.DEGRADED if state.error else PartStatus.OK, state.error or f"{state.runs} runs")
        for state in states
    }
