"""What the command line does where no Headway runs: it opens the data directory itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.acceptance.cli.conftest import Folder


def test_a_job_is_stored_listed_shown_cancelled_and_run_again(folder: Folder) -> None:
    stored = folder.run("submit", "proj.add", "--arg", "1", "--kwarg", 'b={"x": [2]}', "--at", "+1h")
    assert stored.returncode == 0
    job_id = stored.stdout.strip()
    assert "headway up" in stored.stderr
    shown = json.loads(folder.ok("jobs", "show", job_id, "--json"))
    assert (shown["state"], shown["args"], shown["kwargs"]) == ("scheduled", [1], {"b": {"x": [2]}})
    assert shown["attempt_list"] == []
    assert job_id in folder.ok("jobs", "list", "--state", "PENDING")
    assert "is cancelled" in folder.ok("jobs", "cancel", job_id, "--reason", "no need")
    assert "transition_refused" in folder.fails("jobs", "cancel", job_id, code="transition_refused")
    again = folder.ok("jobs", "rerun", job_id, "--kwarg", "c=3").strip()
    page = json.loads(folder.ok("jobs", "list", "--json", "--limit", "1"))
    assert [job["id"] for job in page["items"]] == [again]
    assert page["items"][0]["kwargs"] == {"b": {"x": [2]}, "c": 3}
    assert page["items"][0]["retry_of"] == job_id
    rest = json.loads(folder.ok("jobs", "list", "--json", "--cursor", page["next_cursor"]))
    assert [job["id"] for job in rest["items"]] == [job_id]


def test_waiting_for_what_nobody_runs_is_refused_at_once(folder: Folder) -> None:
    said = folder.fails("submit", "proj.add", "--wait", code="server_unreachable")
    assert "headway up" in said


def test_the_same_key_is_the_same_job(folder: Folder) -> None:
    first = folder.ok("submit", "proj.add", "--arg", "1", "--key", "k")
    assert folder.ok("submit", "proj.add", "--arg", "1", "--key", "k") == first
    folder.fails("submit", "proj.add", "--arg", "2", "--key", "k", code="idempotency_conflict")


def test_database_commands(folder: Folder) -> None:
    assert "headway db upgrade" in folder.fails("db", "check", code="schema_mismatch")
    folder.ok("db", "upgrade")
    checked = json.loads(folder.ok("db", "check", "--json"))
    assert checked["version"] == checked["expected"]
    assert json.loads(folder.ok("retention", "run", "--json"))["jobs"] == 0


def test_doctor_names_values_sources_and_remedies(folder: Folder) -> None:
    (folder.path / ".env").write_text(
        "JOB_MAX_RETRIES=2\nCELERY_BROKER_URL=redis://:secret-word@h/0\nUSER_TIMEZONE=UTC\n"
    )
    told = json.loads(folder.ok("doctor", "--json", env={"HEADWAY_API_KEY": "secret-of-sixteen-letters"}))
    settings = {one["name"]: one for one in told["settings"]}
    assert settings["JOB_MAX_RETRIES"]["value"] == "2"
    assert settings["JOB_MAX_RETRIES"]["source"].endswith(".env")
    assert settings["HEADWAY_API_KEY"] == {"name": "HEADWAY_API_KEY", "value": "********", "source": "environment"}
    assert "secret" not in json.dumps(told).replace("secrets", "")
    assert all(one["remedy"] for one in told["findings"] if one["level"] != "ok")
    assert settings["CELERY_BROKER_URL"]["value"] == "redis://:***@h/0"
    assert any("USER_TIMEZONE" in one["says"] for one in told["findings"] if one["level"] == "warning")


def test_doctor_finds_a_directory_that_cannot_be_written(folder: Folder) -> None:
    (folder.path / "var").write_text("a file, not a folder")
    ran = folder.run("doctor", "--json")
    assert ran.returncode == 1
    errors = [one for one in json.loads(ran.stdout)["findings"] if one["level"] == "error"]
    assert errors
    assert all(one["remedy"] for one in errors)


def test_wrong_settings_are_told_at_once_by_every_command(folder: Folder) -> None:
    (folder.path / "headway.toml").write_text('JOB_BACKEND = "hpc"\nspeed = 9\n')
    said = folder.fails("jobs", "list", code="invalid_settings", env={"HEADWAY_ISOLATON": "thread"})
    for word in ("JOB_BACKEND", "'hpc'", "speed", "HEADWAY_ISOLATON", "did you mean HEADWAY_ISOLATION"):
        assert word in said
    ran = folder.run("doctor")
    assert ran.returncode == 1
    assert "JOB_BACKEND" in ran.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("submit",),
        ("submit", "t", "--at", "2030-01-01T00:00:00"),
        ("submit", "t", "--kwarg", "novalue"),
        ("jobs", "list", "--state", "nope"),
        ("jobs", "list", "--limit", "0"),
        ("up", "--engine", "warp"),
        ("up", "--port", "70000"),
    ],
)
def test_wrong_usage_exits_2_without_a_traceback(folder: Folder, arguments: tuple[str, ...]) -> None:
    ran = folder.run(*arguments)
    assert ran.returncode == 2
    assert ran.stderr.strip()
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", [("sitrep",), ("sitrep", "--json"), ("tasks",), ("workers",), ("queues",)])
def test_who_only_looks_makes_no_data_directory(folder: Folder, command: tuple[str, ...]) -> None:
    for options in ((), ("--data-dir", "elsewhere")):
        said = folder.fails(*command, *options, code="data_directory_missing")
        assert "there is no data directory" in said
        assert "--data-dir" in said
    assert sorted(one.name for one in folder.path.iterdir()) == ["proj.py"]
    (folder.path / "empty").mkdir()
    assert "nothing was ever stored" in folder.fails(*command, "--data-dir", "empty", code="data_directory_missing")
    assert not list((folder.path / "empty").iterdir())


def test_the_situation_where_nobody_runs_jobs_or_watches_is_not_known(folder: Folder) -> None:
    folder.ok("submit", "proj.add", "--arg", "1")
    ran = folder.run("sitrep")
    assert ran.returncode == 1
    assert ran.stdout.startswith("? UNKNOWN")
    assert "not complete" in ran.stdout.splitlines()[4]
    attention = ran.stdout.partition("ATTENTION\n")[2]
    assert attention.startswith("  ! nobody watches and nobody runs jobs")
    for words in ("headway up", "headway observe", "--data-dir", "--url"):
        assert words in attention
    ran = folder.run("sitrep", "--json")
    report = json.loads(ran.stdout)
    assert (ran.returncode, report["health_status"]) == (1, "unknown")
    assert [one["code"] for one in report["attention"]] == ["nobody_watches"]
    assert not any(one["complete"] for one in report["figures"].values())
    assert report["task_metrics"]["total_tasks"] == report["task_metrics"]["pending_tasks"] == 1


def test_what_is_not_there(folder: Folder) -> None:
    folder.fails("jobs", "show", "nope", code="job_not_found")
    folder.fails("jobs", "list", "--url", "http://127.0.0.1:1", code="server_unreachable")


def test_the_core_alone_needs_no_extra(folder: Folder) -> None:
    extras = ["psycopg", "roadrunner", "libsbml", "numpy", "matplotlib", "pint"]
    code = (
        f"import sys\nfor name in {extras!r}: sys.modules[name] = None\n"
        "from headway.cli.main import main\nsys.argv = ['headway', 'submit', 'proj.add']\nmain()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder.path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_output_into_a_closed_pipe_is_no_accident(folder: Folder) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        ran = subprocess.run(
            [sys.executable, "-m", "headway", "doctor"],
            cwd=folder.path,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr
