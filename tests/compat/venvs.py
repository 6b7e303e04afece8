"""Virtual environments with other people's releases, made once and kept under `.venv-compat/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.required import skip_or_fail

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".venv-compat"
_MADE = ".made"


def python_of(version: str) -> str:
    """A Python of this version; without one the test is skipped, or fails in CI."""
    found = shutil.which(f"python{version}")
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        skip_or_fail(f"no python{version} on the PATH")
    return found


def venv(name: str, requirements: list[str], version: str = "3.11") -> Path:
    """The folder with the programs of an environment that has these requirements.

    From whatever index pip is configured for; nothing is fetched when the environment is there already.
    """
    folder = CACHE / name
    # Its programs name the folder that it was made in: a checkout that was moved needs another.
    wanted = "\n".join([str(folder), version, *requirements])
    mark = folder / _MADE
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python_of(version), "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*install, *requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            skip_or_fail(f"{requirements} cannot be installed: {done.stderr[-500:]}")
        mark.write_text(wanted)
    return folder / "bin"
