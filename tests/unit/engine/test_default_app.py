"""`headway.task` and `current_job` as a script uses them, each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import headway
from headway.engine.errors import NoCurrentJob


def run_script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, cwd=folder)


def test_a_scripts_task_is_named_for_its_file_and_never_dials(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import socket, headway
        from headway.engine.task import set_default_door_factory

        def refuse(*_): raise AssertionError("dialled")
        socket.socket.connect = refuse

        class Door:
            owner_alive = False
            def submit_many(self, commands, joins=()):
                for command in commands: print(command.task, command.args, command.isolation)

        @headway.task(isolation="process", timeout=5)
        def hello(name): return name

        set_default_door_factory(Door)
        print(hello.name, hello.isolation, hello.timeout)
        hello.delay("you")
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["script.hello process 5", "script.hello ['you'] None"]
    assert "headway up -A script" in done.stderr


def test_a_users_own_application_stays_the_current_one(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import headway
        from celery import Celery, current_app
        app = Celery("mine", broker="memory://")

        @headway.task
        def hello(): return 1

        print(current_app.main, hello.app.main, "script.hello" in app.tasks)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["mine", "mine", "True"]


def test_import_headway_imports_neither_celery_nor_the_rest() -> None:
    code = "import sys, headway; print([m for m in ('celery', 'sqlalchemy', 'fastapi', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_current_job_outside_a_job_says_so() -> None:
    with pytest.raises(NoCurrentJob) as error:
        headway.current_job()
    assert error.value.code == "no_current_job"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'detach'"):
        headway.detach  # noqa: B018
