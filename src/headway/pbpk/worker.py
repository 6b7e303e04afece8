"""A process that simulates chunks of populations, one after the other, for the pool that started it.

Started as ``python -m headway.pbpk.worker``. It stays warm: models that it compiled are kept. Orders and answers
are lines of JSON over a private socket, because native libraries write to the standard outputs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from headway.model.errors import HeadwayError
from headway.pbpk.chunks import save_chunk
from headway.pbpk.places import MODEL_FILE, read_json
from headway.pbpk.population import PopulationSpec, run_chunk
from headway.pbpk.roadrunner import RoadRunnerEngine
from headway.pbpk.warm import LoadedModels

#: The population of a job, beside its chunks.
SPEC_FILE = "population.json"

_PR_SET_PDEATHSIG = 1


class ChunkWorker:
    """Runs orders: ``{directory, fingerprint, name, start, stop}``. Population and model lie in the directory."""

    def __init__(self) -> None:
        self._models = LoadedModels(RoadRunnerEngine())
        self._spec: PopulationSpec | None = None
        self._fingerprint = ""
        self._text = ""

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Simulate and save a chunk; what went wrong is an answer, too."""
        begun = time.monotonic()
        try:
            size, failed = self._run(Path(order["directory"]), order)
        except HeadwayError as error:
            return {"error": error.to_dict()}
        except Exception as error:  # noqa: BLE001 - a full disk, say: the coordinator decides what becomes of it
            return {"error": {"code": "population_worker_failed", "message": f"{type(error).__name__}: {error}"}}
        return {"seconds": time.monotonic() - begun, "bytes": size, "failed": failed}

    def _run(self, directory: Path, order: dict[str, Any]) -> tuple[int, int]:
        if self._spec is None or order["fingerprint"] != self._fingerprint:
            self._spec = PopulationSpec.from_dict(read_json(directory / SPEC_FILE) or {})
            self._fingerprint = self._spec.fingerprint
            self._text = (directory / MODEL_FILE).read_text(encoding="utf-8")
        model = self._models.get(self._text, str(order["name"]))
        chunk = run_chunk(model, self._spec, order["start"], order["stop"])
        return save_chunk(directory, chunk), len(chunk.failures)


def serve(end: socket.socket) -> None:
    """Answer orders until the other end is closed."""
    worker = ChunkWorker()
    with end.makefile("rb") as orders:
        for line in orders:
            end.sendall(json.dumps(worker.answer(json.loads(line))).encode() + b"\n")


def main() -> None:
    """Read the command line that ``pool.py`` writes, and serve."""
    parser = argparse.ArgumentParser(prog="headway population worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    # The kernel ends this process with the thread that started it, however that one ends.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != options.parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(options.fd, False)
    serve(socket.socket(fileno=options.fd))


if __name__ == "__main__":
    main()
