"""A real `headway up` in a process of its own, asked over HTTP; and a look at the processes beneath it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from tests.waiting import wait_until

READY = re.compile(r"^Headway is ready at (http://\S+)$", re.MULTILINE)
TERMINAL = {"succeeded", "failed", "cancelled", "timeout"}
SECONDS = 100.0


class PbpkServer:
    """Serves a data directory on a free port.

    Args:
        data_dir: the data directory.
        settings: further variables of its environment.
    """

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        command = [sys.executable, "-m", "headway", "up", "--data-dir", str(data_dir), "--port", "0"]
        data_dir.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            command,
            cwd=data_dir,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "JOB_WORKER_THREADS": "2", **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.http = httpx.Client(timeout=SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def __enter__(self) -> Self:
        def ready() -> re.Match[str] | None:
            assert self.process.poll() is None, self.said
            return READY.search(self.said)

        try:
            found = wait_until(ready, what="the ready line", seconds=60)
        except BaseException:
            self.kill_group()
            raise
        assert found is not None
        self.http.base_url = httpx.URL(found.group(1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise
        finally:
            self._close()

    def kill_group(self) -> None:
        """kill -9 of the whole process group at once: supervisor, service and whatever is in it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.http.close()

    def post(self, path: str, expect: int = 200, /, **body: Any) -> Any:
        """The JSON answer of a documents' path, if its status is the expected one."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == expect, f"{path}: {answer.status_code} {answer.text[:1000]}"
        return answer.json()

    def refused(self, path: str, status: int, code: str, /, **body: Any) -> str:
        """The message of an error in the documents' body with this code."""
        error = self.post(path, status, **body)["error"]
        assert error["details"][0]["code"] == code, error
        assert error["message"]
        return str(error["message"])

    def submit(self, task: str, **kwargs: Any) -> str:
        """Submit a task as any client would; its job's id."""
        answer = self.http.post("/api/v1/jobs", json={"task": task, "kwargs": kwargs})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""
        answer = self.http.get(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ended(self, job_id: str, state: str = "succeeded", seconds: float = SECONDS) -> dict[str, Any]:
        """A job once it has ended, as expected."""

        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] in TERMINAL else None

        job = wait_until(look, what=f"job {job_id} to end", seconds=seconds, every=0.05)
        assert job is not None
        assert job["state"] == state, job
        return job

    def result(self, job_id: str) -> dict[str, Any]:
        """What a succeeded job returned."""
        self.ended(job_id)
        found: dict[str, Any] = self.http.get(f"/api/v1/jobs/{job_id}/result").json()["result"]
        return found

    def done(self, job_id: str) -> float:
        """Individuals done, as the job says."""
        return float((self.job(job_id)["progress"] or {}).get("done", 0.0))

    def processes(self, module: str) -> list[psutil.Process]:
        """Processes of this server that run a module of ours."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if module in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @property
    def workers(self) -> list[psutil.Process]:
        """Workers of populations."""
        return self.processes("headway.pbpk.worker")

    def service_mb(self) -> float:
        """Resident memory of the service process, children apart."""
        (service,) = self.processes("headway.serve")
        return float(service.memory_info().rss) / 1_000_000


def of_weight(text: str, kilograms: int) -> str:
    """The text of the shipped caffeine model with another body weight."""
    heavier = text.replace('name="body weight" value="73"', f'name="body weight" value="{kilograms}"')
    assert heavier != text
    return heavier


def without_ids(result: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for the same population, whoever computed it."""
    return {name: value for name, value in result.items() if name not in {"results_id", "plots", "labels"}}
