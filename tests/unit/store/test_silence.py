"""A Postgres that is slow is waited for; the URL of one is given to the driver as it is."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from headway.store.postgres import SILENCE_SECONDS, Connection, conninfo


@pytest.mark.postgres
def test_a_long_statement_is_not_a_silence(postgres_url: str) -> None:
    with Connection.opener(postgres_url, {})() as connection:
        found = connection.execute("SELECT 7 FROM pg_sleep(%s)", (SILENCE_SECONDS + 1.5,)).fetchone()
        assert found == (7,)


@pytest.mark.postgres
def test_a_connection_that_the_server_ends_says_so(postgres_url: str) -> None:
    open_one = Connection.opener(postgres_url, {})
    with open_one() as one, open_one() as other:
        other.execute("SELECT pg_terminate_backend(%s)", (one.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            one.execute("SELECT 1")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%20w@h:5/d", {"user": "u", "password": "p w", "host": "h", "port": "5", "dbname": "d"}),
        ("postgresql://u:%27%5C@h/d", {"user": "u", "password": "'\\", "host": "h", "dbname": "d"}),
        ("postgresql:///d?host=/run/pg&sslmode=disable", {"host": "/run/pg", "dbname": "d", "sslmode": "disable"}),
    ],
)
def test_what_is_in_the_url_reaches_the_driver(url: str, expected: dict[str, str]) -> None:
    assert conninfo_to_dict(conninfo(url)) == expected
