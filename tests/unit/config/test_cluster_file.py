"""``[cluster]`` of headway.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.config import ClusterFile, WorkerGroup, load_cluster, load_settings
from headway.model.errors import InvalidSettings

WHOLE = """
JOB_TIMEOUT_SECONDS = 5

[cluster]
app = "proj"
host = "127.0.0.1"
port = 8001
logs = "/tmp/logs"

[cluster.workers.mail]
queues = ["mail", "bulk"]
concurrency = 2
pool = "prefork"
processes = 3
max_tasks_per_child = 100
max_memory_mb = 500

[cluster.workers.rest]
"""


def read(folder: Path, text: str) -> ClusterFile:
    (folder / "headway.toml").write_text(text)
    return load_cluster(folder)


def test_a_whole_file(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)
    assert (file.source, file.app, file.port, file.logs) == (tmp_path / "headway.toml", "proj", 8001, "/tmp/logs")
    assert file.groups == (
        WorkerGroup("mail", ("mail", "bulk"), 2, "prefork", 3, 100, 500),
        WorkerGroup("rest"),
    )


def test_the_settings_of_the_same_file_are_read_as_before(tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text(WHOLE)
    settings = load_settings(cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert settings.job_timeout_seconds == 5


@pytest.mark.parametrize("text", [None, "JOB_TIMEOUT_SECONDS = 5\n"])
def test_without_the_table_there_is_one_worker_of_all_queues(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "headway.toml").write_text(text)
    assert load_cluster(tmp_path) == ClusterFile(None, (WorkerGroup("worker"),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cluster]\nprot = 1\n", "[cluster] prot ({path}) is not known; did you mean port?"),
        ("[cluster]\nport = 70000\n", "port ({path}): expected a whole number from 0 to 65535, got 70000"),
        ("[cluster]\nport = true\n", "expected a whole number from 0 to 65535, got True"),
        ("cluster = 3\n", "expected a table, got 3"),
        ("[cluster]\nworkers = 3\n", "expected a table for each group, got 3"),
        (
            "[cluster.workers.a]\nqueue = ['x']\n",
            "[cluster.workers.a] queue ({path}) is not known; did you mean queues?",
        ),
        ("[cluster.workers.a]\nqueues = 'x'\n", "expected a list of queue names without spaces and commas, got 'x'"),
        ("[cluster.workers.a]\nqueues = ['x,y']\n", "expected a list of queue names"),
        ("[cluster.workers.a]\npool = 'gevent'\n", "expected one of prefork, threads, solo, got 'gevent'"),
        ("[cluster.workers.a]\npool = 'solo'\nmax_memory_mb = 5\n", "expected with pool prefork, got pool solo"),
        ("[cluster.workers.api]\n", "other than api"),
        ("[cluster.workers.'a b']\n", "expected a name"),
        ("[cluster.workers.a]\nprocesses = 2\n[cluster.workers.a-2]\n", "two groups would have a worker called a-2"),
        ("[cluster\n", "cannot be understood"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        read(tmp_path, text)
    assert said.format(path=tmp_path / "headway.toml") in raised.value.message
    assert raised.value.hint


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as raised:
        read(tmp_path, "[cluster]\nport = -1\nhots = 'x'\n[cluster.workers.a]\nprocesses = 0\n")
    assert len(raised.value.details["problems"]) == 3
