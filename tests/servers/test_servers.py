"""The launchers themselves: what a fault test relies on when it stops, kills or pauses a server."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import kombu
import psutil
import psycopg
import pytest

from tests.servers.postgres import PostgresServer, find_binaries
from tests.servers.process import ServerError
from tests.servers.rabbitmq import RabbitServer
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytest_plugins = ["pytester"]


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def _insert(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (id serial)")
        connection.execute("INSERT INTO kept DEFAULT VALUES")


def _message(url: str) -> object:
    # Not acknowledged: an acknowledgement is written later, and the kill that follows would lose it.
    with kombu.Connection(url) as connection, connection.SimpleQueue("kept") as queue:
        return queue.get(timeout=10).payload


@pytest.mark.postgres
def test_each_postgres_url_is_a_database_of_its_own(postgres_url: str) -> None:
    _insert(postgres_url)
    assert _count(postgres_url) == 1


@pytest.mark.postgres
def test_postgres_keeps_commits_over_stop_and_kill(own_postgres: PostgresServer) -> None:
    url = own_postgres.create_database()
    _insert(url)
    own_postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    own_postgres.start()
    _insert(url)
    first = own_postgres.pid
    own_postgres.kill()
    assert not psutil.pid_exists(first)
    own_postgres.start()
    assert _count(url) == 2


@pytest.mark.postgres
def test_paused_postgres_answers_again_after_resume(own_postgres: PostgresServer) -> None:
    own_postgres.pause()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(own_postgres.url, connect_timeout=2)
    own_postgres.resume()
    assert own_postgres.answers()


@pytest.mark.postgres
def test_postgres_is_durable_private_and_not_root(own_postgres: PostgresServer) -> None:
    with psycopg.connect(own_postgres.url) as connection:
        settings = connection.execute(
            "SELECT current_setting('fsync'), current_setting('listen_addresses'), current_setting('timezone')"
        ).fetchone()
    assert settings == ("on", "127.0.0.1", "UTC")
    assert psutil.Process(own_postgres.pid).uids().real != 0
    assert own_postgres.folder.stat().st_mode & 0o077 == 0


@pytest.mark.postgres
@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_binaries_below_a_private_folder_are_copied_and_the_folder_stays_closed(tmp_path: Path) -> None:
    binaries = find_binaries()
    assert binaries is not None
    install = binaries.parent
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    (private / install.parent.name).symlink_to(install.parent)
    libraries = install.parent.parent / f"{install.parent.name}.libs"
    if libraries.exists():
        (private / libraries.name).symlink_to(libraries)
    server = PostgresServer(private / install.parent.name / install.name / "bin")
    try:
        server.start()
        assert server.binaries.is_relative_to(server.folder)
        assert private.stat().st_mode & 0o777 == 0o700
    finally:
        server.remove()


@pytest.mark.valkey
def test_valkey_answers_stops_starts_and_forgets(own_valkey: ValkeyServer) -> None:
    assert own_valkey.ask("SET key value") == "+OK"
    own_valkey.kill()
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", own_valkey.port), timeout=1):
        pass
    own_valkey.start()
    assert own_valkey.ask("EXISTS key") == ":0"
    own_valkey.stop()
    own_valkey.stop()
    with pytest.raises(ServerError):
        _ = own_valkey.pid


@pytest.mark.long
def test_rabbitmq_keeps_durable_messages_over_stop_and_kill(own_rabbitmq: RabbitServer) -> None:
    with kombu.Connection(own_rabbitmq.url) as connection, connection.SimpleQueue("kept") as queue:
        queue.put("kept")
    own_rabbitmq.stop()
    own_rabbitmq.start()
    assert _message(own_rabbitmq.url) == "kept"
    node, mapper = own_rabbitmq.pid, own_rabbitmq.mapper.pid
    own_rabbitmq.kill()
    assert not psutil.pid_exists(node)
    assert not psutil.pid_exists(mapper)
    assert not own_rabbitmq.answers()
    own_rabbitmq.start()
    assert _message(own_rabbitmq.url) == "kept"


@pytest.mark.long
def test_paused_rabbitmq_answers_again_after_resume(own_rabbitmq: RabbitServer) -> None:
    own_rabbitmq.pause()
    assert not own_rabbitmq.answers()
    own_rabbitmq.resume()
    assert own_rabbitmq.answers()


def test_rabbitmq_listens_on_loopback_only_in_its_own_folder_and_is_not_root(own_rabbitmq: RabbitServer) -> None:
    family = [psutil.Process(own_rabbitmq.pid), psutil.Process(own_rabbitmq.mapper.pid)]
    listening = [c.laddr for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}
    assert own_rabbitmq.port in {address.port for address in listening}
    assert all(process.uids().real != 0 for process in family)
    assert (own_rabbitmq.folder / "mnesia").is_dir()


def test_waiting_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"waited 0.05 s for the moon; the last answer was 0"):
        wait_until(lambda: 0, what="the moon", seconds=0.05)


def test_a_process_that_outlives_its_test_is_found_killed_and_named(pytester: pytest.Pytester) -> None:
    root = Path(__file__).parents[2]
    pytester.makeconftest("from tests.conftest import *\nfrom tests.conftest import _no_leftovers\n")
    pytester.makepyfile(
        """
        import subprocess, sys
        def test_orphan():
            child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
            subprocess.run([sys.executable, "-c", child], check=True)
        """
    )
    pytester.syspathinsert(root)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-o", f"pythonpath={root}")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left processes running (now killed)*sleep(60)*"])
