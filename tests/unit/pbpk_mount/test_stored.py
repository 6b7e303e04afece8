"""Sessions in the store, changed by several at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.model.errors import SessionConflict, SessionNotFound
from headway.model.job import Session
from headway.pbpk import sbml
from headway.pbpk.catalog import ModelCatalog
from headway.pbpk.description import Dose, ModelDescription, Output, Parameter
from headway.pbpk.errors import InvalidSimulation
from headway.pbpk.sampling import Covariate
from headway.pbpk.session import SimulationSession
from headway.pbpk.stored import (
    KIND,
    StoredSession,
    body_of,
    change_session,
    description_from_dict,
    read_session,
)

CAFFEINE = sbml.describe(ModelCatalog().find("caffeine").read(), "caffeine")


class Rows:
    """The session verbs over a dict, with their conflicts; a rival writes before the first ``rivals`` saves."""

    def __init__(self, rivals: int = 0, kind: str = KIND) -> None:
        session = SimulationSession("s1", "caffeine", CAFFEINE.hash, 5)
        self.row = Session("s1", kind, body_of(session, CAFFEINE.to_dict()), 1, 5, 5, "local:1")
        self.rivals = rivals

    def get_session(self, ctx: Any, session_id: str) -> Session:
        if session_id != self.row.id:
            raise SessionNotFound(f"no session has the id {session_id!r}")
        return self.row

    def save_session(
        self, ctx: Any, session_id: str, kind: str, body: dict[str, Any], expected_version: int
    ) -> Session:
        if self.rivals:
            self.rivals -= 1
            self._write(set_to(self, "PODOSE", 100.0 + self.rivals))
        if expected_version != self.row.version:
            raise SessionConflict("it was changed meanwhile")
        self._write(body)
        return self.row

    def _write(self, body: dict[str, Any]) -> None:
        self.row = replace(self.row, body=body, version=self.row.version + 1)


def set_to(rows: Rows, path: str, value: float) -> dict[str, Any]:
    session = SimulationSession.from_dict(rows.row.body).with_parameter(CAFFEINE, path, value, now=6)
    return body_of(session, rows.row.body["description"])


def lighter(stored: StoredSession) -> SimulationSession:
    return stored.session.with_parameter(stored.description, "BW", 60.0, now=7)


def test_a_session_comes_back_as_it_was_stored() -> None:
    stored = read_session(Rows(), None, "s1")  # type: ignore[arg-type]
    assert stored.description == CAFFEINE
    assert (stored.actor, stored.version, stored.session.model) == ("local:1", 1, "caffeine")


def test_two_changes_at_once_are_both_there() -> None:
    rows = Rows(rivals=1)
    after = change_session(rows, None, "s1", lighter)  # type: ignore[arg-type]
    assert after.session.parameters == {"PODOSE": 100.0, "BW": 60.0}
    assert SimulationSession.from_dict(rows.row.body).parameters == {"PODOSE": 100.0, "BW": 60.0}
    assert after.version == rows.row.version


def test_a_change_that_never_gets_through_gives_up() -> None:
    rows = Rows(rivals=1000)
    with pytest.raises(SessionConflict):
        change_session(rows, None, "s1", lighter)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [Rows(kind="other"), Rows()])
def test_what_is_no_simulation_is_not_found(rows: Rows) -> None:
    wanted = "s1" if rows.row.kind == "other" else "s2"
    with pytest.raises(SessionNotFound, match="no simulation"):
        read_session(rows, None, wanted)  # type: ignore[arg-type]


texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.none()
descriptions = st.builds(
    ModelDescription,
    name=texts,
    title=texts,
    hash=texts,
    time_unit=texts,
    parameters=st.lists(
        st.builds(Parameter, texts, texts, numbers, texts, st.booleans(), st.none() | texts, numbers, numbers),
        max_size=3,
    ).map(tuple),
    outputs=st.lists(st.builds(Output, texts, texts, texts, st.just("amount")), max_size=3).map(tuple),
    doses=st.lists(st.builds(Dose, texts, texts), max_size=2).map(tuple),
    default_output=st.none() | texts,
    variability=st.just((Covariate("x", cv=0.1, minimum=1.0, unit="kg"),)),
    molar_mass=numbers,
    warnings=st.lists(texts, max_size=2).map(tuple),
)


@given(descriptions)
def test_every_description_comes_back(description: ModelDescription) -> None:
    assert description_from_dict(description.to_dict()) == description


@pytest.mark.parametrize("field", sorted(CAFFEINE.to_dict()))
def test_a_damaged_description_is_an_error_of_ours(field: str) -> None:
    values = CAFFEINE.to_dict()
    del values[field]
    with pytest.raises(InvalidSimulation, match=field):
        description_from_dict(values)
