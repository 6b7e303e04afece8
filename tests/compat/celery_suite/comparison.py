"""What a way must do: pass what passes without Headway, but for the table, and the table must be true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.compat.celery_suite.ways import Outcome

_MISSING = Outcome("missing", text="it was not run")


@dataclass(frozen=True)
class Comparison:
    """A way beside the baseline.

    Attributes:
        required: how many tests pass without Headway.
        passed: how many of those pass in this way.
        excepted: how many of those are in the table, and fail.
        broken: tests that should pass and did not.
        stale: entries of the table that are not true (any more).
        beyond: tests that do not pass without Headway, and do in this way.
    """

    required: int
    passed: int
    excepted: int
    broken: Mapping[str, Outcome]
    stale: Mapping[str, str]
    beyond: tuple[str, ...]

    def report(self, title: str) -> str:
        """Counts, then what is wrong."""
        counts = f"{self.required} pass plain, {self.passed} of them in this way, {self.excepted} are exceptions"
        lines = [f"{title}: {counts}, {len(self.beyond)} pass only in this way"]
        for name, found in self.broken.items():
            lines.append(f"  {found.outcome} (tries: {found.runs}): {name}: {' '.join(found.text.split())[:300]}")
        lines += [f"  the table is wrong: {name}: {why}" for name, why in self.stale.items()]
        return "\n".join(lines)


def compare(plain: Mapping[str, Outcome], found: Mapping[str, Outcome], table: Mapping[str, str]) -> Comparison:
    """Judge what a way did.

    Args:
        plain: the baseline.
        found: the same tests in the way.
        table: exceptions of the way; entries for files that were not run here are not judged.
    """
    required = [name for name, one in plain.items() if one.passed]
    passed = [name for name in required if found.get(name, _MISSING).passed]
    excepted = [name for name in required if name in table and name not in passed]
    broken = {name: found.get(name, _MISSING) for name in required if name not in passed and name not in table}
    stale = {name: "it passes" for name in passed if name in table}
    files = Counter(name.partition("::")[0] for name in plain)
    stale |= {name: "no such test" for name in table if name not in plain and files[name.partition("::")[0]]}
    beyond = tuple(name for name, one in found.items() if one.passed and name not in required)
    return Comparison(len(required), len(passed), len(excepted), broken, stale, beyond)


def counts(found: Mapping[str, Outcome]) -> str:
    """How many tests ended how, and which failed."""
    by_outcome = Counter(one.outcome for one in found.values())
    again = sum(one.passed and one.runs > 1 for one in found.values())
    lines = [", ".join(f"{count} {name}" for name, count in sorted(by_outcome.items())) + f", {again} at a later try"]
    failed = {name: one for name, one in found.items() if one.outcome in {"failed", "missing"}}
    lines += [f"  {one.outcome}: {name}: {' '.join(one.text.split())[:200]}" for name, one in failed.items()]
    return "\n".join(lines)
