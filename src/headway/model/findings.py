"""What a check found, and what to do about it: the nouns of `headway doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: name of the check.
        level: how much it matters.
        says: what is so.
        remedy: what to do; empty when nothing is.
    """

    check: str
    level: Level
    says: str
    remedy: str = ""
