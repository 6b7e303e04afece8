"""Tasks of a project that nobody here wrote, unchanged: django-post-office's mail queue and django-health-check's checks.

Both are widely used, small, and lean on what an attached application could get wrong: `delay` after a transaction's
commit, a task that guards itself with a lock against its own duplicates, `expires`, results that are waited for, and
`inspect` (ping, queues).
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import headway
from tests.compat.celery_suite.source import RELEASE, sources
from tests.compat.celery_suite.source import needs as needs_of_headway
from tests.compat.venvs import ROOT, venv
from tests.faults.serving import Server
from tests.servers.rabbitmq import RabbitServer
from tests.servers.valkey import ValkeyServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.compat, pytest.mark.timeout(600)]

APPLICATIONS = ("django-post-office==3.12.0", "django-health-check==3.20.8", "django>=5.2,<6", f"celery=={RELEASE}")
MAILS = 20
_SENT = 0


class Postroom:
    """The project in a folder of its own.

    Args:
        folder: for its database, its mails and its logs.
        broker: URL of the broker.
        results: URL of Celery's result backend.
        attached: further environment, which attaches its application; None leaves it as it is.
    """

    def __init__(self, folder: Path, broker: str, results: str, attached: dict[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir()
        self.programs = venv("postroom", [*needs_of_headway(), *APPLICATIONS])
        self.attached = attached is not None
        self.environment = {
            **os.environ,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{sources()}:{ROOT / 'tests' / 'compat'}",
            "DJANGO_SETTINGS_MODULE": "postroom.settings",
            "POSTROOM_HOME": str(folder),
            "POSTROOM_BROKER": broker,
            "POSTROOM_RESULTS": results,
            # The mail queue keeps its lock where temporary files are.
            "TMPDIR": str(folder),
            **({"POSTROOM_ATTACHED": "1", **attached} if attached else {}),
        }
        self.log = folder / "worker.log"
        self.python("-m", "django", "migrate", "--verbosity", "0")

    def python(self, *arguments: str) -> str:
        """Run its Python; what it printed."""
        command = [str(self.programs / "python"), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}\n{self.said()}"
        return done.stdout

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Its worker, two children, until it is left."""
        celery = [str(self.programs / "celery"), "-A", "postroom", "worker", "--loglevel", "INFO", "--concurrency", "2"]
        ours = [str(self.programs / "python"), "-m", "headway", "worker", "-A", "postroom", "-c", "2"]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                ours if self.attached else celery,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: "ready" in self.said() or process.poll() is not None, what="the worker", seconds=60, every=0.1
            )
            assert process.poll() is None, self.said()
            yield
            process.terminate()
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)

    def said(self) -> str:
        """What its worker wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def received(self) -> list[str]:
        """The task of each message that its worker received."""
        return re.findall(r"Task (\S+)\[[^\]]+\] received", self.said())

    def states(self) -> list[int | None]:
        """The state of each mail in its own database."""
        with closing(sqlite3.connect(self.folder / "postroom.db", timeout=30)) as connection:
            return [row[0] for row in connection.execute("SELECT status FROM post_office_email")]

    def subjects(self) -> list[str]:
        """The subject of each mail that left, as often as it left."""
        letters = [line for file in (self.folder / "sent").glob("*.log") for line in file.read_text().splitlines()]
        return sorted(line for line in letters if line.startswith("Subject: "))

    def use(self) -> None:
        """Its mails leave, once each, and its own health check finds its workers well."""
        self.python("-m", "postroom.sending", str(MAILS))
        wait_until(lambda: self.states() == [_SENT] * MAILS, what="all mails to be sent", seconds=60, every=0.2)
        assert self.subjects() == sorted(f"Subject: Letter {number}" for number in range(MAILS))
        said = self.python("-m", "django", "health_check")
        assert said.count("working") == 2, said


def _url_of(broker: str, request: pytest.FixtureRequest) -> str:
    server: ValkeyServer | RabbitServer = request.getfixturevalue(f"own_{broker}")
    return server.url


@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_plain(request: pytest.FixtureRequest, own_valkey: ValkeyServer, tmp_path: Path, broker: str) -> None:
    """Without Headway, so that what fails below is Headway's."""
    room = Postroom(tmp_path / "room", _url_of(broker, request), own_valkey.url)
    with room.worker():
        room.use()


if "attach" in headway.__all__:

    @pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
    def test_attached(
        request: pytest.FixtureRequest, own_valkey: ValkeyServer, postgres_url: str, tmp_path: Path, broker: str
    ) -> None:
        url = _url_of(broker, request)
        service = Server(tmp_path, None, registry=postgres_url, verb="serve", settings={"CELERY_BROKER_URL": url})
        with service:
            service.start()
            room = Postroom(tmp_path / "room", url, own_valkey.url, {"JOB_REGISTRY_PATH": postgres_url})
            with room.worker():
                room.use()
                with service.client() as client:
                    jobs = list(client.list())
            recorded = Counter(job.task for job in jobs)
            assert recorded["post_office.tasks.send_queued_mail"] == MAILS
            # Each was recorded once and delivered once; the health check sends as often as it likes.
            assert recorded == Counter(room.received())
            assert {str(job.state) for job in jobs} == {"succeeded"}
            service.stop()
