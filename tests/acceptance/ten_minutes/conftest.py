"""A new user's place: an empty folder, an empty home, and nothing set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.cli.conftest import Folder, Running


class Desk(Folder):
    """A folder with nothing in it but what a test writes, and a home with nothing in it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "desk"
        self.path.mkdir()
        self.home = path / "home"
        self.home.mkdir()

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in super().environment(extra).items() if not name.startswith("DJANGO_")}
        return {**kept, "HOME": str(self.home)}

    def write(self, name: str, text: str) -> None:
        """Write a file, its folders too."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def python(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a script of the user's."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def up(self, *arguments: str, env: Mapping[str, str] | None = None) -> Running:
        """`headway up` on a free port."""
        return self.start("up", "--port", "0", *arguments, env=env)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    assert "HEADWAY_DATA_DIR" not in os.environ
    return Desk(tmp_path)
