"""The build hook: page assets are there, are the pinned ones, and nothing else is ever put in their place."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

import hatch_build

VENDOR = Path(__file__).parents[2] / hatch_build.VENDOR


def test_the_assets_of_this_checkout_are_the_pinned_ones() -> None:
    assert hatch_build.missing(VENDOR) == []


def test_a_changed_file_is_missing_and_a_right_one_is_left_alone(tmp_path: Path) -> None:
    vendor = tmp_path / "vendor"
    shutil.copytree(VENDOR, vendor)
    before = (vendor / "htmx.min.js").stat().st_mtime_ns
    hatch_build.fetch(vendor)
    assert (vendor / "htmx.min.js").stat().st_mtime_ns == before
    (vendor / "uPlot.min.css").write_text("body { display: none }")
    assert [asset.target for asset in hatch_build.missing(vendor)] == ["uPlot.min.css"]


def _fake_npm(folder: Path, script: str) -> Path:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    return npm


def test_a_package_with_other_content_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "evil.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for asset in hatch_build.ASSETS:
            content = b"alert(1)"
            info = tarfile.TarInfo(asset.member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    _fake_npm(tmp_path, f'cp "{archive}" "$4/"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    vendor = tmp_path / "vendor"
    with pytest.raises(hatch_build.AssetsUnavailableError, match="is not the pinned file: expected sha256"):
        hatch_build.fetch(vendor)
    assert list(vendor.iterdir()) == []


def test_a_registry_that_does_not_answer_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_npm(tmp_path, "echo 'network is unreachable' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(hatch_build.AssetsUnavailableError, match=r"could not fetch(.|\n)*network is unreachable"):
        hatch_build.fetch(tmp_path / "vendor")
