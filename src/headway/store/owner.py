"""Who owns a data directory: one process, with a lock that dies with it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from headway.model.errors import DataDirectoryInUse, DataDirectoryUnusable

LOCK_NAME = "headway.lock"
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "glusterfs", "ceph", "lustre"}
)


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """What the lock file says of the living owner; ``url`` is None while it does not serve."""

    pid: int
    token: str
    url: str | None


class Ownership:
    """The data directory is this process' until ``release``, or its death."""

    def __init__(self, path: Path, file: IO[str], token: str) -> None:
        self._path = path
        self._file = file
        self.token = token

    def announce(self, url: str | None) -> None:
        """Write where this owner can be reached."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"pid": os.getpid(), "token": self.token, "url": url}))
        self._file.flush()

    def release(self) -> None:
        """Let somebody else own the directory."""
        # Emptied, not removed: a waiting process may hold the same file open and must lock the same one.
        self._file.seek(0)
        self._file.truncate()
        self._file.close()


def claim_directory(data_dir: Path) -> Ownership:
    """Become the owner of a data directory, creating it if needed.

    Raises:
        DataDirectoryInUse: a living process owns it.
        DataDirectoryUnusable: it cannot be written, or lies on a network file system.
    """
    prepare_directory(data_dir)
    path = data_dir / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirectoryUnusable(f"the lock file {path} cannot be opened: {error.strerror}") from error
    file = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise DataDirectoryUnusable(
                f"the file system of {data_dir} refuses file locks: {error.strerror}",
                hint="Choose a directory on a local disk with --data-dir.",
            ) from error
        owner = read_owner(data_dir)
        who = f"process {owner.pid}" + (f" at {owner.url}" if owner.url else "") if owner else "another process"
        raise DataDirectoryInUse(f"{data_dir} is owned by {who}") from error
    path.chmod(0o600)
    owned = Ownership(path, file, secrets.token_urlsafe(32))
    owned.announce(None)
    return owned


def read_owner(data_dir: Path) -> OwnerRecord | None:
    """The living owner of a data directory, or None when nobody holds its lock."""
    path = data_dir / LOCK_NAME
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                said = json.loads(file.read() or "{}")
                return OwnerRecord(int(said.get("pid", 0)), str(said.get("token", "")), said.get("url"))
    except (FileNotFoundError, ValueError):
        return None
    except PermissionError as error:
        raise DataDirectoryUnusable(
            f"the lock file {path} belongs to another user", hint="Run as that user, or choose another --data-dir."
        ) from error
    return None


def prepare_directory(data_dir: Path) -> None:
    """Create the directory and refuse one that cannot hold a registry."""
    try:
        if not data_dir.exists():
            data_dir.parent.mkdir(parents=True, exist_ok=True)
            # Arguments, results and logs are the owner's, not every user's of the machine.
            data_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise DataDirectoryUnusable(f"the data directory {data_dir} cannot be created: {error.strerror}") from error
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise DataDirectoryUnusable(f"the data directory {data_dir} is not writable for user {os.getuid()}")
    kind = file_system(data_dir)
    if kind in _NETWORK:
        raise DataDirectoryUnusable(
            f"the data directory {data_dir} lies on a network file system ({kind}), where SQLite loses data",
            hint="Choose a local disk with --data-dir, or use Postgres: JOB_REGISTRY_PATH=postgresql://…",
        )


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of file system a path lies on, as the kernel names it; empty where it cannot be known."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    resolved = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        point = Path(fields[1].replace("\\040", " "))
        if (resolved == point or point in resolved.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind
