"""The table of rooms holds, and the contract that holds it finds what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT), "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_package_keeps_the_table() -> None:
    result = _lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A package of the same name and table, to be given violations."""
    for room in ("model", "store", "service"):
        (tmp_path / "src" / "headway" / room).mkdir(parents=True)
        (tmp_path / "src" / "headway" / room / "__init__.py").touch()
    (tmp_path / "src" / "headway" / "__init__.py").touch()
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    (tmp_path / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    return tmp_path


@pytest.mark.parametrize(
    ("room", "line", "complaint"),
    [
        ("model", "import headway.store", "'model' may import only nothing"),
        ("model", "import httpx", "'model' imports only the standard library"),
        ("service", "from headway.store import jobs", "'service' may import only model, ports, schedule"),
        ("service", "def late():\n    import sqlalchemy", "only store may import sqlalchemy"),
        ("store", "from celery import shared_task", "only engine, headway, observe may import celery"),
        ("newroom", "", "the room 'newroom' has no row"),
    ],
)
def test_a_planted_violation_is_named(planted: Path, room: str, line: str, complaint: str) -> None:
    folder = planted / "src" / "headway" / room
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text(f"{line}\n")
    (planted / "src" / "headway" / "store" / "jobs.py").touch()
    # The installed package has the same name; the planted one must be found first.
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports;",
    ]
    command[-1] += "sys.path.insert(0, '.'); sys.exit(lint_imports(no_logo=True, cache_dir=None))"
    result = subprocess.run(command, cwd=planted, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert complaint in " ".join(result.stdout.split()), result.stdout


def test_the_untouched_planted_package_is_clean(planted: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports;",
    ]
    command[-1] += "sys.path.insert(0, '.'); sys.exit(lint_imports(no_logo=True, cache_dir=None))"
    result = subprocess.run(command, cwd=planted, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
