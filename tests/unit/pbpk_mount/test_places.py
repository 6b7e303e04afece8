"""Where files lie, and what a job's folder may be called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.bootstrap.workloads import child_environment
from headway.config import Settings
from headway.pbpk import errors, places
from headway.pbpk.places import Places


def test_children_learn_the_settings_wherever_those_came_from(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, model_paths=(tmp_path / "a", tmp_path / "b"), shipped_models=False, job_worker_threads=3
    )
    found = Places.from_environment(child_environment(settings))
    assert found == Places(tmp_path, (tmp_path / "a", tmp_path / "b"), False, 3)
    assert Places.from_environment(child_environment(Settings(data_dir=tmp_path))).shipped_models


def test_no_models_at_all_is_not_the_default(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, model_paths=(), shipped_models=False)
    found = Places.from_environment(child_environment(settings))
    assert (found.model_paths, found.shipped_models) == ((), False)
    with pytest.raises(errors.ModelNotFound):
        found.catalog.find("caffeine")


def test_without_settings_it_is_the_folder_var() -> None:
    found = Places.from_environment({})
    assert found.data_dir == Path.cwd() / "var"
    assert found.model_paths == (Path.cwd() / "var" / "models",)
    assert found.workers == os.cpu_count()


@given(st.text(min_size=1, max_size=255))
def test_no_id_leads_out_of_its_folder(job_id: str) -> None:
    root = Path("/data")
    folder = Places(root).folder("populations", job_id)
    assert folder.parent == root / "populations"
    assert folder.name not in {".", ".."}
    assert not folder.name.startswith(".")
    assert len(folder.name.encode()) <= 255


def test_two_ids_are_two_folders() -> None:
    where = Places(Path("/data"))
    names = ["a", "A", "a/b", "a b", "../x", "é", "id.x", "-"]
    assert len({where.folder("simulations", name) for name in names}) == len(names)


def test_a_model_is_kept_by_its_hash(tmp_path: Path) -> None:
    where = Places(tmp_path)
    key = where.keep_model("<sbml/>\r\n")
    assert where.keep_model("<sbml/>\n") == key
    assert where.kept_model(key) == "<sbml/>\n"
    (kept,) = (tmp_path / "models-store").iterdir()
    kept.write_text("<sbml>other</sbml>\n")
    with pytest.raises(errors.ModelNotFound, match="damaged"):
        where.kept_model(key)


@pytest.mark.parametrize("key", ["", "sha256:", "../../etc/passwd", "sha256:../../../x", "sha256:" + "A" * 64])
def test_only_hashes_name_kept_models(tmp_path: Path, key: str) -> None:
    with pytest.raises(errors.ModelNotFound):
        Places(tmp_path).kept_model(key)


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    places.write_json(path, {"a": 1})
    assert places.read_json(path) == {"a": 1}
    path.write_text('{"a": ')
    assert places.read_json(path) is None
    path.write_text("[1]")
    assert places.read_json(path) is None
    assert [item.name for item in path.parent.iterdir()] == ["file.json"]
