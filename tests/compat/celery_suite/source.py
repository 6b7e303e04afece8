"""The suite itself, from the source distribution of Celery's release, and an environment that can run it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.compat.venvs import CACHE, ROOT, venv
from tests.required import skip_or_fail

RELEASE: Final = "5.6.3"
DIGEST: Final = "177006bd2054b882e9f01be59abd8529e88879ef50d7918a7050c5a9f4e12912"
FOLDER: Final = "t/integration"
_FETCH_SECONDS = 300
# What the suite asks for beside what Headway brings; mocks of cloud services and Docker are for parts that are left out.
_SUITE_NEEDS = (
    f"celery=={RELEASE}",
    "cryptography",
    "django",
    "pytest==8.4.2",
    "pytest-order",
    "pytest-rerunfailures>=15",
    "pytest-subtests>=0.14.1",
    "pytest-timeout==2.4.0",
)


def suite() -> Path:
    """A folder with the suite under ``t/`` and its pytest settings, fetched with pip when it is not there yet.

    Nothing else of the distribution is unpacked, so that the suite imports the Celery that is installed.
    """
    folder = CACHE / f"celery-{RELEASE}"
    if not (folder / FOLDER).is_dir():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            made = Path(scratch) / "made"
            _unpack(_fetch(Path(scratch)), made)
            # Whole or not at all; another process of the same run may have been faster.
            with suppress(OSError):
                made.rename(folder)
    assert (folder / FOLDER).is_dir(), folder
    return folder


def environment() -> Path:
    """A Python with exactly the release that the suite belongs to, what the suite needs, and what Headway needs."""
    return venv("celery-suite", [*needs(), *_SUITE_NEEDS]) / "python"


def needs() -> list[str]:
    """What Headway itself asks for, with Postgres; its code is not installed but put on the path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["postgres"]]


def sources() -> str:
    """The folder of the Headway under test: HEADWAY_TEST_SOURCES, else this checkout's."""
    return os.environ.get("HEADWAY_TEST_SOURCES", str(ROOT / "src"))


def _fetch(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "celery", "--dest", str(scratch), f"celery=={RELEASE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    found = next(scratch.glob("*.tar.gz"), None)
    if found is None:
        skip_or_fail(f"the source distribution of Celery {RELEASE} cannot be fetched: {done.stderr[-500:]}")
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    assert digest == DIGEST, f"this is not the distribution that the tables were written for: {digest}"
    return found


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            _, _, inner = member.name.partition("/")
            if inner in {"pyproject.toml", "t/__init__.py"} or inner.startswith(f"{FOLDER}/"):
                opened.extract(member.replace(name=inner), folder, filter="data")
