"""Which cluster is meant, and what is said where none can be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headway.bootstrap.cluster import cluster_target
from headway.model.errors import AppNotLoaded, BrokerNotSupported, HeadwayError, InvalidSettings
from headway.observe.results import Results


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two applications in the working folder: with a broker, and without."""
    (tmp_path / "app_with.py").write_text("from celery import Celery\napp = Celery('w', broker='redis://h:1/0')\n")
    (tmp_path / "app_without.py").write_text("from celery import Celery\napp = Celery('o')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.parametrize(
    ("app", "broker", "error"),
    [
        (None, "sqs://", BrokerNotSupported),
        (None, "memory://", BrokerNotSupported),
        (None, "nothing://host", BrokerNotSupported),
        (None, "redis://user:hidden@127.0.0.1:port/0", InvalidSettings),
        ("nowhere", None, AppNotLoaded),
        ("app_without", None, InvalidSettings),
    ],
)
@pytest.mark.usefixtures("apps")
def test_a_cluster_that_cannot_be(app: str | None, broker: str | None, error: type[HeadwayError]) -> None:
    with pytest.raises(error) as raised:
        cluster_target(app, broker, None, observer_id="test")
    assert raised.value.hint
    assert "hidden" not in raised.value.message


@pytest.mark.parametrize("app", [None, "app_with"])
@pytest.mark.parametrize("url", ["foo://user:hidden@x", "nonsense"])
@pytest.mark.usefixtures("apps")
def test_a_result_backend_that_celery_does_not_know(app: str | None, url: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        cluster_target(app, "redis://h:1/0", url, observer_id="test")
    assert "result backend" in raised.value.message
    assert raised.value.hint
    assert "hidden" not in raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/1",
        "valkeys://h/1",
        "rpc://",
        "db+postgresql://u:p@h/d",
        "cache+memcached://h",
        "file:///tmp/x",
        "valkey://h",
    ],
)
@pytest.mark.usefixtures("apps")
def test_a_result_backend_that_celery_knows(url: str) -> None:
    assert cluster_target(None, "redis://h:1/0", url, observer_id="test").backend_label


@pytest.mark.parametrize("url", ["azureblockblob://key@x", "somebodys.backends.Own://h"])
@pytest.mark.usefixtures("apps")
def test_a_result_backend_that_cannot_be_loaded_here_is_told_of_and_all_else_is_watched(url: str) -> None:
    target = cluster_target(None, "redis://h:1/0", url, observer_id="test")
    assert "cannot be loaded" in Results(target).says


@pytest.mark.usefixtures("apps")
def test_options_win_over_the_application() -> None:
    own = cluster_target("app_with", None, None, observer_id="test")
    assert (own.own_app, own.transport, own.broker_label) == (True, "redis", "redis://h:1/0")
    other = cluster_target("app_with", "amqp://b:2//", "redis://r:3/0", observer_id="test")
    assert (other.own_app, other.transport, other.backend_label) == (True, "rabbitmq", "redis://r:3/0")
    bare = cluster_target(None, "valkey://v:4/0", None, observer_id="test")
    assert (bare.own_app, bare.broker_label, bare.backend_label) == (False, "redis://v:4/0", None)


@pytest.mark.usefixtures("apps")
def test_a_redis_url_stands_in_only_where_nobody_names_another() -> None:
    stands = "redis://spare:9/0"
    named = cluster_target("app_with", None, None, observer_id="test", redis_url=stands)
    assert "spare" not in named.broker_label
    for app in (None, "app_without"):
        target = cluster_target(app, None, None, observer_id="test", redis_url=stands)
        assert (target.broker_label, target.backend_label) == ("redis://spare:9/0", "redis://spare:9/0")
