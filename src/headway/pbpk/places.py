"""Where the tasks and routes of this workload keep their files, all under the data directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headway.pbpk import errors
from headway.pbpk.catalog import MAX_BYTES, ModelCatalog
from headway.pbpk.sbml import canonical_text, model_hash

Kind = Literal["populations", "simulations"]

#: Inside the folder of a job.
JOB_FILE = "job.json"
MODEL_FILE = "model.xml"
PLOTS = {"svg": "image/svg+xml", "png": "image/png"}

_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Places:
    """The folders of one data directory.

    Attributes:
        data_dir: the data directory, absolute.
        model_paths: folders that are searched for models.
        shipped_models: whether the models of the package are searched, too.
        workers: how many processes compute at the same time, by default.
    """

    data_dir: Path
    model_paths: tuple[Path, ...] = ()
    shipped_models: bool = True
    workers: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Places:
        """Those of the settings that the service gives its child processes."""
        given = os.environ if environment is None else environment
        data_dir = Path(given.get("HEADWAY_DATA_DIR") or "var").absolute()
        paths = given.get("HEADWAY_MODEL_PATHS")
        items = paths.split(os.pathsep) if paths else ["shipped", str(data_dir / "models")]
        return cls(
            data_dir,
            tuple(Path(item) for item in items if item and item != "shipped"),
            "shipped" in items,
            max(1, int(given.get("JOB_WORKER_THREADS") or os.cpu_count() or 1)),
        )

    @property
    def catalog(self) -> ModelCatalog:
        """The models that can be named."""
        return ModelCatalog(self.model_paths, shipped=self.shipped_models)

    @property
    def shares(self) -> Path:
        """Files whose locks share the machine's cores among populations."""
        return self.data_dir / "populations" / ".shares"

    def folder(self, kind: Kind, job_id: str) -> Path:
        """The folder of a job's files; an id that is no plain file name is hashed."""
        plain = _PLAIN_ID.fullmatch(job_id)
        name = job_id if plain else f"id.{hashlib.sha256(job_id.encode('utf-8', 'surrogatepass')).hexdigest()}"
        return self.data_dir / kind / name

    def plot(self, kind: Kind, job_id: str, image: str) -> Path:
        """The file of a job's plot, ``svg`` or ``png``."""
        return self.folder(kind, job_id) / f"plot.{image}"

    def keep_model(self, text: str) -> str:
        """Store a model's text under its hash, for jobs and sessions to name it by.

        Returns:
            The hash. A job carries it instead of the text: a list of jobs stays small, and a run that is
            recovered after the file was edited is still the same run.
        """
        key = model_hash(text)
        path = self._model_path(key)
        if not path.exists():
            write_aside(path, canonical_text(text).encode())
        return key

    def kept_model(self, key: str) -> str:
        """The text of that hash.

        Raises:
            ModelNotFound: it is not there, or not whole.
        """
        path = self._model_path(key)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.stat().st_size <= MAX_BYTES:
                text = path.read_text(encoding="utf-8")
                if model_hash(text) == key:
                    return text
        raise errors.ModelNotFound(
            f"The stored model {key[:80]} is missing or damaged.", hint="Load the model again.", model_hash=key[:80]
        )

    def _model_path(self, key: str) -> Path:
        if not _HASH.fullmatch(key):
            raise errors.ModelNotFound(
                f"{key[:80]!r} is no hash of a model.", hint="It looks like sha256:… (64 digits)."
            )
        return self.data_dir / "models-store" / f"{key.removeprefix('sha256:')}.xml"


def write_aside(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or the next start after a crash, finds all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """``write_aside`` of a JSON object."""
    write_aside(path, json.dumps(value, ensure_ascii=False).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file; ``None`` where there is none that is whole."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def job_folders(root: Path) -> Iterator[tuple[str | None, Path]]:
    """Each folder of a job under ``populations/`` or ``simulations/``, with the job's id where it is known."""
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith("."):
                written = (read_json(folder / JOB_FILE) or {}).get("job_id")
                yield (written if isinstance(written, str) else None), folder
