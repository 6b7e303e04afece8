"""Sessions, units and the catalogue."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from headway.pbpk import errors, sbml, units
from headway.pbpk.catalog import ModelCatalog
from headway.pbpk.description import ModelDescription
from headway.pbpk.session import SimulationSession
from tests.unit.pbpk.sbml_texts import explosive, shipped

NOW = 1_700_000_000_000_000


@pytest.fixture
def description() -> ModelDescription:
    return sbml.describe(shipped("caffeine"))


@pytest.fixture
def session(description: ModelDescription) -> SimulationSession:
    return SimulationSession("sim-1", "caffeine", description.hash, NOW)


def test_a_value_with_a_unit_is_kept_in_the_parameters_own(
    session: SimulationSession, description: ModelDescription
) -> None:
    changed = session.with_parameter(description, "BW", 165.0, unit="lb", now=NOW + 1, comment="measured")
    changed = changed.with_parameter(description, "CO_ref", 6.0, unit="L/min", now=NOW + 2)
    assert changed.parameters["BW"] == pytest.approx(74.842741, rel=1e-7)
    assert changed.parameters["CO_ref"] == pytest.approx(360.0)
    override = changed.override("BW")
    assert override is not None
    assert (override.unit, override.comment, override.updated_at) == ("kg", "measured", NOW + 1)
    assert session.parameters == {}


def test_relative_is_added_to_what_is_there(session: SimulationSession, description: ModelDescription) -> None:
    changed = session.with_parameter(description, "BW", 5.0, mode="relative", now=NOW)
    changed = changed.with_parameter(description, "BW", 2000.0, unit="g", mode="relative", now=NOW)
    assert changed.parameters == {"BW": pytest.approx(80.0)}
    assert changed.with_parameter(description, "BW", -10.0, mode="relative", now=NOW).parameters["BW"] == 70.0
    assert changed.without_parameter("BW").parameters == {}


def test_it_survives_json(session: SimulationSession, description: ModelDescription) -> None:
    changed = session.with_parameter(description, "PODOSE", 0.2, unit="g", now=NOW, comment="ü")
    assert SimulationSession.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


@pytest.mark.parametrize(
    ("path", "value", "unit", "mode", "error"),
    [
        ("bw", 70.0, None, "absolute", errors.UnknownParameter),
        ("V_li", 2.0, "L", "absolute", errors.ParameterSetByRule),
        ("BW", 70.0, "mg/L", "absolute", errors.UnitMismatch),
        ("BW", 70.0, "no such unit", "absolute", errors.UnitMismatch),
        ("BW", 70.0, "9**9**9**9", "absolute", errors.UnitMismatch),
        ("BW", -1.0, None, "absolute", errors.InvalidParameterValue),
        ("BW", -80.0, None, "relative", errors.InvalidParameterValue),
        ("BW", math.nan, None, "absolute", errors.InvalidParameterValue),
        ("BW", math.inf, "kg", "absolute", errors.InvalidParameterValue),
        ("BW", 1e6, "kg", "absolute", errors.InvalidParameterValue),
        ("BW", 70.0, None, "multiplied", errors.InvalidSimulation),
    ],
)
def test_each_bad_change_has_its_code(
    session: SimulationSession,
    description: ModelDescription,
    path: str,
    value: float,
    unit: str | None,
    mode: str,
    error: type[errors.PbpkError],
) -> None:
    with pytest.raises(error) as caught:
        session.with_parameter(description, path, value, unit=unit, mode=mode, now=NOW)
    assert json.dumps(caught.value.to_dict(), allow_nan=False)


def test_a_session_belongs_to_one_version_of_its_model(session: SimulationSession) -> None:
    other = sbml.describe(shipped("caffeine").replace("4.94", "5.94"))
    with pytest.raises(errors.InvalidSimulation, match="another version"):
        session.with_parameter(other, "BW", 70.0, now=NOW)


def test_a_unit_is_refused_where_the_model_names_none() -> None:
    plain = sbml.describe(explosive())
    session = SimulationSession("s", "explosive", plain.hash, NOW)
    with pytest.raises(errors.UnitMismatch):
        session.with_parameter(plain, "k", 1.0, unit="1/h", now=NOW)
    assert session.with_parameter(plain, "k", 1.0, now=NOW).parameters == {"k": 1.0}


@pytest.mark.parametrize("identifier", ["", "a b", "../x", "x" * 65, "-x"])
def test_bad_ids_are_refused(identifier: str) -> None:
    with pytest.raises(errors.InvalidSimulation):
        SimulationSession(identifier, "caffeine", "sha256:0", NOW)


@pytest.mark.parametrize("stored", [{}, {"simulation_id": "a"}, {"simulation_id": "a", "model": "b", "overrides": 3}])
def test_what_is_no_session_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidSimulation):
        SimulationSession.from_dict(stored)


@pytest.mark.parametrize("unit", ["", "zz", "mg/", "__import__('os')", "m" * 100, "10**400*mg", "(9^9)^9", "L"])
def test_odd_units_are_refused_quickly(unit: str) -> None:
    with pytest.raises(errors.UnitMismatch):
        units.convert(1.0, unit, "mg")


def test_products_of_units_are_short() -> None:
    assert units.product(("mg", 1), ("mg/L", -1), ("h", -1)) == "L/h"
    assert units.product(("unknown", 1), ("h", 1)) == "unknown"
    assert units.product(("mg", 1), ("mg", -1)) == "dimensionless"


def test_names_paths_and_folders_of_the_catalogue(tmp_path: Path) -> None:
    inner = tmp_path / "models"
    (inner / "deep").mkdir(parents=True)
    (inner / "mine.xml").write_text(explosive())
    (inner / "deep" / "other.sbml").write_text(explosive())
    catalog = ModelCatalog([inner, tmp_path / "absent"])
    assert [item.name for item in catalog.list()] == ["caffeine", "midazolam", "mine"]
    assert catalog.find("caffeine").shipped
    assert catalog.find("caffeine.xml").path == catalog.find("caffeine").path
    assert catalog.find("mine").read() == explosive()
    assert catalog.find(str(inner / "mine.xml")).name == "mine"
    assert catalog.find("deep/other").name == "other"
    # A folder of the user's comes before what is shipped.
    (inner / "caffeine.xml").write_text(explosive())
    assert not catalog.find("caffeine").shipped


def test_nothing_outside_the_folders_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "models"
    inner.mkdir()
    secret = tmp_path / "secret.xml"
    secret.write_text("secret")
    (inner / "link.xml").symlink_to(secret)
    (inner / "folder.xml").mkdir()
    catalog = ModelCatalog([inner])
    for reference in (
        "../secret",
        "../secret.xml",
        str(secret),
        "link",
        "link.xml",
        "folder",
        "/etc/passwd",
        "",
        "..",
        ".",
        "a\0b",
        "x" * 5000,
        "build.py",
    ):
        with pytest.raises(errors.ModelNotFound):
            catalog.find(reference)
    assert [item.name for item in catalog.list()] == ["caffeine", "midazolam"]


def test_an_unknown_model_comes_with_similar_names() -> None:
    with pytest.raises(errors.ModelNotFound) as caught:
        ModelCatalog().find("cafeine")
    assert caught.value.details["near"] == ["caffeine"]


def test_a_file_that_is_no_text_is_an_invalid_model(tmp_path: Path) -> None:
    (tmp_path / "odd.xml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.InvalidModel):
        ModelCatalog([tmp_path]).find("odd").read()
