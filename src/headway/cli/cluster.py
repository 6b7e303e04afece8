"""`headway cluster`: the server and the workers of this machine, from `headway.toml`, under one supervisor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headway.cli import screen
from headway.cli.options import DataDir, Json
from headway.cli.reaching import settings_for
from headway.cli.values import UsageError
from headway.model.errors import ClusterNotReady, ClusterNotRunning, ResultNotReady, WaitTimeout
from headway.model.states import JobState

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from headway.bootstrap.fleet import Place
    from headway.client import Client
    from headway.config import ClusterFile, Settings

cluster = typer.Typer(no_args_is_help=True, help="Server and workers of this machine, as headway.toml names them.")

HEALTH_CHECK: Final = "headway.health_check"
_PORT: Final = 8000
_PORT_FREE_SECONDS: Final = 15.0
_COLOURS: Final = {"ready": "green", "starting": "yellow", "replacing": "yellow", "stopping": "yellow"}
Name = Annotated[str | None, typer.Argument(help="A part, or a group of workers [default: all].", show_default=False)]


def _read(data_dir: str | None) -> tuple[Settings, ClusterFile, Place]:
    from headway.bootstrap import place_of
    from headway.config import load_cluster

    settings = settings_for(data_dir, job_backend="celery")
    file = load_cluster()
    return settings, file, place_of(settings, file)


def _options(settings: Settings) -> list[str]:
    return ["--data-dir", str(settings.data_dir.absolute())]


@cluster.command()
def start(data_dir: DataDir = None) -> None:
    """Start the cluster in the background and wait until every part is ready. One that runs already stays as it is."""
    from headway.bootstrap import fleet_described, fleet_status, start_fleet

    settings, file, place = _read(data_dir)
    for notice in settings.notices:
        screen.note(f"notice: {notice}")
    if file.source is None:
        screen.note("There is no [cluster] in headway.toml: a server and one worker of all queues.")
    found = fleet_status(place)
    if found is None:
        start_fleet(place, _options(settings))
    elif found["described"] != fleet_described(file):
        screen.note(
            "The cluster runs as headway.toml was when it was started: stop it and start it to use the new one."
        )
    status = fleet_status(place)
    if status is None:
        raise ClusterNotReady("the cluster has ended again")
    for part in status["parts"]:
        screen.say(_line(part, status["url"]))
    screen.say("The cluster runs already." if found is not None else f"The cluster runs. Logs: {place.logs}")
    if any(part["state"] != "ready" for part in status["parts"]):
        raise typer.Exit(1)


def _line(part: dict[str, Any], url: str) -> str:
    where = url if part["kind"] == "api" else f"queues {', '.join(part['queues']) or 'all'}"
    process = "no process" if part["pid"] is None else f"process {part['pid']}"
    return f"{part['name']}: {part['state']}, {process}, {where}"


@cluster.command()
def run(
    detached: Annotated[
        bool, typer.Option("--detached", help="Write its own log to a file, as `start` has it.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Run the cluster in the foreground: for containers, and for whoever supervises it. SIGTERM drains and ends it."""
    from headway.bootstrap import run_fleet
    from headway.cli.listening import check_host, url_of

    settings, file, _ = _read(data_dir)
    check_host(file.host, settings.api_key)
    with _listen(file) as listener:
        code = run_fleet(settings, file, listener=listener, url=url_of(file.host, listener), detached=detached)
    raise typer.Exit(code)


def _listen(file: ClusterFile) -> socket.socket:
    """The socket of the server: a port that the file names is that one or none, as others know it by its number."""
    from headway.cli.listening import AddressRefused, listen

    if file.port is None:
        return listen(file.host, _PORT)
    ends = time.monotonic() + _PORT_FREE_SECONDS
    while True:
        listener = listen(file.host, file.port)
        if file.port in (0, listener.getsockname()[1]):
            return listener
        listener.close()
        # What a killed cluster left is still ending.
        if time.monotonic() > ends:
            raise AddressRefused(
                f"Port {file.port} of {file.host} is taken.",
                hint="End what listens there, or change port in headway.toml.",
            )
        time.sleep(0.2)


@cluster.command()
def stop(data_dir: DataDir = None) -> None:
    """Stop the cluster: attempts get HEADWAY_DRAIN_SECONDS to end, then they are given back; what stays is killed."""
    from headway.bootstrap import stop_fleet

    settings, _, place = _read(data_dir)
    ran = stop_fleet(place, settings, screen.say)
    screen.say("The cluster has ended." if ran else "No cluster was running.")


@cluster.command()
def restart(name: Name = None, data_dir: DataDir = None) -> None:
    """Replace the processes, one after the other: a worker's successor is ready before it is drained; the server last."""
    from headway.bootstrap import ask_fleet

    settings, _, place = _read(data_dir)
    if not ask_fleet(place, settings, {"do": "restart", "name": name}, screen.say):
        raise ClusterNotReady("not everything was restarted")


@cluster.command()
def status(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Every part: state, process, memory, restarts, queues. Exits 1 unless all are ready and the server answers."""
    from headway.bootstrap import answers, fleet_status, left_over

    _, _, place = _read(data_dir)
    found = fleet_status(place)
    if found is None:
        rest = left_over(place)
        pids = ", ".join(str(process.pid) for process in rest)
        raise ClusterNotRunning(
            "no cluster runs" + (f", but processes of the last one are left: {pids}" if rest else ""),
            hint="`headway cluster stop` ends them." if rest else "",
        )
    for part in found["parts"]:
        if part["kind"] == "api" and part["state"] == "ready" and not answers(found["url"]):
            part["state"] = "silent"
    if as_json:
        screen.show_json({name: value for name, value in found.items() if name != "described"})
    else:
        _show(found)
    if found["state"] != "running" or any(part["state"] != "ready" for part in found["parts"]):
        raise typer.Exit(1)


def _show(found: dict[str, Any]) -> None:
    screen.say(
        f"{found['url']}, supervisor {found['pid']}, {found['state']} for {screen.span(found['uptime_seconds'])}"
    )
    screen.show_table(
        ("PART", "STATE", "PROCESS", "UP", "RESTARTS", "LAST EXIT", "MEMORY", "QUEUES"),
        [
            (
                part["name"],
                part["state"],
                str(part["pid"] or "-"),
                "-" if part["uptime_seconds"] is None else screen.span(part["uptime_seconds"]),
                str(part["restarts"]),
                part["last_exit"] or "-",
                "-" if part["memory_mb"] is None else f"{part['memory_mb']:.0f} MiB",
                "-" if part["queues"] is None else ", ".join(part["queues"]) or "all",
            )
            for part in found["parts"]
        ],
        colours=[_COLOURS.get(part["state"], "red") for part in found["parts"]],
    )


@cluster.command("test")
def check_queues(
    seconds: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds until every queue must have answered.")
    ] = 30,
    data_dir: DataDir = None,
) -> None:
    """Send a health check through every queue. Exits 1 unless a worker answers each."""
    from headway.client import Client

    settings, file, place = _read(data_dir)
    url, key = _reach(settings, place)
    queues: list[str | None] = list(dict.fromkeys(queue for group in file.groups for queue in group.queues))
    if any(not group.queues for group in file.groups):
        # A group of all queues: the one of tasks that name none.
        queues.append(None)
    with Client(url, key) as client:
        sent = [(queue, client.submit(HEALTH_CHECK, queue=queue).id) for queue in queues]
        failed = [queue for queue, line in _checked(client, sent, time.monotonic() + seconds) if not _told(line)]
    if failed:
        raise typer.Exit(1)


def _told(line: tuple[bool, str]) -> bool:
    screen.say(line[1])
    return line[0]


def _checked(
    client: Client, sent: list[tuple[str | None, str]], ends: float
) -> Iterator[tuple[str | None, tuple[bool, str]]]:
    began = time.monotonic()
    for queue, job_id in sent:
        name = queue or "default queue"
        try:
            job = client.wait(job_id, max(0.1, ends - time.monotonic()))
            said = client.result(job_id) if job.state is JobState.SUCCEEDED else None
        except (WaitTimeout, ResultNotReady):
            job, said = client.cancel(job_id, "the health check was over"), None
            yield queue, (False, f"{name}: no worker answered in {screen.span(time.monotonic() - began)}, job {job_id}")
            continue
        if said is None:
            yield queue, (False, f"{name}: the check ended as {job.state.value}, job {job_id}")
        else:
            yield queue, (True, f"{name}: healthy, {said['hostname']}, {screen.took(job)}")


def _reach(settings: Settings, place: Place) -> tuple[str, str | None]:
    from headway.bootstrap import fleet_status, read_owner

    found = fleet_status(place)
    if found is None:
        raise ClusterNotRunning("no cluster runs, so nothing can be tested")
    owner = read_owner(settings.data_dir)
    return found["url"], owner.token if owner is not None else settings.api_key


@cluster.command()
def logs(
    name: Name = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Last lines of each.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    data_dir: DataDir = None,
) -> None:
    """The last lines of the logs, and what comes."""
    from headway.bootstrap import SUPERVISOR
    from headway.cli.tail import follow_files, tail
    from headway.config.cluster import API

    _, file, place = _read(data_dir)
    groups = {API: (API,), SUPERVISOR: (SUPERVISOR,)} | {group.name: group.members() for group in file.groups}
    known = list(dict.fromkeys(one for members in groups.values() for one in members))
    chosen = known if name is None else list(groups.get(name, (name,) if name in known else ()))
    if not chosen:
        raise UsageError(f"nothing is called {name!r}", hint=f"There are: {', '.join(known)}.")
    width = max(map(len, chosen)) if len(chosen) > 1 else 0
    files = {(f"{one.ljust(width)} | " if width else ""): place.log(one) for one in chosen}
    for mark, path in files.items():
        for line in tail(path, lines):
            screen.say(mark + screen.clean(line))
    if follow:
        for mark, line in follow_files(files):
            screen.say(mark + screen.clean(line))
