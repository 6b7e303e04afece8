"""A peer that serves HTTP on a loopback port, started as its manual says."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from benchmarks.processes import ChildFailed, environment
from tests.servers.process import free_port

_READY_SECONDS = 60.0
_END_SECONDS = 10.0


class WebPeer:
    """The process and a client of it.

    Args:
        folder: where it runs, and where its log goes.
        command: the command line; ``{port}`` stands for its port.
        variables: of its environment.
    """

    def __init__(self, folder: Path, command: Sequence[str], **variables: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._command = [part.format(port=self.port) for part in command]
        self._variables = variables
        self._log = folder / "peer.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300, trust_env=False)

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=environment(**self._variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ends = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends:
                self._end()
                raise ChildFailed(
                    f"{os.path.basename(self._command[0])} did not become ready\n"  # noqa: PTH119 - a name, no path
                    f"{self._log.read_text(errors='replace')[-3000:]}"
                )
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def _answers(self) -> bool:
        try:
            return self.http.get("/metrics").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _end(self) -> None:
        process, self._process = self._process, None
        self.http.close()
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
