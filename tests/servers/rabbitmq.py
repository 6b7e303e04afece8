"""A real RabbitMQ for tests, from the system's package.

Debian's command in /usr/sbin is not used: it insists on the user `rabbitmq` and on the system's folders. The server's own
start script takes everything from its environment, and here all of that is in the folder of the server.
Run as `python -m tests.servers.rabbitmq` it serves until Ctrl-C and prints its URL.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import kombu

from tests.servers.process import ServerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """\
listeners.tcp.default = 127.0.0.1:{port}
# Alarms that stop publishers belong to the machine, not to a test.
disk_free_limit.absolute = 1MB
log.console = true
log.console.level = info
log.file = false
"""


class Binaries(NamedTuple):
    """What is started: the server's own script, and Erlang's port mapper, which every node needs."""

    server: Path
    epmd: Path


def find_binaries() -> Binaries | None:
    """The programs of the system; None where RabbitMQ or Erlang is missing."""
    servers = [
        Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),
        *Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"),
    ]
    on_path = shutil.which("rabbitmq-server")
    # Beside the start script lies what it sources; Debian's wrapper has no such neighbour.
    servers += [Path(on_path).resolve()] if on_path else []
    server = next((path for path in servers if (path.parent / "rabbitmq-env").exists()), None)
    mappers = [Path(found) for found in [shutil.which("epmd")] if found]
    mappers += sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    return Binaries(server, mappers[0]) if server and mappers else None


class PortMapper(ServerProcess):
    """Erlang's `epmd`, started here in the foreground: one that a node starts becomes a daemon which outlives the node."""

    name = "epmd"

    def __init__(self, binary: Path) -> None:
        super().__init__()
        self.binary = binary

    def command(self) -> list[str]:
        """`epmd` in the foreground."""
        return [str(self.binary), "-address", "127.0.0.1", "-port", str(self.port)]

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


class RabbitServer(ServerProcess):
    """One RabbitMQ node without plugins; durable queues and persistent messages are kept over stop and kill."""

    name = "rabbitmq"
    start_seconds = 90.0

    def __init__(self, binaries: Binaries) -> None:
        super().__init__()
        self.binary = binaries.server
        self.mapper = PortMapper(binaries.epmd)
        self.distribution_port = free_port()
        self.config = self.folder / "rabbitmq.conf"
        self.config.write_text(CONFIG.format(port=self.port), encoding="utf-8")
        self.config.chmod(0o644)
        self.plugins = self.folder / "enabled_plugins"
        self.plugins.write_text("[].\n", encoding="utf-8")
        self.plugins.chmod(0o644)

    @property
    def url(self) -> str:
        """The URL of the default virtual host for the user every new node has."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def environment(self) -> dict[str, str]:
        """All that the start script would else look up in the system's folders."""
        return {
            "HOME": str(self.folder),
            # The script then becomes the Erlang machine instead of watching over it: one process, and its id is ours.
            "detached": "true",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.plugins),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "rabbitmq.pid"),
            "RABBITMQ_NODENAME": f"{self.folder.name}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.mapper.port),
            "ERL_CRASH_DUMP_BYTES": "0",
        }

    def command(self) -> list[str]:
        """The start script, which becomes the Erlang machine."""
        return [str(self.binary)]

    def answers(self) -> bool:
        """Whether a client can log in."""
        # Not `Connection.connect`, which asks again by itself, two seconds later.
        transport = kombu.Connection(self.url, connect_timeout=2, transport_options={"read_timeout": 2}).transport
        try:
            connection = transport.establish_connection()
        except transport.connection_errors:
            return False
        transport.close_connection(connection)
        return True

    def control(self, *arguments: str) -> None:
        """`rabbitmqctl` with these arguments, of this node."""
        subprocess.run(
            [str(self.binary.parent / "rabbitmqctl"), *arguments],
            env={**os.environ, **self.environment()},
            check=True,
            capture_output=True,
            timeout=60,
        )

    def start(self) -> None:
        """Start the port mapper and then the node."""
        self.mapper.start()
        super().start()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the node in good order, connections closed by it, then the port mapper."""
        super().stop(how)
        self.mapper.stop()

    def kill(self) -> None:
        """kill -9 for the node, what it started, and the port mapper."""
        super().kill()
        self.mapper.kill()

    def remove(self) -> None:
        """End the node and the port mapper and remove their folders."""
        super().remove()
        self.mapper.remove()


def _serve() -> Iterator[str]:
    binaries = find_binaries()
    if binaries is None:
        sys.exit("No RabbitMQ here: `apt-get install rabbitmq-server` brings one.")
    server = RabbitServer(binaries)
    try:
        server.start()
        yield f"{server.url}  (pid {server.pid}, folder {server.folder}, started by {os.getpid()})"
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        server.remove()


if __name__ == "__main__":
    for line in _serve():
        print(line, flush=True)
