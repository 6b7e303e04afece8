"""Docs: links inside the repository resolve, and the generated reference is what the code says.

Run as `python -m tools.check_docs`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tools import reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def pages() -> list[Path]:
    """Every Markdown page of the repository: at its root and under docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def broken_links(files: Iterable[Path]) -> Iterator[str]:
    """Each link to a file or heading of the repository that leads nowhere."""
    for page in files:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in _LINK.findall(_CODE.sub("", text)):
            if _ELSEWHERE.match(target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            name = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
            if not file.exists():
                yield f"{name}: no file {target}"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                yield f"{name}: no heading #{anchor} in {path or name}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, spelled as code hosts spell them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def unreachable(files: Iterable[Path]) -> Iterator[str]:
    """Each page under docs/ that no other page links to: nobody will find it."""
    linked: set[Path] = set()
    known = list(files)
    for page in known:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        linked.update((page.parent / target.partition("#")[0]).resolve() for target in _LINK.findall(text))
    for page in known:
        if page.is_relative_to(ROOT / "docs") and page != ROOT / "docs" / "index.md" and page.resolve() not in linked:
            yield f"{page.relative_to(ROOT)}: no page links to it"


def changelog() -> Iterator[str]:
    """Whether the changelog has a place for what is not released and names the version of the project file."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if "## [Unreleased]" not in text and f"## [{version}]" not in text:
        yield f"CHANGELOG.md has neither '## [Unreleased]' nor '## [{version}]'"


def problems() -> Iterator[str]:
    """All that is wrong."""
    files = pages()
    yield from broken_links(files)
    yield from unreachable(files)
    yield from changelog()
    yield from reference.stale()


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    found = list(problems())
    for problem in found:
        print(problem)
    print(f"{len(pages())} pages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
