"""Where models are found: those that come with Headway, and the folders named in the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.pbpk import errors

#: Folder of the models that come with Headway.
SHIPPED = Path(__file__).parent / "models"

#: File name endings of models.
SUFFIXES = (".xml", ".sbml")

#: Largest model file that is read, bytes.
MAX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class ModelFile:
    """A model that was found.

    Attributes:
        name: its file name without the ending.
        path: the resolved file.
        shipped: whether it comes with Headway.
    """

    name: str
    path: Path
    shipped: bool

    def read(self) -> str:
        """Its text.

        Raises:
            ModelNotFound: the file is gone or cannot be read.
            InvalidModel: it is too large, or no UTF-8 text.
        """
        try:
            if self.path.stat().st_size > MAX_BYTES:
                raise errors.InvalidModel(f"{self.path.name} is larger than {MAX_BYTES} bytes.", problems=[])
            return self.path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise errors.InvalidModel(f"{self.path.name} is not UTF-8 text.", problems=[]) from error
        except OSError as error:
            raise errors.ModelNotFound(f"{self.path.name} cannot be read: {error.strerror}.") from error


class ModelCatalog:
    """Finds models by name or path, and nothing outside its folders.

    Args:
        search_paths: folders, searched in order before the shipped models; one that does not exist is
            passed over.
        shipped: whether the models that come with Headway are in it.
    """

    def __init__(self, search_paths: Sequence[Path | str] = (), *, shipped: bool = True) -> None:
        given = tuple(Path(path).resolve() for path in search_paths)
        self._folders = (*given, SHIPPED.resolve()) if shipped else given

    def find(self, reference: str) -> ModelFile:
        """The model of that name (``caffeine``), file name, or path within a folder of the catalogue.

        Links are followed before the check, so none leads out of the folders.

        Raises:
            ModelNotFound: no such model, or it lies outside; ``near`` lists similar names.
        """
        for folder in self._folders:
            for candidate in _candidates(folder, reference):
                found = _within(folder, candidate)
                if found is not None:
                    return ModelFile(found.stem, found, shipped=folder == SHIPPED.resolve())
        similar = errors.near(Path(reference).stem, [item.name for item in self.list()])
        where = "neither among the shipped models nor in a search path"
        hint = f"Did you mean {', '.join(similar)}?" if similar else "Put it in a folder of HEADWAY_MODEL_PATHS."
        raise errors.ModelNotFound(f"Model {reference!r} is {where}.", hint=hint, model=reference, near=similar)

    def list(self) -> list[ModelFile]:
        """Every model directly in the folders, by name; of two with one name the first found counts."""
        found: dict[str, ModelFile] = {}
        for folder in self._folders:
            if not folder.is_dir():
                continue
            for path in sorted(folder.iterdir()):
                inside = _within(folder, path) if path.suffix.lower() in SUFFIXES else None
                if inside is not None:
                    entry = ModelFile(path.stem, inside, shipped=folder == SHIPPED.resolve())
                    found.setdefault(path.stem, entry)
        return sorted(found.values(), key=lambda item: item.name)


def _candidates(folder: Path, reference: str) -> list[Path]:
    if not reference or "\0" in reference or len(reference) > 1000:
        return []
    base = folder / reference  # an absolute reference replaces the folder, and must then lie within it
    if base.suffix.lower() in SUFFIXES:
        return [base]
    return [base.with_name(base.name + suffix) for suffix in SUFFIXES] if base.name not in {"", ".."} else []


def _within(folder: Path, candidate: Path) -> Path | None:
    try:
        resolved = candidate.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    return resolved if resolved.is_file() and resolved.is_relative_to(folder) else None
