"""The cluster of a file written for others to run: units of systemd, a file of Compose. Text only, nothing is started."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

import headway
from headway.bootstrap.fleet import API_STOP_SECONDS, stop_seconds, worker_options

if TYPE_CHECKING:
    from headway.config import ClusterFile, Settings, WorkerGroup

_PORT: Final = 8000
_HARDENING: Final = """\
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
LockPersonality=yes
SystemCallArchitectures=native
UMask=0077
"""


def systemd_units(settings: Settings, file: ClusterFile, *, user: str, folder: Path) -> dict[str, str]:
    """The units by their file names: a target, the server, and a template for each group of workers.

    Args:
        settings: of the machine.
        file: says what runs.
        user: that the processes run as.
        folder: the working folder, in which the application is found.
    """
    data_dir = settings.data_dir.absolute()
    common = ["--data-dir", str(data_dir), *(["-A", file.app] if file.app else [])]
    port = str(file.port or _PORT)
    units = {
        "headway-api.service": _service(
            "Headway: server",
            ["serve", "--host", file.host, "--port", port, *common],
            user=user,
            folder=folder,
            data_dir=data_dir,
            stop=API_STOP_SECONDS,
        )
    }
    wanted = ["headway-api.service"]
    for group in file.groups:
        name = f"headway-worker-{group.name}@"
        units[f"{name}.service"] = _service(
            f"Headway: worker {group.name} %i",
            ["worker", "-n", f"{group.name}-%i", *worker_options(group), *common],
            user=user,
            folder=folder,
            data_dir=data_dir,
            stop=stop_seconds(settings),
        )
        wanted += [f"{name}{number + 1}.service" for number in range(group.processes)]
    units["headway.target"] = (
        "[Unit]\nDescription=Headway: server and workers\n"
        f"Wants={' '.join(wanted)}\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    return units


def _service(about: str, arguments: list[str], *, user: str, folder: Path, data_dir: Path, stop: float) -> str:
    command = " ".join(_quoted(word) for word in [sys.executable, "-m", "headway", *arguments])
    return (
        f"[Unit]\nDescription={about}\nPartOf=headway.target\nAfter=network-online.target\nWants=network-online.target\n"
        # What cannot start for a while is tried for as long as it takes.
        "StartLimitIntervalSec=0\n\n"
        f"[Service]\nUser={user}\nWorkingDirectory={_escaped(folder)}\nEnvironmentFile=-/etc/headway/headway.env\n"
        f"Environment=PYTHONUNBUFFERED=1\nExecStart={command}\nRestart=always\nRestartSec=2\n"
        # SIGTERM to the main process alone: it drains its children; what is left after that is killed.
        f"KillMode=mixed\nTimeoutStopSec={math.ceil(stop)}\nReadWritePaths={_quoted(str(data_dir))}\n{_HARDENING}\n"
        "[Install]\nWantedBy=headway.target\n"
    )


def _escaped(text: object) -> str:
    return str(text).replace("%", "%%")


def _quoted(word: str) -> str:
    # `%i` is systemd's own; every other percent sign is one of ours.
    kept = word.replace("%", "%%").replace("%%i", "%i").replace("$", "$$")
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"' if set(word) & set(" \t\"'\\;") else kept


def compose_files(settings: Settings, file: ClusterFile, *, folder: Path, out: Path) -> dict[str, str]:
    """``compose.yaml`` with Postgres, Valkey, the server and the workers, its ``Dockerfile`` and ``.env.example``.

    Args:
        settings: of the cluster.
        file: says what runs.
        folder: of the application, which is copied into the image.
        out: where the files will be.
    """
    folder, out = folder.absolute(), out.absolute()
    port = file.port or _PORT
    app = ["-A", file.app] if file.app else []
    healthy = {"condition": "service_healthy"}
    base: dict[str, Any] = {
        "build": {
            "context": os.path.relpath(folder, out),
            "dockerfile": os.path.relpath(out / "Dockerfile", folder),
        },
        "init": True,
        "restart": "unless-stopped",
        "environment": {
            "JOB_REGISTRY_PATH": "postgresql://headway:${POSTGRES_PASSWORD:?set it in .env}@postgres/headway",
            "CELERY_BROKER_URL": "redis://valkey:6379/0",
            "HEADWAY_API_KEY": "${HEADWAY_API_KEY:?set it in .env}",
        },
    }
    question = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/health', timeout=3)"
    services: dict[str, Any] = {
        "postgres": {
            "image": "postgres:17",
            "restart": "unless-stopped",
            "environment": {
                "POSTGRES_USER": "headway",
                "POSTGRES_DB": "headway",
                "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?set it in .env}",
            },
            "volumes": ["postgres:/var/lib/postgresql/data"],
            "healthcheck": _check(["CMD", "pg_isready", "-U", "headway", "-d", "headway"]),
        },
        "valkey": {
            "image": "valkey/valkey:8",
            "restart": "unless-stopped",
            "healthcheck": _check(["CMD", "valkey-cli", "ping"]),
        },
        "api": {
            **base,
            "command": ["serve", "--host", "0.0.0.0", "--port", str(port), *app],  # noqa: S104 - inside its container, with a key
            "ports": [f"127.0.0.1:{port}:{port}"],
            "stop_grace_period": f"{math.ceil(API_STOP_SECONDS)}s",
            "depends_on": {"postgres": healthy, "valkey": healthy},
            "healthcheck": _check(["CMD", "python", "-c", question]),
        },
    }
    for group in file.groups:
        services[f"worker-{group.name}"] = _worker(base, group, app, stop_seconds(settings))
    compose = {"services": services, "volumes": {"postgres": {}}}
    return {
        "compose.yaml": yaml.safe_dump(compose, sort_keys=False, allow_unicode=True, width=120),
        # Neither secrets nor what was written while it ran here belong into an image.
        "Dockerfile.dockerignore": ".env\n**/.env\n.git\n.venv\nvar\n**/__pycache__\n",
        "Dockerfile": _DOCKERFILE.format(version=headway.__version__),
        ".env.example": "# Copy it to .env and fill it in; letters and digits only, as the first is part of a URL.\n"
        "POSTGRES_PASSWORD=\n# At least 16 visible characters.\nHEADWAY_API_KEY=\n",
    }


def _worker(base: dict[str, Any], group: WorkerGroup, app: list[str], stop: float) -> dict[str, Any]:
    return {
        **base,
        "command": ["worker", *worker_options(group), *app],
        "deploy": {"replicas": group.processes},
        "stop_grace_period": f"{math.ceil(stop)}s",
        # The server brings the database to its version first.
        "depends_on": {"api": {"condition": "service_healthy"}},
    }


def _check(test: list[str]) -> dict[str, Any]:
    return {"test": test, "interval": "5s", "timeout": "5s", "retries": 12, "start_period": "20s"}


_DOCKERFILE: Final = """\
FROM python:3.12-slim
RUN pip install --no-cache-dir 'headway[postgres]=={version}' && useradd --create-home headway
WORKDIR /app
# The application and what it needs: add a requirements.txt to install where it has one.
COPY --chown=headway . /app
RUN mkdir -p /app/var && chown headway /app /app/var
USER headway
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["headway"]
"""
