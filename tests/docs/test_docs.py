"""Words under test: links lead somewhere, every page can be found, and the reference says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_docs, reference


def test_links_lead_somewhere() -> None:
    assert list(check_docs.broken_links(check_docs.pages())) == []


def test_every_page_can_be_found() -> None:
    assert list(check_docs.unreachable(check_docs.pages())) == []


def test_the_changelog_knows_this_version() -> None:
    assert list(check_docs.changelog()) == []


@pytest.mark.parametrize("name", sorted(reference.GENERATED))
def test_the_reference_says_what_the_code_says(name: str) -> None:
    text = reference.GENERATED[name]().strip()
    pages = [page.read_text(encoding="utf-8") for page in reference.REFERENCE.glob("*.md")]
    assert any(text in page for page in pages), f"run `make docs`: '{name}' of the reference is not what the code says"


def test_every_error_code_is_one_class_and_has_a_hint_or_gives_one() -> None:
    classes = reference.error_classes()
    own = [cls for cls in classes if "code" in vars(cls)]
    assert len({cls.code for cls in own}) == len(own)
    assert all(cls.code == cls.code.lower() and cls.__doc__ for cls in own)


def test_a_broken_link_and_a_wrong_anchor_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title here\n\n[a](missing.md) [b](#title-here) [c](#nowhere) `[d](code.md)`\n")
    found = list(check_docs.broken_links([page]))
    assert len(found) == 2
    assert "missing.md" in found[0]
    assert "#nowhere" in found[1]


def test_a_page_that_differs_from_the_code_is_rewritten() -> None:
    page = "# T\n\n<!-- generated: states -->\nsomething stale\n<!-- end generated -->\n\nprose\n"
    new = reference.rewritten(page)
    assert "stale" not in new
    assert "`succeeded`" in new
    assert new.endswith("prose\n")
    assert reference.rewritten(new) == new
