"""What holds for every source file: sizes, names, docstrings, and what it is safe to publish."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.required import skip_or_fail
from tools import check_sizes

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "headway").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}


def test_no_file_or_function_is_too_long() -> None:
    assert [size for size in check_sizes.measure(check_sizes.python_files()) if size.too_long] == []


def test_a_long_function_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "long.py"
    file.write_text("def f():\n" + "    x = 1\n" * 125)
    function = next(size for size in check_sizes.measure([file]) if size.where.endswith(" f"))
    assert (function.lines, function.too_long) == (126, True)


def test_no_file_is_named_for_nothing() -> None:
    assert [path for path in SOURCES if path.stem in FORBIDDEN_NAMES or path.parent.name in FORBIDDEN_NAMES] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_every_public_name_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(undocumented(tree.body)) == []


def undocumented(body: list[ast.stmt]) -> list[str]:
    """Public classes, functions and methods without a docstring; an override has that of its port."""
    missing = []
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        if not ast.get_docstring(node) and not decorators & {"override", "overload", "setter"}:
            missing.append(f"line {node.lineno}: {node.name}")
        if isinstance(node, ast.ClassDef):
            missing += undocumented(node.body)
    return missing


def test_the_docstring_check_sees_methods_and_spares_private_names() -> None:
    tree = ast.parse('class A:\n    """a"""\n    def f(self): ...\n    def _g(self): ...\nclass _B: ...\n')
    assert undocumented(tree.body) == ["line 3: f"]


def _tracked() -> list[Path]:
    # A checkout of another user's (as containers mount them) is refused by git unless it is called safe.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        skip_or_fail(f"a git checkout, to list what is committed: {error}")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_third_party_page_asset_is_committed() -> None:
    assert [path for path in _tracked() if path.name.endswith((".min.js", ".min.css"))] == []


def test_no_committed_file_is_big() -> None:
    limit = 1024 * 1024
    assert [(path, path.stat().st_size) for path in _tracked() if path.stat().st_size > limit] == []
