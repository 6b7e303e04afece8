from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from headway.engine.embedded.attach import attach
from headway.engine.embedded.catalog import AppCatalog
from headway.engine.embedded.loader import configured_broker, load_app
from headway.model.errors import AppNotLoaded, BadArguments, EagerModeRefused
from headway.model.job import Backoff


def load(folder: Path, spec: str, code: str) -> str:
    """Load `spec` in a fresh interpreter standing in `folder`, run `code` with `app`; its output."""
    script = f"from headway.engine.embedded.loader import *\napp = load_app({spec!r})\n{textwrap.dedent(code)}"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("spec", ["proj", "proj:app", "proj.celery", "proj.celery:app"])
def test_specs_are_understood_as_celery_does(tmp_path: Path, spec: Any) -> None:
    package = tmp_path / "proj"
    package.mkdir()
    (package / "__init__.py").write_text("from proj.celery import app\n")
    (package / "celery.py").write_text("from celery import Celery\napp = Celery('proj', include=['proj.tasks'])\n")
    (package / "tasks.py").write_text("from celery import shared_task\n@shared_task\ndef f(): pass\n")
    assert load(tmp_path, spec, "print([n for n in app.tasks if n.startswith('proj')])") == "['proj.tasks.f']"


def test_a_script_of_headway_tasks_needs_no_application(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import headway\n@headway.task\ndef hello(name): return name\n")
    assert load(tmp_path, "script", "print(app.main, 'script.hello' in app.tasks)") == "headway True"


def test_a_django_project_is_set_up_and_its_tasks_found(tmp_path: Path) -> None:
    (tmp_path / "site_settings.py").write_text("SECRET_KEY='x'\nINSTALLED_APPS=['shop']\nUSE_TZ=True\n")
    (tmp_path / "site_app.py").write_text(
        "import os\nos.environ['DJANGO_SETTINGS_MODULE']='site_settings'\nfrom celery import Celery\n"
        "app=Celery('site')\napp.config_from_object('django.conf:settings', namespace='CELERY')\n"
        "app.autodiscover_tasks()\n"
    )
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "tasks.py").write_text("from celery import shared_task\n@shared_task\ndef sell(): pass\n")
    assert load(tmp_path, "site_app", "print('shop.tasks.sell' in app.tasks)") == "True"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("import does_not_exist_here", "does_not_exist_here"),
        ("x = 1", "no attribute"),
        ("app = 5", "not a Celery application"),
    ],
)
def test_what_cannot_be_loaded_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Any, reason: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"broken_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(AppNotLoaded, match=reason):
        load_app(name)


def test_a_broker_counts_only_when_somebody_named_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_broker(Celery("a", set_as_current=False)) is None
    assert configured_broker(Celery("a", broker="memory://", set_as_current=False)) is None
    assert configured_broker(Celery("a", broker="redis://db/1", set_as_current=False)) == "redis://db/1"
    by_conf = Celery("a", set_as_current=False)
    by_conf.conf.update(broker_url="amqp://mq//")
    assert configured_broker(by_conf) == "amqp://mq//"
    by_object = Celery("a", set_as_current=False)
    by_object.config_from_object({"broker_url": ["redis://one", "redis://two"]})
    assert configured_broker(by_object) == "redis://one"
    namespaced = Celery("a", set_as_current=False)
    namespaced.config_from_object({"CELERY_BROKER_URL": "redis://spaced"}, namespace="CELERY")
    assert configured_broker(namespaced) == "redis://spaced"
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://env")
    assert configured_broker(Celery("a", set_as_current=False)) == "redis://env"


def test_an_eager_application_is_refused() -> None:
    app = Celery("a", set_as_current=False)
    app.conf.task_always_eager = True
    with pytest.raises(EagerModeRefused):
        attach(app, lambda: pytest.fail("the door is not opened for it"))


def test_the_catalog_tells_what_a_task_says_of_itself() -> None:
    app = Celery("a", set_as_current=False)
    app.conf.task_routes = {"routed": {"queue": "far"}}

    @app.task(name="plain", bind=True)
    def plain(self: Any, a: Any, b: Any = 1, *, c: Any = 2) -> Any:
        """Nothing."""

    @app.task(name="routed", priority=4, time_limit=30)
    def routed() -> Any:
        """Nothing."""

    @app.task(name="own", queue="mine", timeout=5, isolation="process", job_retries=2, job_backoff=Backoff("fixed"))
    def own() -> Any:
        """Nothing."""

    @app.task(name="untyped", typing=False)
    def untyped(a: Any) -> Any:
        """Nothing."""

    catalog = AppCatalog(app)
    # Tasks of other applications in this process are shared with this one: that is Celery's default.
    names = catalog.names()
    assert {"own", "plain", "routed", "untyped"} <= set(names)
    assert names == sorted(names)
    assert not any(name.startswith("celery.") for name in names)
    assert catalog.lookup("nobody") is None
    assert catalog.lookup("celery.chord_unlock") is None
    routed_info, own_info = catalog.lookup("routed"), catalog.lookup("own")
    assert routed_info is not None
    assert own_info is not None
    assert (routed_info.queue, routed_info.priority, routed_info.timeout_seconds) == ("far", 4, 30.0)
    assert (own_info.queue, own_info.timeout_seconds, own_info.isolation) == ("mine", 5.0, "process")
    assert (own_info.max_retries, own_info.backoff) == (2, Backoff("fixed"))
    catalog.check_arguments("plain", [1], {"c": 5})
    catalog.check_arguments("untyped", [], {})
    for args, kwargs in (([], {}), ([1, 2, 3], {}), ([1], {"d": 1})):
        with pytest.raises(BadArguments, match="plain cannot be called"):
            catalog.check_arguments("plain", args, kwargs)
