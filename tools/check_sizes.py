"""Sizes: a file of more than 400 lines or a function of more than 60 is named; past 600 and 120 the check fails.

Run as `python -m tools.check_sizes`. Long files and functions are where readers give up; the warning asks for a thought,
the limit for a change.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "tools", "tests", "benchmarks")
FILE_WARNS, FILE_FAILS = 400, 600
FUNCTION_WARNS, FUNCTION_FAILS = 60, 120


class Size(NamedTuple):
    """One file or function and its length in lines."""

    where: str
    lines: int
    warns: int
    fails: int

    @property
    def too_long(self) -> bool:
        """Whether the check fails for it."""
        return self.lines > self.fails


def measure(files: Iterable[Path]) -> Iterator[Size]:
    """The sizes of each file and of each function in it, comments and docstrings included."""
    for file in files:
        text = file.read_text(encoding="utf-8")
        name = str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
        yield Size(name, text.count("\n"), FILE_WARNS, FILE_FAILS)
        for node in ast.walk(ast.parse(text, filename=name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                yield Size(f"{name}:{node.lineno} {node.name}", length, FUNCTION_WARNS, FUNCTION_FAILS)


def python_files() -> list[Path]:
    """Every Python file of the repository's own folders, sorted, without the migrations.

    A migration is a list of statements that is written once and never changed: its length misleads nobody.
    """
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "migrations" not in path.parts)


def main() -> int:
    """Print what is long; 1 if anything is too long."""
    long = sorted((s for s in measure(python_files()) if s.lines > s.warns), key=lambda s: -s.lines)
    for size in long:
        verdict = f"more than {size.fails}: split it" if size.too_long else f"more than {size.warns}"
        print(f"{size.lines:5} {size.where}  ({verdict})")
    failed = sum(size.too_long for size in long)
    print(f"{len(long)} long, {failed} too long")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
