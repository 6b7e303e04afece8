"""How commands reach the supervisor of a cluster, start it, and end what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil

from headway.bootstrap.fleet import API_STOP_SECONDS, SUPERVISOR, Place, stop_seconds
from headway.model.errors import ClusterNotReady, ClusterNotRunning
from headway.runtime.control import ask

if TYPE_CHECKING:
    from headway.config import Settings

START_SECONDS: Final = 90.0
_ANSWER_SECONDS: Final = 10.0
_HEALTH_SECONDS: Final = 3.0
_GONE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1
_LAST_LINES: Final = 15
_CREATED_TOLERANCE: Final = 0.5
Say = Callable[[str], None]


def fleet_status(place: Place) -> dict[str, Any] | None:
    """What the supervisor says of itself and its parts; None where none lives."""
    try:
        for said in ask(place.socket, {"do": "status"}, _ANSWER_SECONDS):
            if "answer" in said:
                answer: dict[str, Any] = said["answer"]
                return answer
    except ConnectionError:
        return None
    except TimeoutError as error:
        raise ClusterNotReady(
            "the supervisor does not answer", hint="`headway cluster stop` ends it and all its parts."
        ) from error
    return None


def answers(url: str) -> bool:
    """Whether the server there answers that it is alive."""
    try:
        return httpx.get(f"{url}/health", timeout=_HEALTH_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def last_lines(place: Place, name: str, count: int = _LAST_LINES, after: int = 0) -> list[str]:
    """The last lines of a part's log.

    Args:
        place: of the logs.
        name: of the part.
        count: at most so many.
        after: bytes at the beginning that are left out.
    """
    try:
        with place.log(name).open("rb") as log:
            log.seek(max(after, log.seek(0, os.SEEK_END) - 65_536))
            return log.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def start_fleet(place: Place, options: Sequence[str]) -> None:
    """Start a supervisor that outlives this command, and wait until all its parts are ready.

    Args:
        place: of its state and logs.
        options: of ``headway cluster run``.

    Raises:
        ClusterNotReady: with what was said last; nothing is left running.
    """
    place.logs.mkdir(parents=True, exist_ok=True)
    path = place.log(SUPERVISOR)
    before = path.stat().st_size if path.exists() else 0
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway", "cluster", "run", "--detached", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise ClusterNotReady(_with("the cluster cannot be started", last_lines(place, SUPERVISOR, after=before)))
        status = fleet_status(place)
        # One that began before ours has failed to begin may answer: only our own counts.
        if status is not None and status["pid"] == process.pid:
            broken = [part for part in status["parts"] if part["unready_exits"]]
            if broken:
                raise _not_ready(process, place, broken)
            if all(part["state"] == "ready" for part in status["parts"]):
                return
        time.sleep(_POLL_SECONDS)
    status = fleet_status(place)
    raise _not_ready(process, place, [part for part in (status or {"parts": []})["parts"] if part["state"] != "ready"])


def _not_ready(process: subprocess.Popen[bytes], place: Place, parts: list[dict[str, Any]]) -> ClusterNotReady:
    said = [
        _with(
            f"{part['name']} cannot be started" + (f" ({part['last_exit']})" if part["last_exit"] else ""),
            last_lines(place, part["name"]),
        )
        for part in parts
    ]
    process.terminate()
    try:
        process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return ClusterNotReady(
        "\n".join(said) or "the cluster was not ready in time",
        hint="Nothing of it is left running. Correct what is wrong and start it again.",
    )


def _with(what: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{what}; it said last:" if lines else what, *(f"    {line}" for line in lines)])


def ask_fleet(place: Place, settings: Settings, body: dict[str, Any], say: Say) -> bool:
    """Ask for something that takes a while; whether it was carried out.

    Raises:
        ClusterNotRunning: nobody is there to ask.
        ClusterNotReady: it was silent for longer than anything may take.
    """
    try:
        for said in ask(place.socket, body, START_SECONDS + stop_seconds(settings) + API_STOP_SECONDS):
            if "say" in said:
                say(said["say"])
            elif "done" in said:
                return bool(said["done"])
    except ConnectionError as error:
        raise ClusterNotRunning(f"no supervisor answers at {place.socket}") from error
    except TimeoutError as error:
        raise ClusterNotReady("the supervisor does not answer") from error
    return False


def left_over(place: Place) -> list[psutil.Process]:
    """Processes that the last supervisor noted and that live, itself first; by number and moment of start."""
    try:
        state = json.loads(place.state.read_text())
    except (OSError, ValueError):
        return []
    found = []
    for noted in (state, *state.get("parts", ())):
        try:
            process = psutil.Process(int(noted["pid"]))
            if (
                abs(process.create_time() - noted["created"]) <= _CREATED_TOLERANCE
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def stop_fleet(place: Place, settings: Settings, say: Say) -> bool:
    """End the supervisor and all that it started, bounded; whether anything had been running.

    Raises:
        ClusterNotReady: something could not even be killed.
    """
    ran = bool(left_over(place))
    try:
        ask_fleet(place, settings, {"do": "stop"}, say)
        ran = True
    except ClusterNotRunning:
        pass
    except ClusterNotReady:
        say("the supervisor does not answer: it is killed")
        for process in left_over(place)[:1]:
            process.kill()
    # With its end it lets its parts end in order; what it leaves is given the same time, and then killed.
    _, alive = psutil.wait_procs(left_over(place), timeout=_GONE_SECONDS if ran else 0)
    for process in alive:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(alive, timeout=stop_seconds(settings))
    for process in alive:
        say(f"process {process.pid} does not end: it is killed")
        _signal(process, signal.SIGKILL)
    _, alive = psutil.wait_procs(alive, timeout=_GONE_SECONDS)
    if alive:
        raise ClusterNotReady(f"processes do not end: {', '.join(str(one.pid) for one in alive)}")
    return ran


def _signal(process: psutil.Process, number: int) -> None:
    try:
        if number == signal.SIGKILL and process.pid == os.getpgid(process.pid):
            # Each leads a session of its own: what it started goes with it.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except (psutil.Error, OSError):
        return
