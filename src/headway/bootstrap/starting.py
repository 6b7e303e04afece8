"""Ways to start: the supervised service process of ``headway up``, and an ASGI application for another server."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from headway.config import Settings, load_settings
from headway.model.errors import DataDirectoryInUse, HeadwayError, StoreUnavailable
from headway.runtime.supervisor import EXIT_REFUSED, EXIT_RESTART, Supervisor, service_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

    from headway.bootstrap.node import Exhaustion, ServedNode

log = structlog.get_logger("headway.start")
_STREAMS_END_SECONDS = 2
EXIT_FAILED = 1
_WORKER_ENDS_SECONDS = 10.0


def up(
    settings: Settings,
    *,
    app: str | None = None,
    engine_chosen: bool = True,
    watch: Mapping[str, Any] | None = None,
    managed: bool = False,
    worker: bool = False,
    listener: socket.socket,
    url: str,
) -> int:
    """Run the service process under a supervisor until it ends; the exit code.

    Args:
        settings: already checked.
        app: the value of ``-A``.
        engine_chosen: whether an option or a setting named the engine.
        watch: fields of ``Watch``: the process watches a cluster and runs no jobs.
        managed: jobs run on Celery workers, and the process looks after them.
        worker: one of them runs here too, beside it.
        listener: a bound, listening socket, which the service process inherits.
        url: what the ready line says.
    """
    from headway.bootstrap.logging import set_up_logging

    set_up_logging()
    listener.set_inheritable(True)
    message = {
        "settings": settings.model_dump(mode="json"),
        "app": app,
        "engine_chosen": engine_chosen,
        "watch": watch,
        "managed": managed,
        "fd": listener.fileno(),
        "url": url,
        "supervisor": os.getpid(),
    }
    supervisor = Supervisor(
        service_command("headway.serve"),
        lambda starts: json.dumps({**message, "starts": starts}).encode(),
        pass_fds=(listener.fileno(),),
    )
    if not worker:
        return supervisor.run()
    with _beside(settings, app):
        return supervisor.run()


@contextmanager
def _beside(settings: Settings, app: str | None) -> Iterator[None]:
    """A managed worker of this machine, for the length of the block."""
    command = [sys.executable, "-m", "headway", "worker", "--data-dir", str(settings.data_dir)]
    command += ["--concurrency", str(settings.celery_worker_concurrency), *(["--app", app] if app else [])]
    worker = Supervisor(command, None, name="worker")
    thread = threading.Thread(target=worker.run, kwargs={"signals": False}, name="headway-worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.end()
        thread.join(settings.drain_seconds + _WORKER_ENDS_SECONDS)
        worker.kill()
        thread.join(_WORKER_ENDS_SECONDS)


def serve(message: dict[str, Any]) -> int:
    """The service process: everything in one process, until a signal or the supervisor's end."""
    from headway.bootstrap.logging import set_up_logging

    set_up_logging()
    settings = Settings(**message["settings"])
    listener = socket.socket(fileno=message["fd"])
    try:
        return _serve(settings, listener, message)
    except HeadwayError as error:
        _say(error)
        # At a first start somebody reads it and acts. Later, a database or a disk that is away comes back.
        passing = isinstance(error, StoreUnavailable | DataDirectoryInUse)
        return EXIT_FAILED if passing and message["starts"] else EXIT_REFUSED


def _say(error: HeadwayError) -> None:
    sys.stderr.write(f"error [{error.code}]: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")


def _opened(settings: Settings, message: Mapping[str, Any], exhausted: Exhaustion) -> ServedNode:
    if message["watch"] is not None:
        from headway.bootstrap.observing import Watch, open_observing

        return open_observing(settings, Watch(**message["watch"]), message["supervisor"])
    if message["managed"]:
        from headway.bootstrap.service import open_service

        return open_service(settings, app_spec=message["app"])
    from headway.bootstrap.node import open_node

    return open_node(settings, app_spec=message["app"], engine_chosen=message["engine_chosen"], on_exhausted=exhausted)


def _serve(settings: Settings, listener: socket.socket, message: Mapping[str, Any]) -> int:
    import uvicorn

    from headway.bootstrap.node import Exhaustion, web_application

    exhausted, url = Exhaustion(), message["url"]
    node = _opened(settings, message, exhausted)

    class Server(uvicorn.Server):
        """Says that it is ready once it is, and always ends in order: the supervisor kills it for the impatient."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if node.opened.owned is not None:
                node.opened.owned.announce(url)
            sys.stdout.write(f"Headway is ready at {url}\n")
            sys.stdout.flush()

        def handle_exit(self, *_: object) -> None:
            # One Ctrl-C arrives twice, by the terminal and by the supervisor; uvicorn takes the second for impatience.
            self.should_exit = True

    host = listener.getsockname()[0]
    server = Server(
        uvicorn.Config(
            web_application(node, hosts=(host,)),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_STREAMS_END_SECONDS,
            ws="none",
        )
    )
    exhausted.tell = lambda: setattr(server, "should_exit", True)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn raises what it caught once more when it has ended: the default would kill before the drain.
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    # What was imported stays. Before the first job: what a task leaves behind must be collected.
    gc.freeze()
    gc.enable()
    node.start()
    try:
        server.run(sockets=[listener])
    finally:
        node.stop()
    return EXIT_RESTART if exhausted.asked.is_set() else 0


def create_app() -> FastAPI:
    """The ASGI application with the thread engine inside, for ``uvicorn headway.app:create_app --factory``.

    One process only: a second one finds the data directory's lock taken and refuses with the remedy.
    """
    from headway.bootstrap.logging import set_up_logging
    from headway.bootstrap.node import Exhaustion, open_node, web_application

    set_up_logging()
    exhausted = Exhaustion()
    # Another server runs the process, so it is asked to end as its own user would; what starts it starts it again.
    exhausted.tell = lambda: os.kill(os.getpid(), signal.SIGTERM)
    try:
        settings = load_settings()
        for notice in settings.notices:
            log.info("settings.notice", notice=notice)
        node = open_node(settings, app_spec=None, engine_chosen=True, on_exhausted=exhausted)
    except HeadwayError as error:
        _say(error)
        raise SystemExit(1) from None
    return web_application(node, on_start=node.start, on_stop=node.stop)
