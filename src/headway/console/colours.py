"""The colour of each state, kept beside the table of states and written out as the page's style sheet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from headway.model.states import STATE_VIEWS, JobState


@dataclass(frozen=True, slots=True)
class Colour:
    """Text, tint and glyph of a state: in light and in dark; the glyph says the same without colour."""

    light: str
    dark: str
    light_tint: str
    dark_tint: str
    glyph: str


COLOURS: dict[JobState, Colour] = {
    JobState.SCHEDULED: Colour("#5b4bb5", "#b6a9ff", "#efecff", "#2a2547", "◷"),
    JobState.QUEUED: Colour("#4f5b6b", "#aeb9c8", "#edf0f4", "#252c36", "◌"),
    JobState.RUNNING: Colour("#0b5cad", "#7db8ff", "#e3f0ff", "#11294a", "▶"),
    JobState.RETRY_SCHEDULED: Colour("#8a5300", "#f5b95f", "#fff1da", "#3a2a10", "↻"),
    JobState.SUCCEEDED: Colour("#0f6b3c", "#6fd39b", "#e0f5e9", "#10301f", "✓"),
    JobState.FAILED: Colour("#b3261e", "#ff9d94", "#fde8e6", "#42191a", "✕"),
    JobState.TIMEOUT: Colour("#a03a0e", "#ffaa80", "#ffebdf", "#40210f", "◔"),
    JobState.CANCELLED: Colour("#63605a", "#b5b0a7", "#f0eeea", "#2d2b27", "⊘"),
}
"""One row per state; a test holds that none is missing and that each can be read."""


class Tone(StrEnum):
    """What a page says of anything that is no job's state: of health, of workers, of sources."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    QUIET = "quiet"  # nobody knows


TONES: dict[Tone, Colour] = {
    Tone.GOOD: replace(COLOURS[JobState.SUCCEEDED], glyph="✓"),
    Tone.WARN: replace(COLOURS[JobState.RETRY_SCHEDULED], glyph="!"),
    Tone.BAD: replace(COLOURS[JobState.FAILED], glyph="✕"),
    Tone.QUIET: replace(COLOURS[JobState.CANCELLED], glyph="?"),
}
"""The same few colours as those of states."""


def states_css() -> str:
    """The style sheet of all states, in the order of the table of states, and of the tones."""
    states = [_rule(f"state-{view.state.value}", COLOURS[view.state]) for view in STATE_VIEWS]
    return "".join([*states, *(_rule(f"tone-{tone.value}", colour) for tone, colour in TONES.items())])


def _rule(name: str, colour: Colour) -> str:
    return (
        f".{name} {{ --state: light-dark({colour.light}, {colour.dark}); "
        f"--tint: light-dark({colour.light_tint}, {colour.dark_tint}); }}\n"
    )
