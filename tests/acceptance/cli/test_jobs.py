"""Jobs over a running server: submit, wait, watch, cancel, rerun."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.cli.conftest import Folder
from tests.waiting import wait_until

Served = tuple[Folder, str]


def state_of(folder: Folder, job_id: str) -> str:
    return str(json.loads(folder.ok("jobs", "show", job_id, "--json"))["state"])


def test_waiting_shows_the_log_and_prints_the_result(served: Served) -> None:
    folder, _ = served
    said = folder.ok("submit", "proj.add", "--arg", "1", "--kwarg", "b=41", "--wait")
    assert "  | adding 1 and 41" in said
    assert said.splitlines()[-1] == "42"
    told = json.loads(folder.ok("submit", "proj.add", "--arg", '"a"', "--kwarg", 'b="b"', "--wait", "--json"))
    assert (told["state"], told["result"]) == ("succeeded", "ab")


def test_a_failure_exits_1_with_the_error_and_a_hint(served: Served) -> None:
    folder, _ = served
    ran = folder.run("submit", "proj.fail", "--arg", "luck", "--wait")
    assert ran.returncode == 1
    assert "no luck" in ran.stderr
    assert "\nhint: " in ran.stderr
    job_id = json.loads(folder.ok("jobs", "list", "--state", "failed", "--json"))["items"][0]["id"]
    shown = folder.ok("jobs", "show", job_id)
    assert "ValueError" in shown
    folder.fails("jobs", "result", job_id, code="job_has_no_result")
    assert folder.run("jobs", "watch", job_id).returncode == 1


def test_unknown_task_and_wrong_arguments(served: Served) -> None:
    folder, _ = served
    assert "proj.add" in folder.fails("submit", "proj.ad", code="unknown_task")
    folder.fails("submit", "proj.add", "--kwarg", "nonsense=1", code="bad_arguments")


def test_watching_live_and_leaving(served: Served, tmp_path: Path) -> None:
    folder, _ = served
    door = tmp_path / "open"
    job_id = folder.ok("submit", "proj.gate", "--arg", str(door)).strip()
    with folder.start("jobs", "watch", job_id) as leaving:
        leaving.says("at the gate")
        leaving.says("progress ")
        leaving.interrupt()
        assert leaving.ends() == 1
        assert f"Job {job_id} goes on." in leaving.said
    assert state_of(folder, job_id) == "running"
    with folder.start("jobs", "watch", job_id, "--json") as watching:
        watching.says('"event": "running"')
        door.touch()
        assert watching.ends() == 0
    events = [json.loads(line) for line in watching.said.splitlines()]
    assert [one["event"] for one in events if one["event"] not in {"progress", "log"}] == [
        "queued",
        "running",
        "succeeded",
    ]
    assert [one["text"] for one in events if one["event"] == "log"] == ["at the gate", "through"]
    assert folder.ok("jobs", "logs", job_id).splitlines() == ["at the gate", "through"]
    assert json.loads(folder.ok("jobs", "result", job_id, "--json")) == {"result": True}


def test_cancelling_what_runs_and_what_waits(served: Served, tmp_path: Path) -> None:
    folder, _ = served
    running = folder.ok("submit", "proj.gate", "--arg", str(tmp_path / "never")).strip()
    wait_until(lambda: state_of(folder, running) == "running", what="the job to run", seconds=30, every=0.1)
    assert "asked to stop" in folder.ok("jobs", "cancel", running)
    wait_until(lambda: state_of(folder, running) == "cancelled", what="the job to stop", seconds=30, every=0.1)
    waiting = folder.ok("submit", "proj.add", "--arg", "1", "--at", "+1h").strip()
    assert "is cancelled" in folder.ok("jobs", "cancel", waiting)


def test_running_again_with_other_arguments(served: Served) -> None:
    folder, url = served
    first = json.loads(folder.ok("submit", "proj.add", "--arg", "1", "--kwarg", "b=1", "--wait", "--json"))
    again = json.loads(folder.ok("jobs", "rerun", first["id"], "--kwarg", "b=9", "--wait", "--json"))
    assert (again["result"], again["retry_of"]) == (10, first["id"])
    # The same over its URL, as from another folder.
    assert json.loads(folder.ok("jobs", "result", again["id"], "--url", url)) == 10


def test_doctor_asks_the_server(served: Served) -> None:
    folder, url = served
    told = json.loads(folder.ok("doctor", "--json"))
    says = {one["check"]: one for one in told["findings"]}
    assert url in says["owner"]["says"]
    assert says["server: store"]["level"] == "ok"
    assert says["database"]["level"] == "ok"
