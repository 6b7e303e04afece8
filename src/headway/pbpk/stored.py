"""A session as it lies in the store: the model's description beside what was changed, so that no library reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from headway.model.errors import SessionConflict, SessionNotFound
from headway.model.job import Session
from headway.pbpk import errors
from headway.pbpk.description import Dose, ModelDescription, Output, Parameter
from headway.pbpk.sampling import Covariate
from headway.pbpk.session import SimulationSession
from headway.pbpk.ways import Verbs

KIND: Final = "simulation"
_TRIES: Final = 5


@dataclass(frozen=True)
class StoredSession:
    """A session with everything that was found out when its model was loaded.

    Attributes:
        session: which model, and what was changed.
        description: of the model.
        actor: who loaded it.
        version: of the row in the store.
    """

    session: SimulationSession
    description: ModelDescription
    actor: str
    version: int


def body_of(session: SimulationSession, description: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of a session.

    Args:
        session: the session.
        description: ``ModelDescription.to_dict`` of its model.
    """
    return {**session.to_dict(), "description": dict(description)}


def read_session(verbs: Verbs, ctx: Any, simulation_id: str) -> StoredSession:
    """A session of the store.

    Raises:
        SessionNotFound: there is none of that id.
    """
    return _stored(_session(verbs, ctx, simulation_id))


def change_session(verbs: Verbs, ctx: Any, simulation_id: str, change: Any) -> StoredSession:
    """Apply ``change(StoredSession) -> SimulationSession`` and store what it returns.

    Two changes at once are applied one after the other: who comes second reads again.

    Raises:
        SessionNotFound: there is no session of that id.
        SessionConflict: it was changed by others again and again.
    """
    tries = 0
    while True:
        row = _session(verbs, ctx, simulation_id)
        before = _stored(row)
        after = change(before)
        try:
            saved = verbs.save_session(ctx, simulation_id, KIND, body_of(after, row.body["description"]), row.version)
        except SessionConflict:
            tries += 1
            if tries >= _TRIES:
                raise
        else:
            return replace(before, session=after, version=saved.version)


def _session(verbs: Verbs, ctx: Any, simulation_id: str) -> Session:
    hint = "POST /load_simulation opens one."
    try:
        row = verbs.get_session(ctx, simulation_id)
    except SessionNotFound as error:
        raise SessionNotFound(f"There is no simulation {simulation_id!r}.", hint=hint) from error
    if row.kind != KIND:
        raise SessionNotFound(f"There is no simulation {simulation_id!r}.", hint=hint)
    return row


def _stored(row: Session) -> StoredSession:
    session = SimulationSession.from_dict(row.body)
    return StoredSession(session, description_from_dict(row.body.get("description") or {}), row.actor, row.version)


def description_from_dict(values: Mapping[str, Any]) -> ModelDescription:
    """From what ``ModelDescription.to_dict`` wrote.

    Raises:
        InvalidSimulation: a field is missing or of the wrong kind.
    """
    try:
        return ModelDescription(
            name=str(values["name"]),
            title=str(values["title"]),
            hash=str(values["hash"]),
            time_unit=str(values["time_unit"]),
            parameters=tuple(_parameter(item) for item in values["parameters"]),
            outputs=tuple(Output(item["path"], item["name"], item["unit"], item["kind"]) for item in values["outputs"]),
            doses=tuple(Dose(item["parameter"], item["route"]) for item in values["doses"]),
            default_output=values["default_output"],
            variability=tuple(Covariate.from_dict(item) for item in values["variability"]),
            molar_mass=values["molar_mass"],
            warnings=tuple(values["warnings"]),
        )
    except (KeyError, TypeError) as error:
        raise errors.InvalidSimulation(f"This is no stored description of a model: {error!r}.") from error


def _parameter(values: Mapping[str, Any]) -> Parameter:
    return Parameter(
        path=values["path"],
        name=values["name"],
        value=values["value"],
        unit=values["unit"],
        constant=values["constant"],
        rule=values["rule"],
        minimum=values["minimum"],
        maximum=values["maximum"],
    )
