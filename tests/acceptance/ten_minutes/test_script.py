"""A script with a task: stored without a server, run by one, waited for, interrupted, and hours long."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from headway.client import Client
from headway.model.states import JobState
from tests.acceptance.ten_minutes.conftest import Desk
from tests.faults.serving import Server
from tests.waiting import wait_until

SCRIPT = """
import sys
import headway

@headway.task
def double(x):
    return x * 2

if __name__ == "__main__":
    sent = double.delay(21)
    print(sent.id)
    if "--get" in sys.argv:
        print(sent.get(timeout=30))
"""


def test_a_script_stores_without_a_server_and_a_server_runs_it(desk: Desk) -> None:
    desk.write("script.py", SCRIPT)
    ran = desk.python("script.py")
    assert ran.returncode == 0, ran.stderr
    assert "Stored" in ran.stderr
    assert "headway up -A script" in ran.stderr
    assert "Traceback" not in ran.stderr
    job_id = ran.stdout.strip()
    with desk.up("-A", "script") as running, Client(running.ready()) as client:
        assert client.wait(job_id, 30).state is JobState.SUCCEEDED
        assert client.result(job_id) == 42
        ran = desk.python("script.py", "--get")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[-1] == "42"
        assert "Stored" not in ran.stderr
    assert list(desk.home.iterdir()) == [], "nothing is written outside the data directory"


CANVAS = """
import sys
import headway
from celery import chord
from celery.result import GroupResult

@headway.task
def double(x):
    return x * 2

@headway.task
def total(numbers):
    return sum(numbers)

if __name__ == "__main__":
    sent = chord([double.s(1), double.s(2) | double.s()], total.s())()
    sent.parent.save()
    saved = GroupResult.restore(sent.parent.id)
    print(sent.id, len(saved.results))
    if "--get" in sys.argv:
        print(sent.get(timeout=30), saved.get(timeout=30))
        saved.delete()
        print(GroupResult.restore(saved.id))
"""


def test_a_script_sends_a_chord_with_and_without_a_server(desk: Desk) -> None:
    desk.write("script.py", CANVAS)
    ran = desk.python("script.py")
    assert ran.returncode == 0, ran.stderr
    job_id, parts = ran.stdout.split()
    assert parts == "2"
    shown = desk.ok("jobs", "show", job_id)
    assert "waits for  the jobs of group" in shown
    assert shown.count("script.double") == 2
    with desk.up("-A", "script") as running, Client(running.ready()) as client:
        assert client.wait(job_id, 30).state is JobState.SUCCEEDED
        assert client.result(job_id) == 10
        whole = client.workflow(job_id)
        assert sorted(job.task for job in whole.jobs) == ["script.double"] * 3 + ["script.total"]
        assert whole.complete
        ran = desk.python("script.py", "--get")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[1:] == ["10 [2, 8]", "None"]
        whole_json = json.loads(desk.ok("jobs", "show", job_id, "--json"))
        assert len(whole_json["workflow"]["items"]) == 4


@pytest.mark.long
def test_what_was_submitted_by_hand_waits_as_well(desk: Desk) -> None:
    desk.write("script.py", SCRIPT)
    submitted = desk.run("submit", "script.double", "--arg", "4")
    assert submitted.returncode == 0, submitted.stderr
    assert "headway up" in submitted.stderr
    (job,) = json.loads(desk.ok("jobs", "list", "--json"))["items"]
    job_id = job["id"]
    with desk.up("-A", "script") as running, Client(running.ready()) as client:
        assert client.wait(job_id, 30).state is JobState.SUCCEEDED


LONG = """
import os, time
import headway

@headway.task
def simulate(seconds):
    time.sleep(seconds)
    return "simulated"

@headway.task
def until(path):
    job = headway.current_job()
    while not os.path.exists(path):
        if job.cancelled():
            return "told to stop"
        time.sleep(0.02)
    return "through"

@headway.task(isolation="process")
def until_in_a_child(path):
    while not os.path.exists(path):
        time.sleep(0.02)
    return "through"
"""


def test_a_simulation_of_many_leases_keeps_its_attempt(desk: Desk) -> None:
    desk.write("long.py", LONG)
    short = {"HEADWAY_LEASE_SECONDS": "1", "HEADWAY_HEARTBEAT_SECONDS": "0.25"}
    with desk.up("-A", "long", env=short) as running, Client(running.ready()) as client:
        ended = client.wait(client.submit("long.simulate", [5]).id, 60)
        assert (ended.state, ended.fence, ended.attempts, ended.rescues) == (JobState.SUCCEEDED, 1, 1, 0)


def test_ctrl_c_ends_it_within_seconds_and_costs_no_try(desk: Desk, tmp_path: Path) -> None:
    desk.write("long.py", LONG)
    gate = tmp_path / "gate"
    with Server(desk.path, "long", data_dir=desk.path / "var", options=("--workers", "3")) as server:
        with Client(server.start()) as client:
            tasks = ("long.until", "long.until_in_a_child", "long.simulate")
            ids = [client.submit(task, [600 if "simulate" in task else str(gate)]).id for task in tasks]
            wait_until(lambda: all(client.get(one).state is JobState.RUNNING for one in ids), what="all to run")
        began = time.monotonic()
        server.signal_group(signal.SIGINT)
        assert server.main.wait(30) == 0
        assert time.monotonic() - began < 20
        server.nothing_left()
        assert "Traceback" not in server.said()
        for job_id in ids:
            shown = json.loads(desk.ok("jobs", "show", job_id, "--json"))
            assert (shown["state"], shown["attempts"], shown["rescues"]) == ("queued", 0, 0)
        gate.touch()
        with Client(server.start()) as client:
            for job_id in ids[:2]:
                ended = client.wait(job_id, 30)
                assert (ended.state, ended.attempts, ended.fence) == (JobState.SUCCEEDED, 1, 2)
        began = time.monotonic()
        server.main.send_signal(signal.SIGINT)
        wait_until(lambda: time.monotonic() - began > 1, what="a second's patience")
        server.main.send_signal(signal.SIGINT)
        server.main.wait(30)
        assert time.monotonic() - began < 8, "a second Ctrl-C does not wait for the drain"
        server.nothing_left()
