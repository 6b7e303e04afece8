"""One owner of a data directory, alive or dead."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from headway.model.errors import DataDirectoryInUse, DataDirectoryUnusable
from headway.store import owner
from headway.store.owner import LOCK_NAME, claim_directory, file_system, prepare_directory, read_owner

_CLAIM = """
import sys, time
from pathlib import Path
from headway.store.owner import claim_directory
owned = claim_directory(Path(sys.argv[1]))
owned.announce("http://127.0.0.1:1")
print(owned.token, flush=True)
sys.stdin.read()
"""


def other_owner(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIM, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_owns_it(tmp_path: Path) -> None:
    process, token = other_owner(tmp_path)
    try:
        with pytest.raises(DataDirectoryInUse, match=rf"process {process.pid} at http://127.0.0.1:1") as caught:
            claim_directory(tmp_path)
        assert "--data-dir" in caught.value.hint
        record = read_owner(tmp_path)
        assert record is not None
        assert (record.pid, record.token, record.url) == (process.pid, token, "http://127.0.0.1:1")
    finally:
        end(process)


def test_the_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    process, token = other_owner(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert token in (tmp_path / LOCK_NAME).read_text()
    assert read_owner(tmp_path) is None
    owned = claim_directory(tmp_path)
    assert owned.token != token
    owned.release()


def test_only_the_owner_may_read_the_token(tmp_path: Path) -> None:
    owned = claim_directory(tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder" / LOCK_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"pid": os.getpid(), "token": owned.token, "url": None}
    owned.release()
    assert path.read_text() == ""
    assert read_owner(tmp_path / "new" / "folder") is None
    claim_directory(tmp_path / "new" / "folder").release()


def test_nobody_owns_a_folder_without_a_lock(tmp_path: Path) -> None:
    assert read_owner(tmp_path) is None
    assert read_owner(tmp_path / "none") is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryUnusable, match="cannot be created"):
        prepare_directory(tmp_path / "file" / "data")


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    data = tmp_path / "share d" / "data"
    escaped = str(tmp_path / "share d").replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/export {escaped} nfs4 rw 0 0\n")
    data.mkdir(parents=True)
    assert file_system(data, mounts) == "nfs4"
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "no such file") == ""
    monkeypatch.setattr(owner, "file_system", lambda path: file_system(path, mounts))
    with pytest.raises(DataDirectoryUnusable, match="nfs4") as caught:
        claim_directory(data)
    assert "Postgres" in caught.value.hint
    claim_directory(tmp_path / "local").release()
