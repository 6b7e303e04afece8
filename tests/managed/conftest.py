"""Clusters for the managed tests: one for a whole file where nothing is broken, one of its own where something is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.client import Client
from tests.managed.cluster import Managed, Part
from tests.servers.postgres import ExternalPostgres, PostgresServer, drop_database
from tests.servers.valkey import ValkeyServer


@pytest.fixture
def cluster(tmp_path: Path, postgres_url: str, own_valkey: ValkeyServer) -> Managed:
    """A cluster on Valkey, of which nothing runs."""
    return Managed(tmp_path, postgres_url, f"{own_valkey.url}")


@pytest.fixture
def service(cluster: Managed) -> Iterator[Part]:
    """Its service, running."""
    with cluster.service() as part:
        yield part


@pytest.fixture
def client(service: Part) -> Iterator[Client]:
    """A client of it."""
    with service.client() as made:
        yield made


@pytest.fixture(scope="module")
def shared_registry(postgres_server: PostgresServer | ExternalPostgres) -> Iterator[str]:
    """The URL of a database for one file's tests."""
    url = postgres_server.create_database()
    yield url
    drop_database(url)
